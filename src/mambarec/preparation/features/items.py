"""The items of a prepared data set, as items.csv lists them: number, original id, text, and where the picture is."""

import io
from pathlib import Path

import pandas as pd

from mambarec.base.errors import DataError
from mambarec.base.text import read_text

FILE = "items.csv"


def read_items(folder: Path, column: str | None = None) -> pd.DataFrame:
    """Read items.csv: a row per item in the order of the numbers 0 … I-1, which are the index; every column is text.

    column: one that must be there beside item_id and original_id. DataError when the file is missing or does not number
    all items once.
    """
    path = folder / FILE
    if not path.exists():
        raise DataError(
            f"{path} does not exist. `prepare.py table` and `prepare.py amazon` write it beside the interactions; for a data "
            "set from elsewhere write one, a comma-separated row per item: item_id (0, 1, 2, …), original_id, text"
        )
    try:
        frame = pd.read_csv(io.StringIO(read_text(path)), dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a comma-separated table: {error}") from None
    missing = [name for name in ("item_id", "original_id", column) if name is not None and name not in frame]
    if missing:
        raise DataError(f"{path} has no column '{missing[0]}'; it has: {', '.join(frame.columns)}")
    if frame.empty:
        raise DataError(f"{path} has a header but no rows")
    numbers = pd.to_numeric(frame["item_id"], errors="coerce")
    expected = pd.RangeIndex(len(frame))
    wrong = ~numbers.isin(expected) | numbers.duplicated()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise DataError(
            f"{path}, row {row + 1}: item_id is '{frame['item_id'].iloc[row]}'; expected each of 0 … {len(frame) - 1} once, "
            f"the numbers of its {len(frame):,} rows"
        )
    twice = frame["original_id"].duplicated()
    if twice.any():
        raise DataError(f"{path}: the original_id '{frame['original_id'][twice].iloc[0]}' is there twice")
    return frame.set_index(numbers.astype("int64").rename(None)).sort_index().drop(columns="item_id")
