"""Items that lack a modality: which they are, and what stands in for their features.

A data set says which by a mask beside the feature file, bool (I,), true where the row is the item's own. It is named after this
file: image_mask.npy for image_feat.npy, clip_mask.npy for clip.npy.
`missing_modality` and `missing_share` let a share of the items lack a modality besides, drawn from `missing_seed`, so that what
it costs can be measured. I items, D width.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from mambarec.base.bounded import array_head, first_line
from mambarec.base.errors import DataError
from mambarec.base.words import listed
from mambarec.config.data_folder import MASK

_ROUNDS = 20  # of the propagation; far items add little more


def mask_file(features: Path) -> Path:
    """image_feat.npy -> image_mask.npy."""
    return features.with_name(f"{features.stem.removesuffix('_feat')}_mask.npy")


def stray_masks(folder: Path, features: Iterable[Path], yaml: str, n_items: int | None = None) -> list[str]:
    """A sentence for each mask in a folder that is named after no feature file, of the YAML or of the folder.

    A mask is a bool array with a value for each item; n_items: how many there are, where it is known.
    """
    declared = list(features)
    there = [path for path in folder.glob("*.npy") if not path.name.endswith(MASK)]
    known = {*declared, *map(mask_file, [*declared, *there])}
    names = listed([f"{mask_file(path).name} for {path.name}" for path in declared])
    named = f"A mask is named after its feature file, not after the modality: {names}. Rename it, or move it away"
    return [
        f"{path} goes with no feature file of {yaml}, so it would not be read. {named if declared else 'Move it away'}"
        for path in sorted(folder.glob(f"[!.]*{MASK}"))
        if path not in known and _is_mask(path, n_items)
    ]


def _is_mask(path: Path, n_items: int | None) -> bool:
    with suppress(ValueError, OSError), path.open("rb") as file:
        shape, _, dtype = array_head(file)
        return dtype.kind == "b" and len(shape) == 1 and n_items in (None, shape[0])
    return False


def read_mask(path: Path, n_items: int, may_be_empty: bool = False) -> np.ndarray:
    """Which items have the modality, bool (I,); DataError for anything else, and where no item has it and one must."""
    try:
        with path.open("rb") as file:
            shape, _, dtype = array_head(file)
        if dtype.kind != "b" or shape != (n_items,):
            raise DataError(f"{path} is {dtype} {shape}; expected bool ({n_items},), true at the items that have the modality")
        mask = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from None
    if not mask.any() and not may_be_empty:
        raise DataError(f"{path} is false for every item; leave the modality out (modalities)")
    return mask


def drawn_missing(items: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The share of some items (N,) that lack a modality: the first of one order drawn from the seed, so more include fewer."""
    return np.random.default_rng(seed).permutation(items)[: round(share * len(items))]


def with_stand_ins(table: np.ndarray, mask: np.ndarray, kind: str, interactions: sp.spmatrix) -> np.ndarray:
    """A copy of features (I, D) in which the rows where mask (I,) is false are stood in for: the key `missing`.

    neighbours: feature propagation (Malitesta et al., arXiv 2403.19841) over the training pairs (U, I): a row becomes the mean
    of the means of its users' items, again and again, while the rows of the mask stay. An item that no pair leads to from them
    has the mean row.
    """
    table = table.copy()
    table[~mask] = 0 if kind == "zero" else table[mask].mean(axis=0, dtype=np.float64).astype(table.dtype)
    if kind != "neighbours":
        return table
    binary = sp.csr_matrix(interactions, dtype=np.float32).sign()
    to_users, to_items = (sp.diags(1 / np.maximum(np.diff(part.indptr), 1)) @ part for part in (binary, binary.T.tocsr()))
    to_items = sp.csr_matrix(to_items)[~mask]
    reached = mask.copy()
    for _ in range(_ROUNDS):
        known = reached[:, None] * np.concatenate((table, np.ones((len(table), 1), table.dtype)), axis=1)
        passed = np.asarray(to_items @ (to_users @ known))  # (M, D + 1): sums over those reached, and their share
        share = passed[:, -1]
        rows, found = np.flatnonzero(~mask), share > 0
        table[rows[found]] = passed[found, :-1] / share[found, None]
        reached[rows[found]] = True
    return table
