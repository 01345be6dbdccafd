"""A program that is started in the wrong environment says so in one sentence."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mambarec.base import environment

ROOT = Path(__file__).resolve().parents[2]
IMPORTED_AS = {"pyyaml": "yaml"}


def test_the_packages_are_those_of_setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    names = re.findall(r"^([\w-]+)", parser["options"]["install_requires"], flags=re.MULTILINE)
    assert [IMPORTED_AS.get(name, name) for name in names] == list(environment.PACKAGES)
    assert parser["options"]["python_requires"] == f">={'.'.join(map(str, environment.VERSION))}"


@pytest.mark.parametrize("program", ["main", "prepare", "recommend", "report", "export_plugin"])
def test_without_the_packages_a_program_ends_with_one_sentence(program, tmp_path):
    words = [sys.executable, "-E", "-S", str(ROOT / "src" / f"{program}.py"), "-m", "BPR"]  # without site-packages
    ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=False)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith(f"error: {sys.executable} has no package torch. In a checkout, activate the environment")
    assert ended.stderr.count("\n") == 1


def test_an_old_python_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit) as ended:
        environment.check_environment()
    assert ended.value.code == 2 and "Python 3.11 or newer is needed, and this is 3.9." in capsys.readouterr().err


def test_where_all_is_there_nothing_is_said(capsys):
    environment.check_environment()
    assert capsys.readouterr() == ("", "")
