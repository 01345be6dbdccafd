"""Tables that give the users or items of a data set their original ids, MMRec's u_id_mapping.csv and i_id_mapping.csv."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from mambarec.base.errors import DataError
from mambarec.base.text import read_text


def read_id_map(path: Path) -> pd.DataFrame:
    """A table of strings with a header, separated by tabs or commas; DataError when it is none."""
    text = read_text(path)
    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    try:
        frame = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from None
    return frame


def numbers_items(column: pd.Series, n: int, present: np.ndarray | None = None) -> bool:
    """Whether a column of text has once each number of `present`, without it all of 0 … n-1, and beside them none but those."""
    values = set(column)
    every = {str(number) for number in range(n)}
    wanted = every if present is None else set(map(str, present.tolist()))
    return len(values) == len(column) and wanted <= values <= every
