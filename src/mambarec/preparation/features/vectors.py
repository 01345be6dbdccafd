"""The image features of the Amazon dumps of 2014, a `.b` file: records of 10 bytes ASIN and 4096 little-endian float32."""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from mambarec.base.cells import guarded_frame
from mambarec.base.console import printable
from mambarec.base.errors import DataError
from mambarec.base.files import mapped
from mambarec.base.words import amount
from mambarec.preparation.readers.ids import unmatched
from mambarec.preparation.report import Report

WIDTH = 4096
RECORD = np.dtype([("name", "S10"), ("feature", "<f4", WIDTH)])
_BLOCK = 512  # records in memory, 8 MB


def write_image_features(path: Path, names: pd.Index, folder: Path, report: Report, allow_unmatched: bool = False) -> None:
    """image_feat.npy float32 (I, 4096), image_mask.npy bool (I,), missing_images.csv (item_id, original_id, reason).

    names (I,): the original ids in the order of their numbers. The last record of an item with finite numbers counts. An item
    without one gets the mean of the others; the mask is false there. DataError when the file is not made of whole records,
    has none of the items, or fewer than half and `allow_unmatched` is false.
    """
    source = report.source(path, "image features")
    size = path.stat().st_size
    if size % RECORD.itemsize or not size:
        raise DataError(
            f"{path} has {size:,} bytes, which is not a multiple of {RECORD.itemsize:,} (10 bytes of ASIN, {WIDTH} float32): "
            "it is cut short or no file of image features. Get it again"
        )
    codes = pd.Index(names.astype(object))
    table = mapped(folder / "image_feat.npy", np.float32, (len(names), WIDTH))
    reasons = np.full(len(names), "no image", dtype=object)
    mask = np.zeros(len(names), dtype=bool)
    strangers: list[str] = []
    n_known = 0
    with path.open("rb") as file, tqdm(total=size, unit="B", unit_scale=True, desc=printable(path.name), disable=None) as bar:
        while len(block := np.fromfile(file, RECORD, _BLOCK)):
            ids = np.char.decode(block["name"], "latin-1").astype(object)
            numbers = codes.get_indexer(ids)
            known = numbers >= 0
            strangers += ids[~known][: 2 - len(strangers)].tolist()
            numbers, vectors = numbers[known], block["feature"][known]
            finite = np.isfinite(vectors).all(axis=1)
            reasons[numbers] = "NaN or Inf"
            numbers = numbers[finite]
            table[numbers] = vectors[finite]
            mask[numbers] = True
            n_known += len(finite)
            source.rows += len(block)
            bar.update(block.nbytes)
    found = reasons != "no image"
    if not mask.any() or (2 * found.sum() < len(names) and not allow_unmatched):
        missing = names[~found][:2].tolist()
        raise DataError(unmatched(path, int(found.sum()), len(names), report.sources[0].path, missing, strangers))
    fill_by_mean(table, mask)
    table.flush()
    np.save(folder / "image_mask.npy", mask)
    missing = np.flatnonzero(~mask)
    frame = pd.DataFrame({"item_id": missing, "original_id": names[missing], "reason": reasons[missing]})
    guarded_frame(frame).to_csv(folder / "missing_images.csv", index=False, lineterminator="\n")
    report.note(f"items with image features: {mask.sum():,} of {len(names):,}")
    if n_known > found.sum():
        source.note(f"{amount(n_known - int(found.sum()), 'further record')} of an item; the last that is finite counts")


def fill_by_mean(table: np.ndarray, mask: np.ndarray) -> None:
    """Give the rows where mask (I,) is false the mean of the others, block by block; doing it again changes nothing."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(table), _BLOCK)]
    total = sum(table[block][mask[block]].sum(axis=0, dtype=np.float64) for block in blocks)
    table[~mask] = (total / mask.sum()).astype(np.float32)
