"""Options that several commands of prepare.py share."""

import argparse
import re
from pathlib import Path
from typing import Any

from mambarec.base.errors import ConfigError, DataError
from mambarec.base.files import real
from mambarec.base.places import DATA
from mambarec.base.words import is_python, option
from mambarec.config.catalogue import available_datasets
from mambarec.preparation.demo import ensure_demo

IMAGE_MODELS = (
    "statistics (colours and textures, no weights), vgg16, timm:NAME or transformers:NAME, where NAME may be a folder"
)


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """-d NAME and --data_path, which together name the data set's folder."""
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="the data set, a folder in data/")
    parser.add_argument(
        "--data_path", type=Path, default=DATA, metavar="FOLDER", help="the folder that holds the data set's folder (data)"
    )


def model_option(kind: str, *values: Any) -> str:
    """The option that names a 'text' or an 'image' model: of the command for this kind, or in Python of mr.prepare_table."""
    return option(f"{kind}-model" if is_python() else "model", *values)


def dataset_folder(options: argparse.Namespace) -> Path:
    """data/<name>, an absolute path; ConfigError where the name would lead elsewhere."""
    check_folder_name(options.dataset, "-d")
    return real(options.data_path / options.dataset)


def existing_folder(options: argparse.Namespace) -> Path:
    """`dataset_folder`; DataError where there is none. The demo is generated first where it is not there."""
    folder = dataset_folder(options)
    ensure_demo(folder)
    if not folder.is_dir():
        above = folder.parent
        there = sorted(path.name for path in above.glob("[!.]*") if path.is_dir()) if above.is_dir() else []
        known = f"Name one of those that are there ({', '.join(there)}), or" if there else "Name"
        raise DataError(
            f"{option('-d', options.dataset)}: there is no folder {folder}. {known} another folder above it by "
            f"{option('data_path')}"
        )
    return folder


def check_folder_name(name: str, given: str) -> None:
    """ConfigError where the name of a data set, which the option `given` gives, would lead elsewhere."""
    if not re.fullmatch(r"\w[\w.-]{,99}", name):
        raise ConfigError(
            f"{option(given, name)}: expected up to 100 letters, digits, _, - and dots, since files take this name"
        )


def check_case(name: str, above: Path, given: str = "-d") -> None:
    """ConfigError for a new data set whose name differs from a known one only in case: commands find names in any case.

    Known are those that have a YAML, and those that have a folder in `above`. given: the option that gives the name.
    """
    known = {*available_datasets(), *(path.name for path in above.glob("[!.]*") if path.is_dir())}
    if name in known:
        return
    for other in sorted(known):
        if other.casefold() == name.casefold():
            raise ConfigError(
                f"{option(given, name)}: there is a data set '{other}' already, whose name differs only in capitals. Give the "
                f"new one another name, or give {option(given, other)} to mean that one"
            )
