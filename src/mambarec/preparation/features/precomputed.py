"""Vectors that were made elsewhere: `python prepare.py features -d NAME --modality visual --vectors FILE --ids FILE`.

They are given by original id, and become the rows of the data set's items. feature_table.py says which files result.
"""

import argparse
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np

import mambarec.config.catalogue as catalogue
from mambarec.base.bounded import array_head
from mambarec.base.console import show
from mambarec.base.errors import ConfigError, DataError, RunError
from mambarec.base.files import file_digest, mapped, replacing_folder
from mambarec.base.text import read_text
from mambarec.base.words import amount, option
from mambarec.config.data_folder import VISUAL
from mambarec.config.keys import modality_of
from mambarec.config.yaml_files import read_yaml
from mambarec.data.dataset import is_of_torch
from mambarec.preparation.engine import Engine
from mambarec.preparation.features.feature_table import Block, FeatureFiles
from mambarec.preparation.features.items import original_ids
from mambarec.preparation.folder import describe, feature_file
from mambarec.preparation.options import add_dataset, existing_folder
from mambarec.preparation.readers.ids import leave_out_missing, match_items, trimmed
from mambarec.preparation.readers.tables import column, layout_of, load, rating
from mambarec.preparation.report import Report, Source

_BLOCK = 1024  # vectors in memory
_MEMORY = 2.8  # GB for the engine
_PANDAS_INDEX = re.compile(r"|__index_level_\d+__")  # the names of an index without one, in CSV and in Parquet
_NUMBERS = re.compile(r"[\s,;()\[\]]*[-+]?\d*\.?\d+([eE][-+]?\d+)?([\s,;()\[\]]+[-+]?\d*\.?\d+([eE][-+]?\d+)?)*[\s,;()\[\]]*")
_MISSING = {"image": "missing_images.csv"}  # of other kinds missing_<kind>.csv


class Vectors(NamedTuple):
    """Vectors (N, D) and what they were read from. ids (N,): the original id of each."""

    ids: Sequence[str]
    table: np.ndarray
    source: Source


def write_vectors(
    folder: Path,
    kind: str,
    vectors: Path,
    ids: Path | None = None,
    id_column: str | None = None,
    vector_columns: Sequence[str] = (),
    allow_unmatched: bool = False,
) -> None:
    """Write the features of one kind ('image', 'text', 'audio' or any other word) of the data set in `folder`.

    vectors: an .npy array (N, D), whose ids are the lines of the file `ids`; or a table, CSV or Parquet, with a column of ids
    and others that are the vector. DataError for files that cannot be used, for an id with two different vectors, for NaN or
    Inf, and where fewer than half of the items have a vector and `allow_unmatched` is false.
    """
    names, where = original_ids(folder)
    report = Report([], {})
    try:
        with replacing_folder(folder / f"{kind}_vectors") as spill:
            with Engine(spill / "engine", _MEMORY, 2) as engine:
                if _is_array(vectors):
                    given = _array(vectors, ids, report)
                else:
                    given = _table(engine, spill, vectors, id_column, vector_columns, report)
                rows = _matched(engine, given, names, where, allow_unmatched)
            has_one = rows >= 0

            def blocks(start: int) -> Iterator[Block]:
                for first in range(start, len(rows), _BLOCK):
                    some = rows[first : first + _BLOCK]
                    yield Block(np.asarray(given.table[some[some >= 0]], dtype=np.float32), some >= 0)

            made_by = {"vectors": file_digest(vectors), "ids": file_digest(ids) if ids else f"{id_column} {vector_columns}"}
            files = FeatureFiles(folder, kind, _MISSING.get(kind, f"missing_{kind}.csv"))
            files.write(names, given.table.shape[1], made_by, blocks, lambda item: "no vector")
            shutil.rmtree(spill)
    except filelock.Timeout:
        raise RunError(f"another process is writing features of {folder}; wait for it") from None
    show(f"items with a vector: {int(has_one.sum()):,} of {len(names):,}")


def _is_array(path: Path) -> bool:
    if not path.is_file():
        raise DataError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; expected a file of vectors")
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        raise DataError(
            f"{path} is a zip archive, as numpy.savez and torch.save write. Save one array by numpy.save, or a table as CSV"
        )
    return start == b"\x93NUMPY"


