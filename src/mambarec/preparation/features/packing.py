"""Pack picture files into images.lmdb: from a folder whose files are named by original id, or from a column of paths."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from mambarec.base.errors import DataError
from mambarec.base.logger import get_logger
from mambarec.base.text import trimmed_text
from mambarec.base.words import option
from mambarec.preparation.features.pictures import SUFFIXES
from mambarec.preparation.features.store import ImageStore

STORE = "images.lmdb"
_LARGEST = 2**28  # bytes of a picture
_BYTES, _PICTURES = 2**26, 1024  # a write to the store holds at most as many, or one picture


def pack_images(
    folder: Path,
    items: pd.DataFrame,
    images: Path | None = None,
    column: str | None = None,
    allow_unmatched: bool = False,
) -> None:
    """Pack the pictures of `items` (of preparation.features.items.read_items) into the store of the data set in `folder`.

    column: one of `items` with the path of each item's picture, empty where there is none; relative paths start at `images`,
    without it at `folder`. No column: the stem of a file, anywhere below `images`, is the item's original id. What the store
    has already is kept, so a stopped call goes on. DataError where no picture is found, or pictures of fewer than half of
    the items and `allow_unmatched` is false; RunError where the store cannot be written.
    """
    if images is not None and not images.is_dir():
        raise DataError(f"{option('images', images)} is no folder")
    if column:
        paths, strangers = _of_column(items[column], images or folder), list[Path]()
    else:
        paths, strangers = _by_stem(items["original_id"], images or folder)
    unreadable: list[str] = []
    with ImageStore(folder / STORE) as store:
        there = store.items()
        have = there | {item for item, path in paths.items() if not column or path.is_file()}
        if have and 2 * len(have) < (len(paths.keys() | there) if column else len(items)) and not allow_unmatched:
            raise DataError(_too_few(items["original_id"], have, paths, strangers, images or folder, column))
        wanted = {item: path for item, path in paths.items() if item not in there}
        with tqdm(total=len(wanted), unit="picture", desc=STORE, disable=None) as bar:
            for batch in _batches(wanted, unreadable):
                store.put(batch)
                bar.update(len(batch))
        n_stored = len(store)
    if not n_stored:
        wanted_name = f"no picture below {images} is named {items['original_id'].iloc[0]}.jpg, .png, … or like another item"
        empty = f"column '{column}' is empty" if column else wanted_name
        raise DataError(f"none of the {len(items):,} items has a picture: {unreadable[0] if unreadable else empty}")
    say, new = get_logger().info, n_stored - len(there)
    say("%s: pictures of %s of %s items, %s new", folder / STORE, f"{n_stored:,}", f"{len(items):,}", f"{new:,}")
    if there:
        say("pictures that were there are not read again; remove the store to pack all anew")
    for line in unreadable[:3]:
        get_logger().warning("left out: %s", line)
    if len(unreadable) > 3:
        get_logger().warning("left out: %s more", f"{len(unreadable) - 3:,}")


def _of_column(column: pd.Series, start: Path) -> dict[int, Path]:
    return {item: start / path for item, path in column.str.strip().items() if path}


def _too_few(
    ids: pd.Series, have: set[int], paths: dict[int, Path], strangers: list[Path], images: Path, column: str | None
) -> str:
    """The message where fewer than half of the items have a picture."""
    start = f"there are pictures of {len(have):,} of the {len(ids):,} items. "
    if column:
        lost = [str(path) for item, path in paths.items() if item not in have][:2]
        start += f"Column '{column}' names {len(paths):,}, and these are not there: {', '.join(lost)}"
    else:
        missing = [item for item in ids.index if item not in have][:2]
        others = ", ".join(path.name for path in strangers[:2]) or "none"
        start += (
            f"Ids without one: {', '.join(repr(ids[item]) for item in missing)}. Pictures below {images} of no item: {others}"
        )
    hint = f"If this is as it should be, give {option('allow-unmatched', True)}"
    return f"{start}. Name the files by the ids, or name the right folder. {hint}"


def _by_stem(original_ids: pd.Series, images: Path) -> tuple[dict[int, Path], list[Path]]:
    """The first picture of each item in the order of paths, and those of no item; how many others there are is said."""
    numbers = {trimmed_text(original_id): item for item, original_id in original_ids.items()}
    paths: dict[int, Path] = {}
    strangers, doubles = [], []
    for path in sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES):
        item = numbers.get(trimmed_text(path.stem))
        if item is None:
            strangers.append(path)
        elif item in paths:
            doubles.append(path)
        else:
            paths[item] = path
    for left_out, why in ((strangers, "named like no item"), (doubles, "second pictures of an item")):
        if left_out:
            get_logger().warning("%s pictures left out, %s: %s, …", f"{len(left_out):,}", why, left_out[0])
    return dict(sorted(paths.items())), strangers


def _batches(paths: dict[int, Path], unreadable: list[str]) -> Iterator[list[tuple[int, bytes]]]:
    """Items and the bytes of their files, as many at a time as a write takes; `unreadable` gets a line for each that fails."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for item, path in paths.items():
        try:
            if not path.is_file():
                raise FileNotFoundError(f"{path} is no file")
            if path.stat().st_size > _LARGEST:
                raise ValueError(f"{path} has {path.stat().st_size:,} bytes; at most {_LARGEST:,} are taken for a picture")
            content = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            unreadable.append(f"item {item}: {error}")
            continue
        if batch and (size + len(content) > _BYTES or len(batch) == _PICTURES):
            yield batch
            batch, size = [], 0
        batch.append((item, content))
        size += len(content)
    if batch:
        yield batch
