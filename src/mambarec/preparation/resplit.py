"""`python prepare.py resplit`: a data set of the same interactions and features as another one, split in another way."""

import argparse
import filecmp
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import mambarec.config.catalogue as catalogue
from mambarec.base.errors import ConfigError, DataError
from mambarec.base.files import write_text
from mambarec.base.logger import get_logger
from mambarec.base.places import DATA
from mambarec.base.words import command, option
from mambarec.config.keys import modality_of
from mambarec.config.yaml_files import read_yaml
from mambarec.data import encoders
from mambarec.data.dataset import is_graph
from mambarec.data.interactions import read_interactions
from mambarec.data.missing import mask_file
from mambarec.preparation.engine import Engine, quoted
from mambarec.preparation.folder import COLUMNS, new_folder
from mambarec.preparation.options import add_dataset, check_case, check_folder_name, existing_folder
from mambarec.preparation.public import check_name
from mambarec.preparation.splits import SPLITS, split_interactions

OF_INTERACTIONS = ("random", "cold-item", "cold-and-warm")  # these ask for no time


def add_parser(commands) -> None:
    """The command `resplit` of prepare.py."""
    text = "split the interactions of a data set anew, as another data set"
    parser = commands.add_parser("resplit", help=text, description=text.capitalize(), allow_abbrev=False)
    add_dataset(parser)
    parser.add_argument("--split", choices=OF_INTERACTIONS, required=True, help="the rule; see the guide on your own data")
    parser.add_argument("--seed", type=int, default=999, metavar="N", help="the seed of what the split shuffles (999)")
    parser.add_argument("--name", metavar="NAME", help="the name of the new data set (<data set>-<split>)")
    parser.add_argument("--output", type=Path, default=DATA, metavar="FOLDER", help="the folder that holds its folder (data)")
    parser.add_argument("--overwrite", action="store_true", help="replace the data set of this name, if there is one")
    parser.set_defaults(does=run)


def run(options: argparse.Namespace) -> None:
    name = options.name or f"{options.dataset}-{options.split}"
    check_folder_name(name, "name")
    if name.casefold() == options.dataset.casefold():
        raise ConfigError(
            f"{option('name', name)} is the data set that is split, and would be replaced. Give {option('name')} another name"
        )
    check_name(name, "resplit", given="name")
    check_case(name, options.output, "name")
    catalogue.find_dataset(options.dataset)
    resplit(existing_folder(options), name, options.split, options.seed, options.output, options.overwrite)


def resplit(folder: Path, name: str, split: str, seed: int, output: Path, overwrite: bool = False) -> Path:
    """Write the data set `name` into `output`, of the data set in `folder`, and its YAML; returns its folder.

    Users, items and their numbers stay, and so do all files but the interactions. ConfigError without a YAML of the data set,
    DataError without its interactions, or when `name` is there and may not be overwritten.
    """
    if split not in SPLITS:
        raise ConfigError(f"split={split}; expected one of {', '.join(SPLITS)}")
    described, path = _described(folder)
    target, yaml_file = output / name, catalogue.dataset_folders()[0] / f"{name}.yaml"
    about = f"{folder.name}, split anew"
    if yaml_file.exists() and not overwrite and about not in yaml_file.read_text(encoding="utf-8").partition("\n")[0]:
        raise DataError(f"{yaml_file} is there, and was not written for this. Remove it, or give {option('name')} another name")
    with (
        new_folder(target, overwrite, "name") as temporary,
        Engine(temporary / "spill", 2.8, os.cpu_count() or 1, "name another disk by --output") as engine,
    ):
        frame = _interactions(path, described)
        engine.run("CREATE TABLE kept (row BIGINT, userID BIGINT, itemID BIGINT, rating DOUBLE, time BIGINT)")
        engine.insert("kept", {column: frame[column] for column in ("row", "userID", "itemID", "rating", "time")})
        for table, column, code in (("users", "userID", "u"), ("items", "itemID", "i")):
            engine.run(f"CREATE TABLE {table} AS SELECT DISTINCT {column} AS number, {column} AS {code} FROM kept")
        counts = split_interactions(engine, split, seed)
        engine.run(
            "COPY (SELECT userID, itemID, rating, time AS timestamp, x_label FROM labelled ORDER BY row) "
            f"TO {quoted(temporary / f'{name}.inter')} (FORMAT csv, HEADER, DELIMITER '\t')"
        )
        report = {
            "of": folder.name,
            "split": split,
            "seed": seed,
            "pairs": counts,
            encoders.KEY: encoders.read_encoders(folder),
        }
        write_text(temporary / encoders.FILE, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        for file in _kept_files(folder, described):
            if file.name != encoders.FILE:
                place = temporary / file.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
        shutil.rmtree(temporary / "spill", ignore_errors=True)
        yaml_text = yaml.safe_dump(
            {"inter_file_name": f"{name}.inter"} | {k: v for k, v in described.items() if k not in COLUMNS}
        )
        write_text(yaml_file, f"# Written by {command('prepare')}: {about} ({split}, seed {seed}).\n{yaml_text}")
    get_logger().info("%s: %s", target, " / ".join(f"{counts[part]:,} {part}" for part in counts))
    return target


def is_split_of(target: Path, folder: Path) -> bool:
    """Whether a data set, in the folder `target`, has the pairs and the arrays of the one in `folder`."""
    try:
        described = [_described(place) for place in (target, folder)]
    except (ConfigError, DataError):
        return False
    own, given = (_interactions(path, columns)[["userID", "itemID"]] for columns, path in described)
    files = [file for file in _kept_files(folder, described[1][0]) if file.suffix == ".npy"]
    arrays = [(file, target / file.relative_to(folder)) for file in files]
    return own.equals(given) and all(copy.is_file() and filecmp.cmp(file, copy, shallow=False) for file, copy in arrays)


def _kept_files(folder: Path, described: Mapping[str, Any]) -> list[Path]:
    """The files that do not depend on the split: all but pairs and graphs, and features in folders below, with their masks."""
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    named = [folder / str(value) for key, value in described.items() if modality_of(key) and value]
    inside = [one for one in named if one.is_relative_to(folder) and ".." not in one.parts]
    below = [file for one in inside for file in (one, mask_file(one)) if file.is_file()]
    return [file for file in dict.fromkeys([*files, *below]) if file.suffix != ".inter" and not is_graph(file)]


def _described(folder: Path) -> tuple[dict, Path]:
    """What a data set's YAML says, and its interactions; ConfigError without the one, DataError without the other."""
    source = catalogue.config_file(f"dataset/{folder.name}.yaml")
    if source is None:
        raise ConfigError(f"there is no dataset/{folder.name}.yaml that says which files {folder} holds; write one")
    described = read_yaml(source)
    path = folder / str(described.get("inter_file_name"))
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected the interactions of {folder.name}")
    return described, path


def _interactions(path: Path, described: dict) -> pd.DataFrame:
    """Each pair once, in the order of the file: row, userID, itemID, rating and time, all 1 and 0."""
    overall = read_yaml(catalogue.shared_yaml("overall.yaml")) | described
    columns = [overall[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "inter_splitting_label")]
    users, items, _ = read_interactions(path, columns, overall["field_separator"])
    frame = pd.DataFrame({"userID": users, "itemID": items}).drop_duplicates(ignore_index=True)
    return frame.assign(row=frame.index, rating=1.0, time=0)
