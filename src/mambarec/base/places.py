"""Where things lie: models and configs with the code, data and results in the user's folder.

In a checkout everything is in the checkout. With an installed package, data/, results/ and the user's configs/dataset/ are in
the folder that the environment variable MAMBAREC_HOME names. Without it they are in the folder where the program starts.
"""

import os
from configparser import ConfigParser
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePath


def at_home(path: str | PurePath) -> Path:
    """The path with the user's folder in place of a leading '~', which a shell does not always put there."""
    try:
        return Path(path).expanduser() if str(path).startswith("~") else Path(path)
    except RuntimeError:  # of a user who is not known
        return Path(path)


PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1] if (PACKAGE.parent / "models" / "mambarec.py").exists() else None
CODE = PACKAGE.parent if CHECKOUT else PACKAGE
CONFIGS, MODELS = CODE / "configs", CODE / "models"
HOME = at_home(os.environ.get("MAMBAREC_HOME") or CHECKOUT or Path.cwd()).resolve()
DATA, RESULTS = HOME / "data", HOME / "results"
ANCHOR = HOME / "src"  # relative paths in YAMLs start here, which need not exist: ../data/ is the user's data/


def version() -> str | None:
    """The version of this program: in a checkout that of its setup.cfg, else that of the installed package.

    None where there is neither, as on a machine of a cluster that was sent the code alone.
    """
    settings = ConfigParser()
    if CHECKOUT and settings.read(CHECKOUT / "setup.cfg", encoding="utf-8"):
        return settings["metadata"]["version"]
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("mambarec")
    return None


def shown(path: Path) -> str:
    """A path as messages write it: within a checkout from its root."""
    return str(path.relative_to(CHECKOUT) if CHECKOUT and path.is_relative_to(CHECKOUT) else path)
