"""The interactions of a data set: read from its file, and checked for what would not index a table or name a split."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mambarec.base.errors import DataError
from mambarec.base.text import encoding_of

SPLITS = ("train", "valid", "test")  # their labels are 0, 1, 2
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
            table = np.loadtxt(
                path, np.int64, None, separator, skiprows=1, usecols=places, unpack=True, ndmin=2, encoding="utf-8"
            )
    except (ValueError, OverflowError):
        return None
    complete = n_separators == table.shape[1] * (len(names) - 1)
    return table if table.size and complete else None


def _defects(path: Path, columns: Sequence[str], table: Any) -> list[str]:
    """A line for each column with values out of range; NaN, of which there is a line already, does not count."""
    *ids, labels = table
    lines = []
    for column, values in zip(columns, ids, strict=False):
        distinct = len(np.unique(values[~np.isnan(values)]))
        limit = max(100_000, 20 * distinct)  # ids index tables, so they must start at 0 and leave few gaps
        bad = (values < 0) | (values >= limit)
        if bad.any():
            lines.append(
                f"{path}, {_first(bad, values, column)}; expected 0 to {limit - 1}: there are {distinct} distinct ids, and the "
                "largest sets the size of the tables. Map ids to 0, 1, 2, … first"
            )
    bad = ~np.isin(labels, range(len(SPLITS))) & ~np.isnan(labels)
    if bad.any():
        lines.append(
            f"{path}, {_first(bad, labels, columns[-1])}; expected 0 (train), 1 (validation) or 2 (test); {bad.sum()} rows "
            "have another value"
        )
    return lines


def _first(bad: np.ndarray, values: np.ndarray, column: str) -> str:
    row = int(bad.argmax())
    return f"line {row + 2}: {column} is {values[row]:.0f}"


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        found = encoding_of(file.read(4096))
    return "utf-8-sig" if found == "utf-8" else found


def _examined(path: Path, columns: Sequence[str], separator: str) -> np.ndarray:
    """What read_interactions returns, by pandas."""
    import pandas as pd

    try:
        form = {"sep": separator, "index_col": False, "quoting": csv.QUOTE_NONE, "encoding": _encoding(path)}
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
        frame = pd.read_csv(
            path, usecols=[header.index(column) for column in columns], dtype=str, keep_default_na=False, **form
        )
        frame = frame.apply(lambda values: values.str.strip().str.replace(r'^"(.*)"$', r"\1", regex=True)).rename(
            columns=lambda name: name.strip('"')
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table separated by {separator!r}: {error}") from None
    if frame.empty:
        raise DataError(f"{path} has a header but no rows")
    _check_lengths(path, header, separator)
    table, problems = [], []
    for column in columns:
        numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = ~np.isfinite(numbers) | (numbers != np.trunc(numbers))
        if bad.any():
            row = int(bad.argmax())
            value = frame[column].iloc[row]
            problems.append(
                f"{path}, line {row + 2}: {column} is {repr(value) if value else 'empty'}; expected a whole "
                "number. Map ids to 0, 1, 2, … first"
            )
        table.append(np.where(bad, np.nan, numbers))
    problems += _defects(path, columns, table)
    if problems:
        raise DataError("\n".join(problems))
    return np.stack(table).astype(np.int64)


def _check_lengths(path: Path, header: list[str], separator: str) -> None:
    """DataError for a row with more fields than the header, of which pandas would take the first."""
    with path.open(encoding=_encoding(path)) as file:
        for number, line in enumerate(file, start=1):
            fields = line.split(separator)
            if any(field.strip() for field in fields[len(header) :]):
                raise DataError(
                    f"{path}, line {number}: {len(fields)} fields; expected {len(header)}, as in the header {header}. Give "
                    "each column a name, or remove what is too much"
                )
