"""The image features of the Amazon dumps of 2014, a `.b` file: records of 10 bytes ASIN and 4096 little-endian float32."""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from preparation.report import Report
from utils.console import printable
from utils.errors import DataError

WIDTH = 4096
RECORD = np.dtype([("name", "S10"), ("feature", "<f4", WIDTH)])
_BLOCK = 512  # records in memory, 8 MB


def write_image_features(path: Path, names: pd.Index, folder: Path, report: Report) -> None:
    """image_feat.npy float32 (I, 4096), image_mask.npy bool (I,), missing_images.csv (item_id, original_id, reason).

    names (I,): the original ids in the order of their numbers. The last record of an item counts. An item without one, or whose
    numbers are not finite, gets the mean of the others; the mask is false there. DataError when the file is not made of whole
    records or has none of the items.
    """
    source = report.source(path, "image features")
    size = path.stat().st_size
    if size % RECORD.itemsize or not size:
        raise DataError(
            f"{path} has {size:,} bytes, which is not a multiple of {RECORD.itemsize:,} (10 bytes of ASIN, {WIDTH} float32): "
            "it is cut short or no file of image features. Get it again"
        )
    codes = pd.Index(names.astype(object))
    table = np.lib.format.open_memmap(folder / "image_feat.npy", mode="w+", dtype=np.float32, shape=(len(names), WIDTH))
    reasons = np.full(len(names), "no image", dtype=object)
    mask = np.zeros(len(names), dtype=bool)
    with path.open("rb") as file, tqdm(total=size, unit="B", unit_scale=True, desc=printable(path.name), disable=None) as bar:
        while len(block := np.fromfile(file, RECORD, _BLOCK)):
            numbers = codes.get_indexer(np.char.decode(block["name"], "latin-1").astype(object))
            known = numbers >= 0
            numbers, vectors = numbers[known], block["feature"][known]
            finite = np.isfinite(vectors).all(axis=1)
            table[numbers] = vectors
            mask[numbers], reasons[numbers] = finite, "NaN or Inf"
            source.rows += len(block)
            bar.update(block.nbytes)
    if not mask.any():
        raise DataError(
            f"{path} has features of none of the {len(names):,} items (the first is {names[0]!r}); is it of another category?"
        )
    fill_by_mean(table, mask)
    table.flush()
    np.save(folder / "image_mask.npy", mask)
    missing = np.flatnonzero(~mask)
    frame = pd.DataFrame({"item_id": missing, "original_id": names[missing], "reason": reasons[missing]})
    frame.to_csv(folder / "missing_images.csv", index=False, lineterminator="\n")
    report.note(f"items with image features: {mask.sum():,} of {len(names):,}")


def fill_by_mean(table: np.ndarray, mask: np.ndarray) -> None:
    """Give the rows where mask (I,) is false the mean of the others, block by block."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(table), _BLOCK)]
    total = sum(table[block][mask[block]].sum(axis=0, dtype=np.float64) for block in blocks)
    table[~mask] = (total / mask.sum()).astype(np.float32)
