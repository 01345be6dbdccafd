"""A table of item features, filled block by block: it survives a kill, and takes its name once it is complete.

In the data set's folder a modality has <modality>_feat.npy, float32 (I, D); <modality>_mask.npy, bool (I,), true where the row
is the item's own; and a CSV that lists the other items, whose rows are the mean of those that are. Until then the rows are
in hidden files beside them, with the number of rows that are done.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mambarec.base.bounded import array_head, read_json
from mambarec.base.cells import guarded_frame
from mambarec.base.errors import DataError, RunError
from mambarec.base.files import mapped, naming, replacing, write_text
from mambarec.base.logger import get_logger
from mambarec.base.words import amount
from mambarec.data.encoders import forget_encoder, record_encoder
from mambarec.preparation.features.vectors import fill_by_mean

SAVE_SECONDS = 5.0  # between two notes of how many rows are done


class Block(NamedTuple):
    """The features of the next items: `real` (N,) tells which of them have one, `vectors` (real.sum(), D) holds these."""

    vectors: np.ndarray
    real: np.ndarray


class FeatureFiles:
    """The files of one modality in a data set's folder."""

    def __init__(self, folder: Path, modality: str, missing: str):
        """missing: the name of the CSV that lists the items without a row of their own."""
        self.folder, self.modality = folder, modality
        self.table, self.mask = folder / f"{modality}_feat.npy", folder / f"{modality}_mask.npy"
        self.missing = folder / missing
        self.lock = folder / f".{modality}_feat.lock"
        self.progress = folder / f".{modality}_feat.progress.json"
        self.partial_table = folder / f".{modality}_feat.partial.npy"
        self.partial_mask = folder / f".{modality}_mask.partial.npy"

    def write(
        self,
        original_ids: Sequence[str],
        width: int,
        made_by: dict[str, Any],
        blocks: Callable[[int], Iterable[Block]],
        reason: Callable[[int], str],
    ) -> None:
        """Write the features of items with these ids, `width` numbers each.

        made_by: what the rows depend on, fit for JSON; rows that a stopped command left are kept when it is the same. Its model
        and weights go into report.json; vectors that were made elsewhere have none.
        blocks(start): the features of the items from number `start` on, in order. reason(item): why it has none. DataError
        when no item has one or a vector is not finite, RunError when another process is writing them or the disk is full.
        """
        shape = (len(original_ids), width)
        try:
            with naming(self.table), filelock.FileLock(self.lock, timeout=0):
                table, mask = self._fill(shape, {**made_by, "shape": list(shape)}, blocks)
                if not mask.any():
                    self._discard()
                    raise DataError(
                        f"{self.table} is not written: no item has a feature (the first, {original_ids[0]}: {reason(0)})"
                    )
                fill_by_mean(table, mask)
                missing = np.flatnonzero(~mask)
                rows = [(item, original_ids[item], reason(item)) for item in missing.tolist()]
                if "model" in made_by:
                    record_encoder(self.folder, self.modality, str(made_by["model"]), str(made_by["weights"]))
                else:
                    forget_encoder(self.folder, self.modality)
                self._finish(table, pd.DataFrame(rows, columns=["item_id", "original_id", "reason"]))
        except filelock.Timeout:
            raise RunError(f"another process is writing {self.table}; wait for it") from None
        get_logger().info("%s: %s, %d wide", self.table, amount(shape[0], "item"), width)
        if len(missing):
            get_logger().info("%s without features: the mean stands in, see %s", amount(len(missing), "item"), self.missing)

    def _fill(self, shape: tuple[int, int], made_by: dict[str, Any], blocks: Callable[[int], Iterable[Block]]):
        """The complete table, with rows of zeros for the items without a feature, and its mask; both lie in files."""
        done = self._done(made_by, shape)
        if not done:
            self._create(shape)
        table, mask = (np.lib.format.open_memmap(path, mode="r+") for path in (self.partial_table, self.partial_mask))

        def save() -> None:
            table.flush()
            mask.flush()
            write_text(self.progress, json.dumps({"made_by": made_by, "done": done}))

        saved_at = time.monotonic()
        try:
            with tqdm(total=len(table), initial=done, unit="item", desc=self.table.name, disable=None) as bar:
                for vectors, real in blocks(done) if done < len(table) else ():
                    if not np.isfinite(vectors).all():
                        item = done + int(np.flatnonzero(real)[~np.isfinite(vectors).all(axis=1)][0])
                        raise DataError(f"the model gives NaN or Inf for item {item}: its weights may be damaged")
                    end = done + len(real)
                    mask[done:end] = real
                    table[done:end][real] = vectors
                    done = end
                    bar.update(len(real))
                    if time.monotonic() - saved_at >= SAVE_SECONDS:
                        save()
                        saved_at = time.monotonic()
        finally:
            save()
        return table, mask

    def _done(self, made_by: dict[str, Any], shape: tuple[int, int]) -> int:
        """How many rows a stopped command has left that can be kept."""
        if not self.progress.exists():
            return 0
        try:
            progress = read_json(self.progress, {"made_by": dict, "done": int})
        except ValueError:
            progress = {}
        if progress.get("made_by") != made_by or not (self.partial_table.exists() and self.partial_mask.exists()):
            get_logger().info("a stopped command left features of another model or of other items: starting over")
            return 0
        whole = _is_whole(self.partial_table, np.float32, shape) and _is_whole(self.partial_mask, np.bool_, shape[:1])
        if not (whole and 0 <= progress["done"] <= shape[0]):
            get_logger().info("what a stopped command left is damaged: starting over")
            return 0
        get_logger().info("going on after %s items", f"{progress['done']:,}")
        return progress["done"]

    def _create(self, shape: tuple[int, int]) -> None:
        self._discard()
        needed, free = 4 * shape[0] * shape[1], shutil.disk_usage(self.table.parent).free
        if needed > free:  # a write to a mapped file on a full disk ends the process without a word
            raise RunError(f"{self.table} needs {needed / 1e9:.1f} GB; its disk has {free / 1e9:.1f} GB left")
        for path, dtype, size in ((self.partial_table, np.float32, shape), (self.partial_mask, np.bool_, shape[:1])):
            mapped(path, dtype, size)

    def _finish(self, table: np.memmap, missing: pd.DataFrame) -> None:
        """Give the files their names, the table's last: where it is new, the others are."""
        table.flush()
        write_text(self.missing, guarded_frame(missing).to_csv(index=False, lineterminator="\n"))
        with replacing(self.mask) as file:
            file.write(self.partial_mask.read_bytes())
        self.partial_table.replace(self.table)
        self._discard()

    def _discard(self) -> None:
        for path in (self.progress, self.partial_table, self.partial_mask):
            path.unlink(missing_ok=True)


def _is_whole(path: Path, dtype: Any, shape: tuple[int, ...]) -> bool:
    """Whether a file holds an array of this type and shape to its end."""
    try:
        with path.open("rb") as file:
            found, fortran, kind = array_head(file)
            size = file.tell() + math.prod(found) * kind.itemsize
            return (found, fortran, kind) == (shape, False, np.dtype(dtype)) and path.stat().st_size == size
    except ValueError:
        return False


def weights_digest(model: nn.Module) -> str:
    """A hash of a model's parameters and buffers: the same weights, from whatever file, give the same."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
