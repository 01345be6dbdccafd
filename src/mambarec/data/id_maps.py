"""Tables that give the users or items of a data set their original ids, MMRec's u_id_mapping.csv and i_id_mapping.csv."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from mambarec.base.errors import DataError
from mambarec.base.text import read_text


def read_table(path: Path, separator: str | None = None) -> pd.DataFrame:
    """A table of strings with a header, without a first column that has no name; DataError when it is none.

    separator: a tab where the header has one, else a comma.
    """
    text = read_text(path)
    separator = separator or ("\t" if "\t" in text.partition("\n")[0] else ",")
    form = {"sep": separator, "dtype": str, "keep_default_na": False}
    try:
        header = pd.read_csv(io.StringIO(text), header=None, nrows=1, **form).iloc[0].str.strip().tolist()
        frame = pd.read_csv(io.StringIO(text), **form)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a table separated by {separator!r}: {error}") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            f"{path}: its rows have more fields than its header {header}. Quote texts that hold a {separator!r}, or give each "
            "column a name"
        )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}: its header {header} has the column {twice[0]!r} twice; rename one of them")
    frame = frame.set_axis(header, axis=1)
    return frame.iloc[:, 1:] if header[0] == "" or header[0].startswith("Unnamed: 0") else frame


def read_id_map(path: Path) -> pd.DataFrame:
    """As `read_table`, without blanks around ids and numbers, and with 3 for 3.0 in columns that have only such."""
    frame = read_table(path).apply(lambda values: values.str.strip())
    whole = frame.apply(lambda values: values.str.fullmatch(r"\d+\.0*").all())
    return frame.apply(lambda values: values.str.partition(".")[0] if whole[values.name] else values)


def numbers_items(column: pd.Series, n: int, present: np.ndarray | None = None) -> bool:
    """Whether a column of text has once each number of `present`, without it all of 0 … n-1, and beside them none but those."""
    values = set(column)
    every = {str(number) for number in range(n)}
    wanted = every if present is None else set(map(str, present.tolist()))
    return len(values) == len(column) and wanted <= values <= every
