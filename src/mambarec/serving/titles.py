"""The titles of items: the beginning of their texts in items.csv."""

from pathlib import Path

import pandas as pd

from mambarec.base.words import unguarded
from mambarec.data.dataset import RecDataset
from mambarec.data.id_maps import read_table

_LENGTH = 80  # characters of an item's text that stand for its title


def item_titles(dataset: RecDataset, new_items: Path | None = None) -> pd.Series | None:
    """The title of each item by its original id, '' where it has none; None where no items.csv tells.

    new_items: a folder of new items, whose items.csv counts too. A column `title` counts, and without one the column `text`.
    """
    found = [titles for folder in (dataset.folder, new_items) if folder and (titles := _titles(folder)) is not None]
    return pd.concat(found) if found else None


def _titles(folder: Path) -> pd.Series | None:
    path = folder / "items.csv"
    if not path.exists():
        return None
    items = read_table(path, ",")
    column = next((name for name in ("title", "text") if name in items), None)
    if column is None or "original_id" not in items:
        return None
    titles = items.drop_duplicates("original_id").set_index("original_id")[column].map(unguarded).str.strip()
    return titles.where(titles.str.len() <= _LENGTH, titles.str.slice(0, _LENGTH - 1).str.rstrip() + "…")


def with_titles(frame: pd.DataFrame, titles: pd.Series | None) -> pd.DataFrame:
    """A table of items with a column `title` after the column `item`, if there are titles."""
    if titles is None:
        return frame
    frame.insert(frame.columns.get_loc("item") + 1, "title", frame["item"].astype(str).map(titles).astype("string"))
    return frame
