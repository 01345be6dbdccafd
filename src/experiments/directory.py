"""The directory of one run: its files, each written beside its place and renamed, its lock, and how two runs differ.

results/<dataset>/<model>/<run>/ holds config.json, environment.json, train.log, metrics.jsonl (a line an epoch),
checkpoint.pt (to resume), best.pt (the model at the best epoch), per_user.npz and topk.npz (test, at the best epoch), and
result.json, written last: where it is, the run is finished.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

from experiments import schema
from utils.bounded import read_text
from utils.equality import identical
from utils.errors import RunError

RESULT_TIMES = ("seconds_per_epoch", "seconds_total", "peak_memory_mb")  # not part of what a run computes
EPOCH_TIMES = ("seconds_train", "seconds_eval")


class RunDirectory:
    """The files of one run. Each is written beside its place and renamed, so none is ever half-written."""

    def __init__(self, path: Path):
        self.path = path

    def file(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the directory and keep other processes out of it; RunError when it cannot be had."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.file(".lock"), timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise RunError(f"{self.path} is in use by another process; wait for it, or give this run another seed") from None
        except OSError as error:
            raise RunError(f"{self.path} cannot be written ({error.strerror}); name another place with --results_dir") from None
        try:
            yield
        finally:
            lock.release()

    def write(self, name: str, save: Callable[[Any], None]) -> None:
        """Let `save` fill a binary file that becomes `name` once it is complete and on disk."""
        temporary = self.file(f"{name}.tmp")
        with temporary.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.file(name))

    def write_json(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=2) + "\n"
        self.write(name, lambda file: file.write(text.encode()))

    def result(self) -> dict[str, Any] | None:
        """What result.json holds; None while the run is not finished."""
        path = self.file("result.json")
        if not path.exists():
            return None
        try:
            return schema.result(read_text(path))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}. --restart trains again") from None

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one an epoch; a last line that a kill cut short does not count."""
        path = self.file("metrics.jsonl")
        try:
            lines = read_text(path).split("\n")[:-1] if path.exists() else []
            return [schema.epoch(line) for line in lines]
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}") from None

    def load(self, name: str) -> dict[str, Any]:
        """checkpoint.pt or best.pt, tensors on the CPU; nothing in the file is executed."""
        return torch.load(self.file(name), map_location="cpu", weights_only=True)

    def discard(self) -> None:
        """Throw away a run, finished or not; RunError while another process has it."""
        if self.path.is_dir():
            with self.lock():
                self.clear()

    def clear(self) -> None:
        """Remove what an earlier run left, but for the lock."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    def cut_metrics(self, n_epochs: int) -> None:
        """Drop the rows of epochs that a checkpoint does not cover."""
        rows = self.metrics()[:n_epochs]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.write("metrics.jsonl", lambda file: file.write(text.encode()))


def same_result(first: Path, second: Path) -> list[str]:
    """Names of what differs between two finished runs, to the bit; times and memory do not count. Empty: the same."""
    a, b = RunDirectory(Path(first)), RunDirectory(Path(second))
    differing = []
    if _without(a.result(), RESULT_TIMES) != _without(b.result(), RESULT_TIMES):
        differing.append("result.json")
    if [_without(row, EPOCH_TIMES) for row in a.metrics()] != [_without(row, EPOCH_TIMES) for row in b.metrics()]:
        differing.append("metrics.jsonl")
    for name in ("per_user.npz", "topk.npz"):
        with np.load(a.file(name)) as left, np.load(b.file(name)) as right:
            if left.files != right.files or any(not np.array_equal(left[key], right[key]) for key in left.files):
                differing.append(name)
    for name in ("best.pt", "checkpoint.pt"):
        left, right = a.load(name), b.load(name)
        for state in (left, right):
            if "progress" in state:
                state["progress"] = _without(state["progress"], EPOCH_TIMES)
        if not identical(left, right):
            differing.append(name)
    return differing


def _without(mapping: dict[str, Any] | None, keys) -> dict[str, Any] | None:
    return mapping and {key: value for key, value in mapping.items() if key not in keys}
