"""Packages of the optional extras of setup.cfg, imported where they are wanted."""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mambarec.base.errors import ConfigError
from mambarec.base.places import CHECKOUT


def optional(module: str, package: str, extra: str, wanted: str) -> Any:
    """Import a module; ConfigError where it is absent: `<wanted> the package …`, and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{wanted} the package {package}: {pip_install(extra)}") from None


def pip_install(extra: str) -> str:
    """The command that installs an extra, from wherever it is given."""
    if CHECKOUT is None:
        return f"pip install 'mambarec[{extra}]'"
    return f"pip install -e '{CHECKOUT}[{extra}]' -c '{CHECKOUT / 'constraints.txt'}'"


def installed_version(package: str) -> str | None:
    """The version of a package; None where it is not installed under this name."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
