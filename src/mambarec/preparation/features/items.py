"""The items of a prepared data set, as items.csv lists them: number, original id, text, and where the picture is."""

import re
from pathlib import Path

import pandas as pd

from mambarec.base.cells import unguarded
from mambarec.base.errors import DataError
from mambarec.base.words import command
from mambarec.data.id_maps import numbers_items, read_id_map, read_table

FILE, ID_MAP = "items.csv", "i_id_mapping.csv"


def original_ids(folder: Path) -> tuple[list[str], Path]:
    """The original ids of a data set's items in the order of their numbers, and the file that has them.

    It is items.csv or, without one, i_id_mapping.csv. DataError where neither has an id for each number.
    """
    path = folder / ID_MAP
    if (folder / FILE).exists() or not path.exists():
        return read_items(folder)["original_id"].tolist(), folder / FILE
    frame = read_id_map(path)
    numbers = [name for name in frame if numbers_items(frame[name], len(frame))]
    if frame.shape[1] != 2 or not numbers:
        raise DataError(
            f"{path} has the columns {', '.join(frame.columns)}; expected two, original id and item number, with each of the "
            f"numbers 0 … {len(frame) - 1} once"
        )
    ordered = frame.assign(number=frame[numbers[-1]].astype("int64")).sort_values("number")
    ids = ordered[next(name for name in frame if name != numbers[-1])]
    if ids.duplicated().any():
        raise DataError(f"{path}: the original id {ids[ids.duplicated()].iloc[0]!r} is there twice")
    return ids.tolist(), path


def read_items(folder: Path, column: str | None = None) -> pd.DataFrame:
    """Read items.csv: a row per item in the order of the numbers 0 … I-1, which are the index; every column is text.

    The column `text` is as it was before it was guarded against spreadsheets (preparation.folder.write_items).

    column: one that must be there beside item_id and original_id. DataError when the file is missing or does not number
    all items once.
    """
    path = folder / FILE
    if not path.exists():
        raise DataError(
            f"{path} does not exist. `{command('prepare', 'table')}` and `{command('prepare', 'amazon')}` write it beside the "
            "interactions. For a data set from elsewhere write one: a header item_id,original_id,text and a row for each item, "
            "separated by commas; item_id counts from 0"
        )
    frame = read_table(path, ",")
    missing = [name for name in ("item_id", "original_id", column) if name is not None and name not in frame]
    if missing and len(frame.columns) == 1 and (other := re.search(r"item_id\"?([\t;|])", frame.columns[0])):
        raise DataError(f"{path} has {other[1]!r} between its columns; separate them by commas")
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
    if "text" in frame:
        frame["text"] = frame["text"].map(unguarded)
    return frame.set_index(numbers.astype("int64").rename(None)).sort_index().drop(columns="item_id")
