"""The titles of items: the beginning of their texts in items.csv."""

from pathlib import Path

import pandas as pd

from mambarec.base.cells import unguarded
from mambarec.data.dataset import RecDataset
from mambarec.data.id_maps import read_table
from mambarec.serving.identifiers import item_identifiers

_LENGTH = 80  # characters of an item's text that stand for its title


def item_titles(dataset: RecDataset, new_items: Path | None = None) -> pd.Series | None:
    """The title of each item by its original id, '' where it has none; None where no items.csv tells.

    new_items: a folder of new items, whose items.csv counts too. A column `title` counts, and without one the column `text`.
    """
    by = "original_id" if item_identifiers(dataset).names is not None else "item_id"  # without a map, ids are the numbers
    places = [(dataset.folder, by), (new_items, "original_id")]
    found = [titles for folder, key in places if folder and (titles := _titles(folder, key)) is not None]
    both = pd.concat(found) if found else None
    return None if both is None else both[~both.index.duplicated()]


def _titles(folder: Path, key: str) -> pd.Series | None:
    """The titles that a folder's items.csv holds, by its column `key`."""
    path = folder / "items.csv"
    if not path.exists():
        return None
    items = read_table(path, ",")
    column = next((name for name in ("title", "text") if name in items), None)
    key = key if key in items else "original_id"
    if column is None or key not in items:
        return None
    titles = items.drop_duplicates(key).set_index(key)[column].map(unguarded).str.strip()
    return titles.where(titles.str.len() <= _LENGTH, titles.str.slice(0, _LENGTH - 1).str.rstrip() + "…")


def with_titles(frame: pd.DataFrame, titles: pd.Series | None) -> pd.DataFrame:
    """A table of items with a column `title` after the column `item`, if there are titles."""
    if titles is None:
        return frame
    frame.insert(frame.columns.get_loc("item") + 1, "title", frame["item"].astype(str).map(titles).astype("string"))
    return frame
