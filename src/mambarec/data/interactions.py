"""The interactions of a data set: read from its file, and checked for what would not index a table or name a split."""

import codecs
import csv
import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mambarec.base.errors import DataError
from mambarec.base.text import encoding_of

SPLITS = ("train", "valid", "test")  # their labels are 0, 1, 2
_IN_WORDS = ("training", "validation", "test")
_BLOCK = 1 << 20  # bytes of a file that are in memory at a time


def read_interactions(path: Path, columns: Sequence[str], separator: str) -> np.ndarray:
    """The user, item and split columns as int64 (3, E), in the order of the file; DataError with a line for each defect.

    NumPy reads a file of whole numbers without a defect. Any other is given to pandas, whose import is a large part of a
    start: it reads more (3.0, quotes, a byte order mark), and finds the lines that are wrong.
    """
    table = _whole_numbers(path, columns, separator)
    if table is not None and not any(_defects(path, columns, table)):
        return table
    return _examined(path, columns, separator)


def sentences_on_shared_pairs(path: Path, users: np.ndarray, items: np.ndarray, labels: np.ndarray) -> list[str]:
    """A sentence for each two splits that share pairs of user and item. path: the file or folder of these interactions (E,)."""
    base, sentences = int(items.max()) + 1, []
    keys = [np.unique((users * base + items)[labels == label]) for label in range(len(SPLITS))]
    for one, other in itertools.combinations(range(len(SPLITS)), 2):
        shared = np.intersect1d(keys[one], keys[other], assume_unique=True)
        if len(shared):
            user, item = divmod(int(shared[0]), base)
            sentences.append(
                f"{path}: {len(shared):,} of the {len(keys[one]):,} pairs of {_IN_WORDS[one]} are in {_IN_WORDS[other]} too "
                f"({len(keys[other]):,} pairs), such as user {user} with item {item}; each pair of user and item belongs to "
                "one split. Remove it from the others"
            )
    return sentences


def _whole_numbers(path: Path, columns: Sequence[str], separator: str) -> np.ndarray | None:
    """The columns, where NumPy can read them and every row has as many fields as the header."""
    with path.open("rb") as file:
        header = file.readline(_BLOCK + 1)
        if len(header) > _BLOCK:
            raise DataError(
                f"{path}: its first line is longer than {_BLOCK:,} bytes; expected a header such as userID, itemID, …"
            )
        n_separators = sum(block.count(separator.encode()) for block in iter(lambda: file.read(_BLOCK), b""))
    try:
        names = header.decode().rstrip("\r\n").split(separator)
        places = [names.index(column) for column in columns if names.count(column) == 1]
        if len(places) < len(columns):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without rows
            warnings.simplefilter("error", DeprecationWarning)  # by which NumPy below 2.4 tells that it cuts off a fraction
            table = np.loadtxt(
                path, np.int64, None, separator, skiprows=1, usecols=places, unpack=True, ndmin=2, encoding="utf-8"
            )
    except (ValueError, OverflowError, DeprecationWarning):
        return None
    complete = n_separators == table.shape[1] * (len(names) - 1)
    return table if table.size and complete else None


def _defects(path: Path, columns: Sequence[str], table: Any, places: np.ndarray | None = None) -> list[str]:
    """A line for each column with values out of range; NaN, of which there is a line already, does not count.

    places: the line of each row in the file.
    """
    *ids, labels = table
    lines = []
    for column, values in zip(columns, ids, strict=False):
        distinct = len(np.unique(values[~np.isnan(values)]))
        limit = max(100_000, 20 * distinct)  # ids index tables, so they must start at 0 and leave few gaps
        bad = (values < 0) | (values >= limit)
        if bad.any():
            lines.append(
                f"{path}, {_first(bad, values, column, places)}; expected 0 to {limit - 1}: there are {distinct} distinct ids, "
                "and the largest sets the size of the tables. Map ids to 0, 1, 2, … first"
            )
    bad = ~np.isin(labels, range(len(SPLITS))) & ~np.isnan(labels)
    if bad.any():
        lines.append(
            f"{path}, {_first(bad, labels, columns[-1], places)}; expected 0 (train), 1 (validation) or 2 (test); {bad.sum()} "
            "rows have another value"
        )
    return lines


