"""Original ids of users and items beside the numbers that a data set gives them.

MMRec's form: `u_id_mapping.csv` and `i_id_mapping.csv` in the data set's folder, separated by tabs or commas, with a header
and two columns, original id and number. Without such a file the numbers are the ids.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from mambarec.base.cells import unguarded
from mambarec.base.errors import DataError
from mambarec.base.text import trimmed_text
from mambarec.data.dataset import RecDataset
from mambarec.data.id_maps import numbers_items, read_id_map


class Identifiers:
    """The ids of those of the numbers 0 … n-1 that occur, which are strings where there is a map, and back."""

    def __init__(self, kind: str, n: int, present: np.ndarray | None = None, names: pd.Index | None = None):
        """kind: 'user' or 'item', for messages. present: the numbers that occur (N,), without it all. names: original ids."""
        self.kind, self.n, self.names = kind, n, names
        self.present = np.arange(n) if present is None else present
        self._places = np.full(n, -1)
        self._places[self.present] = np.arange(len(self.present))

    @classmethod
    def read(cls, kind: str, n: int, path: Path, number_field: str, present: np.ndarray | None = None) -> "Identifiers":
        """Read the map at `path`, if there is one; DataError when it does not have each number that occurs once.

        The column of numbers is the one that holds these, and where both do, the one named `number_field`.
        """
        if not path.exists():
            return cls(kind, n, present)
        frame = read_id_map(path)
        if frame.shape[1] != 2:
            raise DataError(f"{path} has the columns {frame.columns.tolist()}; expected two, original id and number")
        of_numbers = [column for column in frame if numbers_items(frame[column], n, present)]
        if not of_numbers:
            raise DataError(
                f"{path}: none of its columns {frame.columns.tolist()} holds each of 0 … {n - 1} once, the numbers of "
                f"the data set's {kind}s ({len(frame)} rows). It maps other data: replace it, or move it away to have numbers"
            )
        numbers = number_field if number_field in of_numbers else of_numbers[-1]
        names = frame.set_index(frame[numbers].astype(int)).sort_index().drop(columns=numbers).iloc[:, 0]
        if present is not None:
            names = names[present]
        if names.duplicated().any():
            raise DataError(f"{path}: the original id {names[names.duplicated()].iloc[0]!r} is there twice")
        return cls(kind, n, present, pd.Index(names))

    def of(self, numbers: np.ndarray) -> ExtensionArray:
        """The ids of some numbers (N,), 'string' or 'Int64'; missing where the number is -1."""
        known = pd.array(numbers, dtype="Int64")
        known[numbers < 0] = pd.NA
        if self.names is None:
            return known
        names = pd.array(self.names, dtype="string")
        return names.take(np.where(numbers < 0, -1, self._places[numbers]), allow_fill=True)

    def index(self, numbers: np.ndarray) -> pd.Index:
        """The ids of some numbers (N,) as an index, called 'user' or 'item'."""
        return pd.Index(self.of(numbers), name=self.kind)

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """The numbers (N,) of some ids, int64; -1 for an id that is not known."""
        if self.names is None:
            found = np.array([self._number(trimmed_text(one)) for one in ids], dtype=np.int64)
            found[self._places[found] < 0] = -1
            return found
        places = self.names.get_indexer(pd.Index(ids, dtype=self.names.dtype))
        for as_prepared in (unguarded, trimmed_text):  # as in a CSV, and as the preparation writes ids
            others = pd.Index([as_prepared(one) for one in ids], dtype=self.names.dtype)
            places = np.where(places < 0, self.names.get_indexer(others), places)
        return np.where(places < 0, -1, self.present[places]).astype(np.int64)

    def _number(self, text: str) -> int:
        """The number that a text writes; -1 for any other text, 007 among them."""
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(self.n)) and str(int(text)) == text
        return int(text) if is_number and int(text) < self.n else -1

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        """The numbers (N,) of some ids, int64; DataError names the first that is not known."""
        found = self.find(ids)
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            raise DataError(
                f"there is no {self.kind} '{ids[unknown[0]]}' ({len(unknown)} of {len(ids)} ids are unknown); {self.hint}"
            )
        return found

    @property
    def hint(self) -> str:
        """What the ids look like, for messages."""
        if self.names is None:
            return f"without a map of ids they are the numbers 0 … {self.n - 1}"
        return f"ids are the original ones, such as {self.names[0]!r}"

    def has(self, ids: Sequence[str]) -> np.ndarray:
        """Which of some ids there are, bool (N,)."""
        return self.find(ids) >= 0


def user_identifiers(dataset: RecDataset) -> Identifiers:
    """The users' original ids, of u_id_mapping.csv."""
    return Identifiers.read(
        "user", dataset.n_users, dataset.folder / "u_id_mapping.csv", dataset.uid_field, dataset.present_users
    )


def item_identifiers(dataset: RecDataset) -> Identifiers:
    """The items' original ids, of i_id_mapping.csv."""
    return Identifiers.read(
        "item", dataset.n_items, dataset.folder / "i_id_mapping.csv", dataset.iid_field, dataset.present_items
    )
