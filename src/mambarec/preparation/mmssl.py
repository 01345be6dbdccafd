"""`python prepare.py mmssl`: a data set in the layout of MMSSL, such as tiktok, with its own split and features.

MMSSL (Wei et al., WWW 2023) and the projects after it publish, in one folder, a matrix of users by items for each split and a
feature file for each modality:

train_mat, val_mat, test_mat      pickled matrices of SciPy; trnMat.pkl, valMat.pkl, tstMat.pkl in DiffMM
train.json, val.json, test.json   the same as {user: [item, …]}, read where there is no matrix
image_feat.npy, text_feat.npy, audio_feat.npy      a row for each item
"""

import argparse
from pathlib import Path

import numpy as np

from mambarec.base.bounded import array_head, read_json
from mambarec.base.console import show
from mambarec.base.errors import DataError
from mambarec.base.files import real
from mambarec.base.logger import get_logger
from mambarec.base.words import amount
from mambarec.data.interactions import SPLITS, sentences_on_shared_pairs
from mambarec.preparation.folder import check_outside, describe, new_folder
from mambarec.preparation.options import add_dataset, check_case, dataset_folder
from mambarec.preparation.public import PUBLIC, check_name, check_size
from mambarec.preparation.readers.pickles import read_matrix

FILES = {
    "train": ("train_mat", "trnMat.pkl", "train.json"),
    "valid": ("val_mat", "valMat.pkl", "val.json"),
    "test": ("test_mat", "tstMat.pkl", "test.json"),
}
MODALITIES = ("image", "text", "audio")


def add_parser(commands) -> None:
    """The command `mmssl` of prepare.py."""
    text = "a data set in the layout of MMSSL, such as tiktok: pickled matrices or JSON, and features"
    description = f"Prepare {text}. The split stays as it is. No code in the files is run."
    parser = commands.add_parser("mmssl", help=text, description=description, allow_abbrev=False)
    add_dataset(parser)
    files = "the folder with train_mat, val_mat and test_mat, or with trnMat.pkl …, or with train.json …"
    parser.add_argument("--folder", type=Path, required=True, metavar="FOLDER", help=files)
    parser.add_argument("--overwrite", action="store_true", help="replace the data set of this name, if there is one")
    parser.set_defaults(does=run)


def run(options: argparse.Namespace) -> None:
    """Write the data set; DataError where a file is missing or cannot be used."""
    source, name, folder = real(options.folder), options.dataset, dataset_folder(options)
    if not source.is_dir():
        raise DataError(f"--folder {options.folder} is not a folder; name the one with train_mat, val_mat and test_mat")
    check_outside(folder, options.folder)
    check_name(name, "mmssl")
    check_case(name, folder.parent)
    with new_folder(folder, options.overwrite) as temporary:
        overwrites = folder.exists()
        pairs = {split: _pairs(source, split) for split in SPLITS}
        n_users, n_items = (int(max(ids.max() for ids in side)) + 1 for side in zip(*pairs.values(), strict=True))
        users, items = (len(np.unique(np.concatenate(side))) for side in zip(*pairs.values(), strict=True))
        check_size(name, users, items, sum(len(one) for one, _ in pairs.values()))
        _write_interactions(source, temporary / f"{name}.inter", pairs)
        there = [modality for modality in MODALITIES if _copy_features(source, temporary, modality, n_items)]
    show(f"{amount(n_users, 'user')}, {amount(n_items, 'item')}")
    show("train / validation / test: " + " / ".join(f"{len(users):,}" for users, _ in pairs.values()))
    show(f"features: {', '.join(there) or 'none'}")
    get_logger().info("%s", folder)
    describe(name, *there, anew=overwrites and name not in PUBLIC)


def _pairs(source: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Users and items (E,) of a split, int64, each pair once; by user, then by item."""
    path = next((path for name in FILES[split] if (path := source / name).is_file()), None)
    if path is None:
        raise DataError(f"{source} has none of the files {', '.join(FILES[split])}; expected the {split} split in one of them")
    users, items = _of_json(path) if path.suffix == ".json" else _of_matrix(path)
    if not len(users):
        raise DataError(f"{path} has no pair of a user and an item")
    return tuple(np.unique(np.stack((users, items)), axis=1))


def _of_matrix(path: Path) -> tuple[np.ndarray, np.ndarray]:
    matrix = read_matrix(path)
    there = matrix.data != 0
    return matrix.row[there].astype(np.int64), matrix.col[there].astype(np.int64)


def _of_json(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        content = read_json(path)
        if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
            raise ValueError("expected {user: [item, …], …}")
        is_number = all(user.isascii() and user.isdecimal() and len(user) < 10 for user in content)
        if not is_number or not all(type(item) is int and 0 <= item < 10**9 for items in content.values() for item in items):
            raise ValueError("its users and items are not all whole numbers from 0")
        pairs = [(int(user), item) for user, items in content.items() for item in items]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be used: {error}") from None
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _write_interactions(source: Path, path: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """The .inter file: a user's pairs together, with x_label 0, 1, 2. DataError where `source` has a pair in two splits."""
    labels = np.repeat(np.arange(len(SPLITS)), [len(pairs[split][0]) for split in SPLITS])
    users, items = (np.concatenate([pairs[split][side] for split in SPLITS]) for side in range(2))
    if sentences := sentences_on_shared_pairs(source, users, items, labels):
        raise DataError("\n".join(sentences))
    table = np.stack((users, items, labels), axis=1)[np.lexsort((items, labels, users))]
    np.savetxt(path, table, "%d", "\t", header="userID\titemID\tx_label", comments="")


def _copy_features(source: Path, folder: Path, modality: str, n_items: int) -> bool:
    """Copy a feature file without the rows behind the last item, if there is one; whether there is."""
    path = source / f"{modality}_feat.npy"
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            shape, _, dtype = array_head(file)
        if len(shape) != 2 or dtype.kind not in "fiu" or not shape[1]:
            raise ValueError(f"expected a two-dimensional array of numbers, found {dtype} {shape}")
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be used: {error}") from None
    if len(table) < n_items:
        raise DataError(f"{path} has {len(table):,} rows; expected one for each of the {n_items:,} items")
    if len(table) > n_items:
        get_logger().info("%s: %s rows behind the last item are left out", path.name, f"{len(table) - n_items:,}")
    np.save(folder / path.name, table[:n_items])
    return True