def _first(bad: np.ndarray, values: np.ndarray, column: str, places: np.ndarray | None) -> str:
    row = int(bad.argmax())
    return f"line {row + 2 if places is None else places[row]}: {column} is {values[row]:.0f}"


def _encoding(path: Path) -> str:
    """How the file is to be read; latin-1 for what is no UTF-8, since ids and labels are digits in both."""
    with path.open("rb") as file:
        found = encoding_of(file.read(4096))
    if found != "utf-8":
        return found
    with path.open("rb") as file:
        if any(b"\0" in block for block in iter(lambda: file.read(_BLOCK), b"")):
            raise DataError(f"{path} cannot be read: it is no text. Save it as text in UTF-8")
        file.seek(0)
        try:
            for _ in codecs.iterdecode(iter(lambda: file.read(_BLOCK), b""), "utf-8"):
                pass
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def _examined(path: Path, columns: Sequence[str], separator: str) -> np.ndarray:
    """What read_interactions returns, by pandas."""
    import pandas as pd

    try:
        encoding = _encoding(path)
        form = {"sep": separator, "index_col": False, "quoting": csv.QUOTE_NONE, "encoding": encoding}
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **form)
        header = first.iloc[0].str.strip('"').tolist()
        missing = [column for column in columns if column not in header]
        if missing:
            raise DataError(
                f"{path}: no column {', '.join(map(repr, missing))} in its header {header}; expected {list(columns)} "
                f"separated by {separator!r} (keys USER_ID_FIELD, ITEM_ID_FIELD, inter_splitting_label, field_separator)"
            )
        twice = [column for column in columns if header.count(column) > 1]
        if twice:
            raise DataError(f"{path}: its header {header} has the column {twice[0]!r} twice; rename one of them")
        read = [header.index(column) for column in columns]
        places = _checked_lines(path, header, read, separator, encoding)
        frame = pd.read_csv(path, usecols=read, dtype=str, keep_default_na=False, **form)
        frame = frame.apply(lambda values: values.str.strip().str.replace(r'^"(.*)"$', r"\1", regex=True)).rename(
            columns=lambda name: name.strip('"')
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table separated by {separator!r}: {error}") from None
    if frame.empty:
        raise DataError(f"{path} has a header but no rows")
    table, problems = [], []
    for column in columns:
        numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = ~np.isfinite(numbers) | (numbers != np.trunc(numbers))
        if bad.any():
            row = int(bad.argmax())
            value = frame[column].iloc[row]
            problems.append(
                f"{path}, line {places[row]}: {column} is {repr(value) if value else 'empty'}; expected a whole "
                "number. Map ids to 0, 1, 2, … first"
            )
        table.append(np.where(bad, np.nan, numbers))
    problems += _defects(path, columns, table, places)
    if problems:
        raise DataError("\n".join(problems))
    return np.stack(table).astype(np.int64)


def _checked_lines(path: Path, header: list[str], read: Sequence[int], separator: str, encoding: str) -> np.ndarray:
    """The line of each row, from 1; DataError for a row without a column that is read, or with more fields than the header.

    read: the places of these columns. pandas would fill up a shorter row. Of a longer one it would take the first fields.
    """
    places, needed, blank = [], 1 + max(read), " \t\r\n".replace(separator, "")
    with path.open(encoding=encoding) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip(blank):  # pandas passes over it
                continue
            places.append(number)
            fields = line.split(separator)
            if len(fields) < needed:
                expected = f"the {needed}" if needed == len(header) else f"at least the first {needed}"
                cure = "Add what is missing"
            elif any(field.strip() for field in fields[len(header) :]):
                expected, cure = f"the {len(header)}", "Give each column a name, or remove what is too much"
            else:
                continue
            raise DataError(f"{path}, line {number}: {len(fields)} fields; expected {expected} of the header {header}. {cure}")
    return np.array(places[1:])