def _array(path: Path, ids: Path | None, report: Report) -> Vectors:
    """An .npy file and its ids."""
    if ids is None:
        raise ConfigError(
            f"{path} has no ids: name a file that has the original id of each row, one a line, by {option('ids', 'FILE')}"
        )
    try:
        with path.open("rb") as file:
            shape, _, dtype = array_head(file)
        if len(shape) != 2 or not all(shape) or dtype.kind not in "fiu":
            raise DataError(f"{path}: expected a two-dimensional array of numbers, found {dtype} {shape}")
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}. Save a float array with numpy.save") from None
    source = report.source(ids, "ids")
    words = _ids(ids)
    if len(words) != len(table):
        header = ". Its first line must be an id, no header" * (len(words) == len(table) + 1)
        sizes = f"{ids} has {amount(len(words), 'id')}, and {path} has {amount(len(table), 'row')}"
        raise DataError(f"{sizes}; expected an id for each row{header}")
    return Vectors(words, table, source)


def _ids(path: Path) -> list[str]:
    """The ids in an .npy file, or in the lines of a text."""
    if not _is_array(path):
        return [line.strip() for line in read_text(path).rstrip().splitlines()]
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}. Save the ids as text, one a line") from None
    if found.ndim != 1 or found.dtype.kind not in "Uiu":
        raise DataError(f"{path} holds {found.dtype} {found.shape}; expected ids: text or whole numbers, in one dimension")
    return [str(one) for one in found.tolist()]


def _table(
    engine: Engine, spill: Path, path: Path, id_column: str | None, vector_columns: Sequence[str], report: Report
) -> Vectors:
    """A table with a column of ids, the first if none is named, and one of numbers for each dimension, or one of lists."""
    source = report.source(path, "vectors")
    layout = layout_of(engine, source, wanted=[name for name in (id_column, *vector_columns) if name])
    id_column, names = _id_column(source, layout.names, id_column, vector_columns)
    wanted = list(vector_columns) or [name for name in names if name != id_column]
    _check_header(path, wanted)
    ids = trimmed(column(layout, id_column, source, option("id-column")))
    texts = [column(layout, name, source, option("vector-columns")) for name in wanted]
    if not texts:
        raise DataError(
            f"{path} has one column, '{id_column}'; expected a column of ids and others with the numbers of the vector, "
            "separated by a comma, a tab, a semicolon, | or ::"
        )
    vector = f"[{', '.join(rating(text, layout.separator == ';') for text in texts)}]"
    if len(texts) == 1:
        vector = f"[TRY_CAST(part AS DOUBLE) FOR part IN regexp_extract_all({texts[0]}, '[^\\s,;()\\[\\]]+')]"
    load(engine, source, "given", layout, {"name": ids, "vector": vector})
    source.check(None)
    _check_numbers(engine, source, id_column)
    table = mapped(spill / "vectors.npy", np.float32, (source.rows, engine.value("SELECT len(vector) FROM given LIMIT 1")))
    found: list[str] = []
    for start in range(0, source.rows, _BLOCK):
        rows = engine.run(f"SELECT name, vector FROM given WHERE rowid BETWEEN {start} AND {start + _BLOCK - 1} ORDER BY rowid")
        found += [name or "" for name, _ in rows]
        with np.errstate(over="ignore"):
            table[start : start + len(rows)] = [vector for _, vector in rows]
    return Vectors(found, table, source)


def _id_column(source: Source, names: Sequence[str], asked: str | None, vector_columns: Sequence[str]) -> tuple[str, list[str]]:
    """The column of ids, and the names of all columns that count.

    An index of pandas without a name counts where it is asked for. It also is the ids if the other columns are numbered, as
    those of an array are. ConfigError where it may be the ids or not.
    """
    indexes = [name for name in names if _PANDAS_INDEX.fullmatch(name) and name not in (asked, *vector_columns)]
    others = [name for name in names if name not in indexes]
    if asked is None and indexes and others == [f"{number}" for number in range(len(others))]:
        return indexes[0], [indexes[0], *others]
    for name in indexes:
        words = f"the column '{name}'" if name else "the column without a name"
        if asked is None:
            raise ConfigError(f"{source.path}: {words} may be the ids, or row numbers of pandas; give {option('id-column')}")
        source.note(f"{words}, an index of pandas, is not read")
    return (names[0] if asked is None else asked), others


