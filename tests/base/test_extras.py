"""Packages that may be absent."""

import json
import re
from pathlib import Path

import pytest

from mambarec.base.errors import ConfigError
from mambarec.base.extras import installed_version, optional


def test_a_package_that_is_there_is_imported():
    assert optional("json", "json", "none", "this needs") is json


def test_one_that_is_not_says_what_needs_it_and_how_to_install_it():
    with pytest.raises(ConfigError, match=r"^charts need the package plot-it: pip install -e '.*\[charts\]' -c ") as caught:
        optional("no_such_module", "plot-it", "charts", "charts need")
    folder, constraints = re.search(r"'(.*)\[charts\]' -c '(.*)'$", str(caught.value)).groups()
    assert (Path(folder) / "setup.cfg").exists()
    assert Path(constraints).exists()


def test_the_version_of_a_package_that_is_not_there_is_none():
    assert installed_version("no-such-package") is None
    assert installed_version("torch").startswith("2.")
