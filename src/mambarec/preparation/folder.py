"""The folder of a data set as preparation writes it: beside its place and renamed when complete; and its YAML."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import yaml

import mambarec.config.catalogue as catalogue
from mambarec.base.cells import FORMULA_SIGNS
from mambarec.base.errors import ConfigError, DataError, RunError
from mambarec.base.files import real, replacing_folder, write_text
from mambarec.base.logger import get_logger
from mambarec.base.text import read_text
from mambarec.base.words import command, option
from mambarec.config.data_folder import FEATURES
from mambarec.config.keys import modality_of
from mambarec.config.yaml_files import parse_value, read_yaml
from mambarec.preparation.engine import Engine, quoted
from mambarec.preparation.report import Report


def check_outside(folder: Path, *sources: Path) -> None:
    """DataError for a source that lies in the folder of the data set, since the new folder takes its place."""
    for source in sources:
        if real(source).is_relative_to(folder):
            raise DataError(f"{source} lies in {folder}, where the data set is written; move it elsewhere")


@contextmanager
def new_folder(folder: Path, overwrite: bool, other: str = "-d") -> Iterator[Path]:
    """A hidden folder to write to, which takes the place of `folder` when the block ends well, and is removed when not.

    other: the option that names the folder. DataError when `folder` exists and may not be
    overwritten, RunError when another process is at it.
    """
    try:
        with replacing_folder(folder) as temporary:
            if folder.exists() and not overwrite:
                raise DataError(
                    f"{folder} exists already; {option('overwrite', True)} replaces it and all that is in it, "
                    f"or give {option(other)} another name"
                )
            yield temporary
    except filelock.Timeout:
        raise RunError(f"another process is preparing {folder}; wait for it") from None


def write_interactions(engine: Engine, folder: Path, name: str, item_column: str) -> None:
    """<name>.inter, a user's interactions together and in the order of the file, and the maps of ids, as MMRec writes them.

    item_column: the name of the original ids in i_id_mapping.csv.
    """
    _copy(
        engine,
        "SELECT userID, itemID, rating, time AS timestamp, x_label FROM labelled ORDER BY userID, row",
        folder / f"{name}.inter",
        "\t",
    )
    for table, file, columns in (
        ("users", "u_id_mapping.csv", ("user_id", "userID")),
        ("items", "i_id_mapping.csv", (item_column, "itemID")),
    ):
        _copy(engine, f"SELECT name AS {columns[0]}, number AS {columns[1]} FROM {table} ORDER BY number", folder / file, "\t")


def write_items(engine: Engine, folder: Path, columns: Sequence[str] = ("text",)) -> dict[str, int]:
    """items.csv with the columns of the table `about` (name, then these), empty where it has none; returns how many are not.

    The first row of an item that is not empty in a column counts. A text that a spreadsheet could run as a formula has an
    apostrophe before it, which `read_items` takes away. Ids and paths stay exact, since other files are joined by them.
    """
    found = ", ".join(f"coalesce({column}, '') AS {column}" for column in columns)
    written = ", ".join(f"{_guarded(column) if column == 'text' else column} AS {column}" for column in columns)
    first = ", ".join(f"arg_min({column}, rowid) FILTER ({column} <> '') AS {column}" for column in columns)
    engine.run(
        f"CREATE TABLE listed AS SELECT number AS item_id, items.name AS original_id, {found} FROM items LEFT JOIN "
        f"(SELECT name, {first} FROM about GROUP BY name) "
        "AS first USING (name)"
    )
    _copy(engine, f"SELECT item_id, original_id, {written} FROM listed ORDER BY item_id", folder / "items.csv", ",")
    return {column: engine.value(f"SELECT count(*) FROM listed WHERE {column} <> ''") for column in columns}


def _guarded(column: str) -> str:
    """SQL for a text as base.words.guarded writes it, or with an apostrophe more: both are undone by `unguarded`."""
    signs, apostrophe = quoted(FORMULA_SIGNS + "'"), quoted("'")
    return f"CASE WHEN {column} <> '' AND contains({signs}, left({column}, 1)) THEN {apostrophe} || {column} ELSE {column} END"


def _copy(engine: Engine, query: str, path: Path, delimiter: str) -> None:
    engine.run(f"COPY ({query}) TO {quoted(path)} (FORMAT csv, HEADER, DELIMITER {quoted(delimiter)})", progress=path.name)


def write_report(folder: Path, report: Report) -> None:
    write_text(folder / "report.json", json.dumps(report.plain(), indent=1, ensure_ascii=False) + "\n")


def feature_file(kind: str) -> tuple[str, str]:
    """The key and the file of features of a kind: one of FEATURES, or any other word."""
    return FEATURES.get(kind, (f"{kind}_feature_file", f"{kind}_feat.npy"))


# What a YAML says of the columns of a file; a file that is written here has those of overall.yaml.
COLUMNS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "inter_splitting_label", "field_separator", "inter_file_name")


def describe(name: str, *modalities: str, anew: bool = False) -> None:
    """Write the YAML of a data set, or add to the one that is there what it does not declare.

    modalities: kinds of `feature_file`, those of which the data set has features or can have some. A file that is declared
    under any key stays declared. anew: the folder has taken the place of another one. Lines that name a file or a column of the
    old one are removed, and all others stay. ConfigError when the YAML cannot be written.
    """
    path = catalogue.dataset_folders()[0] / f"{name}.yaml"
    found = catalogue.config_file(f"dataset/{name}.yaml")
    there = read_yaml(found) if found else {}
    text = read_text(found).rstrip("\n") if found else f"# Written by {command('prepare')}."
    wanted = {"inter_file_name": f"{name}.inter"} | dict(map(feature_file, modalities))
    stale = [key for key in there if anew and _is_stale(key, there[key], wanted)]
    kept = {key: value for key, value in there.items() if key not in stale}
    declared = {str(value) for value in kept.values()}
    added = {key: value for key, value in wanted.items() if key not in kept and value not in declared}
    for key, value in wanted.items():
        if key in kept and value not in declared:
            get_logger().warning("%s keeps %s: %s. So a training does not read %s", found, key, kept[key], value)
    if not added and not stale:
        return
    lines = [f"{key}: {value}" for key, value in added.items()]
    try:
        write_text(path, _edited(text, stale, kept, added))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); it needs the lines {lines}") from None
    removed = f"without {', '.join(stale)}" if stale else ""
    get_logger().info("%s: %s", path, ", ".join(filter(None, [*lines, removed])))


def _is_stale(key: str, value: Any, wanted: Mapping[str, str]) -> bool:
    """Whether a line of a YAML names a file or a column that the new folder does not have."""
    return value != wanted.get(key) if key in COLUMNS else modality_of(key) is not None and value not in wanted.values()


def _edited(text: str, stale: Sequence[str], kept: Mapping[str, Any], added: Mapping[str, str]) -> str:
    """The text of a YAML without its stale keys and with the added ones. All other lines stay as they are.

    Lines cannot be edited in {a: 1, b: 2}, or where an alias stands for a stale value. There the keys are written anew, and
    only the comment at the top stays.
    """
    meant = {**kept, **added}
    shorter = _without(text, stale) if stale else text
    edited = "".join(f"{part}\n" for part in (shorter.rstrip("\n"), *map(_line, added, added.values())) if part)
    if (parse_value(edited) or {}) == meant:
        return edited
    comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return "".join(f"{line}\n" for line in (*comment, *map(_line, meant, meant.values())))


def _without(text: str, keys: Sequence[str]) -> str:
    """A YAML in block style without the lines of some keys: each from the key to the comment behind its value."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # it has keys
    for key, value in reversed(root.value):
        if key.value in keys:
            start, end = key.start_mark.index - key.start_mark.column, _end(value)
            below = text[end.index :]
            if end.column:  # in column 0, a text below | has ended, and the next line begins
                below = below.partition("\n")[2]
            text = text[:start] + below
    return text


def _end(node: yaml.Node) -> yaml.Mark:
    """Where the last word of a node ends. The end mark of a list in block style lies behind the comments below it."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node.end_mark


def _line(key: str, value: Any) -> str:
    """A key with its value, as `read_yaml` reads it."""
    line = yaml.safe_dump({key: value}, default_flow_style=False, allow_unicode=True, width=math.inf).rstrip("\n")
    return line if parse_value(line) == {key: value} else f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