def _check_numbers(engine: Engine, source: Source, id_column: str) -> None:
    """DataError where a vector in the table `given` lacks a number, or has another width than most.

    id_column: where the ids were read from.
    """
    broken = "coalesce(list_sum([CASE WHEN isfinite(one) THEN 0 ELSE 1 END FOR one IN vector]), 1) > 0"
    n_broken, place, name = engine.run(f"SELECT count(*), min(rowid), arg_min(name, rowid) FROM given WHERE {broken}")[0]
    if n_broken:
        raise DataError(
            f"{source.path}: {amount(n_broken, 'row')} with a place that is empty, NaN, Inf or no number, the first is "
            f"{_line(source, place)}, of '{name}'. Leave the rows of items without a vector out: their mask says so. The "
            f"ids are read from the column '{id_column}', and all others are the vector, unless {option('id-column')} and "
            f"{option('vector-columns')} name them"
        )
    widths = engine.run("SELECT len(vector), count(*), min(rowid) FROM given GROUP BY 1 ORDER BY 2 DESC, 3")
    if len(widths) > 1:
        (most, *_), (width, _, place) = widths[:2]
        raise DataError(
            f"{source.path}, {_line(source, place)}: the vector has {amount(width, 'number')}; expected {most}, as in others"
        )


def _line(source: Source, place: int) -> str:
    line = source.locate([place])[0][0]
    return f"line {line}" if line else f"row {place + 1}"


def _check_header(path: Path, names: Sequence[str]) -> None:
    """DataError where the names of the vector's columns are the numbers of a vector: the first line is no header."""
    numbers = [name for name in names if _NUMBERS.fullmatch(name)]
    counts_up = all(name.isdecimal() for name in names) and len(set(names)) == len(names)
    if numbers and numbers == list(names) and not counts_up:
        raise DataError(f"{path}: the first line looks like data. Write a line with the names of the columns above it")


def _matched(engine: Engine, given: Vectors, names: Sequence[str], where: Path, allow_unmatched: bool) -> np.ndarray:
    """The row of the vectors for each item, -1 where there is none (I,); says what does not match."""
    path = given.source.path
    engine.run("CREATE TABLE items (name VARCHAR, number BIGINT); CREATE TABLE written (name VARCHAR, place BIGINT)")
    engine.insert("items", {"name": names, "number": range(len(names))})
    engine.insert("written", {"name": given.ids, "place": range(len(given.ids))})
    engine.run(f"CREATE TABLE about AS SELECT {trimmed('name')} AS name, place FROM written ORDER BY place")
    leave_out_missing(engine, given.source, "about", "name", "item")
    match_items(engine, given.source, where, allow_unmatched)
    for note in given.source.notes:
        show(note)
    for reason, tally in given.source.left_out.items():
        show(f"{amount(tally.count, 'row')} left out: {reason}")
    unknown = engine.run("SELECT name FROM about ANTI JOIN items USING (name) GROUP BY name ORDER BY min(place)")
    examples = ", ".join(name for (name,) in unknown[:3]) + ", …" * (len(unknown) > 3)
    show(f"ids in {path.name} that belong to no item: {len(unknown):,}" + f" ({examples})" * bool(unknown))
    rows = np.full(len(names), -1, dtype=np.int64)
    for number, place in engine.run("SELECT number, place FROM items JOIN about USING (name) ORDER BY place DESC"):
        if rows[number] >= 0 and not np.array_equal(given.table[rows[number]], given.table[place]):
            first, second = place + 1, rows[number] + 1
            raise DataError(
                f"{path} has the id '{names[number]}' twice, in rows {first:,} and {second:,}, with different vectors; keep "
                "one of them"
            )
        rows[number] = place
    _check_finite(given, names, rows)
    return rows


def _check_finite(given: Vectors, names: Sequence[str], rows: np.ndarray) -> None:
    """DataError where the vector of an item is not finite in float32."""
    items, bad = np.flatnonzero(rows >= 0), []
    for start in range(0, len(items), _BLOCK):
        some = items[start : start + _BLOCK]
        with np.errstate(over="ignore"):
            table = np.asarray(given.table[rows[some]], dtype=np.float32)
        bad += some[~np.isfinite(table).all(axis=1)].tolist()
    if bad:
        raise DataError(
            f"{amount(len(bad), 'vector')} of items with NaN, Inf or a number too large for float32, "
            f"the first is that of '{names[bad[0]]}', number "
            f"{rows[bad[0]] + 1:,} in {given.source.path}. Remove {'them' if len(bad) > 1 else 'it'} and the "
            f"id{'s' * (len(bad) > 1)}: an item without a vector gets the mean, and the mask says so"
        )


def add_parser(commands) -> None:
    """The command `features` of prepare.py."""
    text = "write your own vectors, given by original id, as the features of the items"
    parser = commands.add_parser("features", help=text, description=text.capitalize(), allow_abbrev=False)
    add_dataset(parser)
    modality = "what the vectors describe: visual, text, audio or another word"
    parser.add_argument("--modality", type=_kind, required=True, metavar="NAME", help=modality)
    vectors = "the vectors: an .npy array with a row for each id of --ids; or a table, CSV or Parquet, with a column of ids"
    parser.add_argument("--vectors", type=Path, required=True, metavar="FILE", help=vectors)
    ids = "the original ids of the rows of an .npy array, in their order: text with an id in each line, or an .npy array"
    parser.add_argument("--ids", type=Path, metavar="FILE", help=ids)
    parser.add_argument("--id-column", metavar="NAME", help="the column of original ids in a table (the first)")
    columns = "the columns of a table that are the vector, or the one that holds lists of numbers (all others)"
    parser.add_argument("--vector-columns", type=_names, default=[], metavar="NAME,…", help=columns)
    parser.add_argument("--overwrite", action="store_true", help="replace the features that are there")
    unmatched = "go on if fewer than half of the items have a vector"
    parser.add_argument("--allow-unmatched", action="store_true", help=unmatched)
    parser.set_defaults(does=_run)


def _kind(text: str) -> str:
    word = text.lower()
    if not re.fullmatch(r"[a-z]\w{,40}", word, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text}; expected visual, text, audio or another word of letters, digits and _")
    if is_of_torch(word):
        raise argparse.ArgumentTypeError(f"{text}; PyTorch uses this name itself, so no model can have it. Use another word")
    return "image" if word in VISUAL else word


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _run(options: argparse.Namespace) -> None:
    folder = existing_folder(options)
    if options.ids and not _is_array(options.vectors):
        raise ConfigError(f"{option('ids', options.ids)} is for an .npy array: a table has its ids in {option('id-column')}")
    if (options.id_column or options.vector_columns) and _is_array(options.vectors):
        raise ConfigError(f"{option('id-column')} and {option('vector-columns')} are for tables: leave them out")
    _check_place(options.dataset, folder, options.modality, options.overwrite)
    write_vectors(
        folder,
        options.modality,
        options.vectors,
        options.ids,
        options.id_column,
        options.vector_columns,
        options.allow_unmatched,
    )
    describe(options.dataset, options.modality)


def _check_place(name: str, folder: Path, kind: str, overwrite: bool) -> None:
    """ConfigError where the YAML names another file for these features, DataError where the file is there."""
    key, file = feature_file(kind)
    found = catalogue.config_file(f"dataset/{name}.yaml")
    for other, value in (read_yaml(found) if found else {}).items():
        if modality_of(other) == modality_of(key) and value not in (None, file):
            raise ConfigError(f"{found} has the line '{other}: {value}', and this command writes {file}; remove the line first")
        if value == file and modality_of(other) not in (None, modality_of(key)):
            raise ConfigError(f"{found} names {file} as {other}, another modality; give {option('modality')} another word")
    if (folder / file).exists() and not overwrite:
        raise DataError(f"{folder / file} exists already; {option('overwrite', True)} replaces it and its mask")
