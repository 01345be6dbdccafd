"""The directory of one run: its files, each written beside its place and renamed, its lock, and how two runs differ.

results/<dataset>/<model>/<run>/ holds config.json, environment.json, train.log, metrics.jsonl (a line an epoch),
checkpoint.pt (to resume) and checkpoint.older.pt (the one before, until the run is finished), best.pt (the model at the best
epoch), per_user.npz and topk.npz (test, at the best epoch), pruned.json where a search has ended the run early, result.json,
written last: where it is, the run is finished; and manifest.json, the SHA-256 of all of these but train.log, by which a damaged
file is noticed when it is read.
"""

import errno
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

from mambarec.base.bounded import ARRAYS, TEXT, first_line, parse_json, read_arrays, read_bytes, read_text
from mambarec.base.console import show
from mambarec.base.equality import identical
from mambarec.base.errors import RunError
from mambarec.base.files import file_digest, naming, placed, replacing, write_text
from mambarec.base.logger import get_logger
from mambarec.base.words import option
from mambarec.running import schema
from mambarec.running.pruning import PRUNED

RESULT_TIMES = ("seconds_per_epoch", "seconds_total", "peak_memory_mb")  # not part of what a run computes
LOGS = ("train.log", "metrics.jsonl")
EPOCH_TIMES = ("seconds_train", "seconds_eval")
CHECKPOINT, OLDER = "checkpoint.pt", "checkpoint.older.pt"
_GLANCE_SECONDS = 1.0  # in which who looks whether a run is in use lets go of its lock again
_RESTART = ".restart"  # in the directory of a run that the next training is to throw away
BEST = ("best.pt", "per_user.npz", "topk.npz")  # written together, whenever validation improves
TABLE_FILES = ("config.json", "environment.json", "metrics.jsonl", "per_user.npz", "result.json")  # what tables are made of
AGAIN = "Remove the directory of this run and give its command again: it trains this run anew"
_MANIFEST, _METRICS, _RESULT = "manifest.json", "metrics.jsonl", "result.json"
_SCHEMAS = {
    "config.json": schema.config,
    "environment.json": schema.environment,
    PRUNED: schema.pruned,
    _RESULT: schema.result,
}


def trial_name(path: Path) -> str:
    """A run's directory below its results_dir: DATASET/MODEL/RUN."""
    return "/".join(Path(path).absolute().parts[-3:])


class RunDirectory:
    """The files of one run. Each is written beside its place and renamed, so none is ever half-written.

    Before a file takes its place, its SHA-256 joins that of the file it replaces in manifest.json. So each file has one of the
    two at any moment, also after a kill, unless something else has changed it.
    """

    def __init__(self, path: Path):
        self.path = path

    def file(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the directory and keep other processes out of it; RunError when it cannot be had."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.file(".lock"), timeout=_GLANCE_SECONDS)
            lock.acquire()
        except filelock.Timeout:
            raise RunError(f"{self.path} is in use by another process; wait for it, or give this run another seed") from None
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written ({error.strerror}); name another place with {option('results_dir')}"
            ) from None
        try:
            for unfinished in self.path.glob("*.tmp"):  # of a process that was killed: no other writes here now
                unfinished.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    # writing

    def write(self, name: str, save: Callable[[Any], None]) -> None:
        """Let `save` fill a binary file that becomes `name` once it is complete and on disk."""
        self.write_all({name: save})

    def write_all(self, files: Mapping[str, Callable[[Any], None]], move: Callable[[], None] = lambda: None) -> None:
        """Write several files: none takes its place before all are complete. move: done just before the first does."""
        with _all_placed([self.file(name) for name in files]) as places:
            for save, place in zip(files.values(), places, strict=True):
                with _cause_of_torch(), place.open("wb") as file:
                    save(file)
            digests = self._digests()
            for name, place in zip(files, places, strict=True):
                digests[name] = [file_digest(place), *digests.get(name, [])[:1]]
            if CHECKPOINT in files:
                digests[OLDER] = [*digests[CHECKPOINT][1:], *digests.get(OLDER, [])[:1]]
            self._write_manifest(digests)
            move()

    def remove(self, name: str) -> None:
        """Remove a file that the run no longer writes, if it is there."""
        if self.file(name).exists():
            self._write_manifest({other: digests for other, digests in self._digests().items() if other != name})
            self.file(name).unlink()

    def write_json(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=2) + "\n"
        self.write(name, lambda file: file.write(text.encode()))

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append the row of an epoch to metrics.jsonl."""
        path = self.file(_METRICS)
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write checkpoint.pt, with the lines of metrics.jsonl in it; what was checkpoint.pt is kept as checkpoint.older.pt."""
        state = {**state, "metrics": self._lines()}

        def keep_older() -> None:
            with suppress(FileNotFoundError):
                self.file(CHECKPOINT).replace(self.file(OLDER))

        self.write_all({CHECKPOINT: lambda file: torch.save(state, file)}, keep_older)

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json, last of all; RunError when a file is not what this run has written, or is of another epoch."""
        self._check_best(result)
        text = json.dumps(result, indent=2) + "\n"
        digests = {name: [self._checked(name)] for name in self._names() if name not in (_METRICS, _RESULT, OLDER)}
        digests[_METRICS] = [file_digest(self.file(_METRICS))]
        digests[_RESULT] = [hashlib.sha256(text.encode()).hexdigest()]
        self._write_manifest(digests)
        write_text(self.file(_RESULT), text)
        self.file(OLDER).unlink(missing_ok=True)

    def _check_best(self, result: Mapping[str, Any]) -> None:
        """RunError where the files of the best epoch are of another one than `result`.

        A run that is killed between these files and its checkpoint trains the epoch again. On a GPU the
        numbers may differ, and another epoch may be best then.
        """
        if not self.file("per_user.npz").exists():
            return
        values = self.arrays("per_user.npz")
        for name, figure in result["test"].items():
            if abs(float(values[name].mean()) - figure) > 1e-6:
                raise RunError(
                    f"{self.path}: its best model has test {name} {values[name].mean():.4f}, and its best epoch {figure:.4f}. "
                    f"It was killed while it saved this model, and trained another one afterwards. {AGAIN}"
                )

    # reading

    def result(self) -> dict[str, Any] | None:
        """What result.json holds; None while the run is not finished. RunError when it is damaged."""
        return self.read_json(_RESULT) if self.is_finished else None

    def read_json(self, name: str) -> dict[str, Any]:
        """What a JSON file of the run holds, as running.schema has it; RunError when it is missing, damaged or another."""
        content = self._content(name, TEXT)
        try:
            return _SCHEMAS[name](content)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{self.file(name)} cannot be read: {error}. {AGAIN}") from None

    def check_table_files(self) -> None:
        """RunError where a file that tables are made of is missing or damaged. The model is checked when it is opened."""
        for name in TABLE_FILES:
            self._checked(name)

    def settings(self) -> dict[str, Any]:
        """What config.json holds; empty where it is not there or damaged."""
        try:
            return self.read_json("config.json")
        except (RunError, OSError):
            return {}

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one an epoch; a last line that a kill cut short does not count.

        RunError when the file of a finished run is damaged.
        """
        if self.is_finished:
            self._checked(_METRICS)
        try:
            return [schema.epoch(line) for line in self._lines()]
        except ValueError as error:
            raise RunError(f"{self.file(_METRICS)} cannot be read: {error}. {AGAIN}") from None

    def n_epochs(self) -> int:
        """The epochs in metrics.jsonl; 0 where it cannot be read, since a run that goes on restores it from its checkpoint."""
        try:
            return len(self.metrics())
        except RunError:
            return 0

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of per_user.npz or topk.npz; RunError when the file is missing or damaged."""
        content = self._content(name, ARRAYS)
        try:
            return read_arrays(io.BytesIO(content))
        except ValueError as error:
            raise RunError(f"{self.file(name)} cannot be read: {error}. {AGAIN}") from None

    def load(self, name: str) -> dict[str, Any]:
        """checkpoint.pt or best.pt, tensors on the CPU; nothing in the file is executed. RunError when it is damaged."""
        self._checked(name)
        try:
            return torch.load(self.file(name), map_location="cpu", weights_only=True)
        except Exception as error:  # a file without a manifest may hold anything, and torch raises almost anything then
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # torch's, of a file cut short
                raise
            raise RunError(f"{self.file(name)} cannot be read: {first_line(error)}. {AGAIN}") from None

    def checkpoint(self, name: str = CHECKPOINT) -> dict[str, Any]:
        """As `load`, with progress and, but for one of an older version, the lines of metrics.jsonl in their form."""
        state = self.load(name)
        try:
            progress = parse_json(state, {"progress": dict})["progress"]
            parse_json(progress, {"epoch": int, "best_epoch": int})
            lines = state.get("metrics")
            if lines is not None and len([schema.epoch(line) for line in lines]) != progress["epoch"] + 1:
                raise ValueError(f"it holds {len(lines)} lines of {_METRICS} after {progress['epoch'] + 1} epochs")
        except (ValueError, TypeError) as error:
            raise RunError(f"{self.file(name)} cannot be read: {error}. {AGAIN}") from None
        return state

    @property
    def is_finished(self) -> bool:
        return self.file(_RESULT).exists()

    @property
    def is_stopped(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.file(CHECKPOINT).exists() or self.file(OLDER).exists()

    @property
    def is_pruned(self) -> bool:
        """Whether a search has ended the run early, and it was not taken up again."""
        return self.file(PRUNED).exists() and not self.is_finished

    def last_checkpoint(self) -> dict[str, Any] | None:
        """The state to go on from, with metrics.jsonl cut to its epochs; None when there is no checkpoint.

        Where checkpoint.pt is damaged, it is the one before, and the log says so. Where best.pt or a file beside it is damaged,
        a checkpoint from before the best epoch serves: training writes these files again. RunError when none serves.
        """
        names = [name for name in (CHECKPOINT, OLDER) if self.file(name).exists()]
        if names and not self._digests():
            self._adopt()
        damaged_best, damaged, last_best = self._damaged_best(), [], -1
        for name in names:
            try:
                state = self.checkpoint(name)
            except RunError as error:
                damaged.append(error)
                continue
            progress = state["progress"]
            last_best = max(last_best, progress["best_epoch"])
            if damaged_best and progress["epoch"] >= last_best:
                damaged.append(damaged_best)
                continue
            if damaged:
                said = str(damaged[0]).removesuffix(f". {AGAIN}")
                get_logger().warning("%s. Training goes on from %s, after epoch %d", said, OLDER, progress["epoch"] + 1)
            self._restore_metrics(state)
            return state
        if names:
            raise damaged[0]
        return None

    def _damaged_best(self) -> RunError | None:
        """What is wrong with best.pt or a file that was written with it."""
        for name in BEST:
            if name in self._digests():
                try:
                    self._checked(name)
                except RunError as error:
                    return error
        return None

    def _restore_metrics(self, state: dict[str, Any]) -> None:
        """Give metrics.jsonl the lines that a checkpoint holds; one of an older version holds none, and covers the first."""
        lines = state.pop("metrics", None) or self._lines()[: state["progress"]["epoch"] + 1]
        write_text(self.file(_METRICS), "".join(lines))

    def _lines(self) -> list[str]:
        path = self.file(_METRICS)
        if not path.exists():
            return []
        try:
            text = read_bytes(path, TEXT).decode("utf-8", "replace")
        except ValueError as error:
            raise RunError(f"{path} cannot be read: {error}. {AGAIN}") from None
        return [line + "\n" for line in text.split("\n")[:-1]]

    # removing

    def adopt(self, other: "RunDirectory") -> None:
        """Take over what another run has learned and recorded; its checkpoint comes last, so that without it nothing counts."""
        for name in (*LOGS, *BEST, CHECKPOINT):
            if not other.file(name).exists():
                continue
            if name not in LOGS:
                other._checked(name)
            with other.file(name).open("rb") as source:
                copy = partial(shutil.copyfileobj, source)
                if name in LOGS:  # they grow, so the manifest has no digest of them yet
                    with replacing(self.file(name)) as file:
                        copy(file)
                else:
                    self.write(name, copy)

    def mark_for_restart(self) -> None:
        """Let the next training here throw away what there is, whoever starts it; `clear` takes the mark away."""
        if self.path.is_dir():
            self.file(_RESTART).touch()

    @property
    def is_to_restart(self) -> bool:
        return self.file(_RESTART).exists()

    def clear(self) -> None:
        """Remove what an earlier run left, but for the lock; after a kill in between, what remains counts as nothing."""
        first = [self.file(name) for name in (_RESULT, CHECKPOINT, OLDER, _MANIFEST)]
        for path in first:
            path.unlink(missing_ok=True)
        self.clear_remains()
        self.file("train.log").unlink(missing_ok=True)

    def clear_remains(self) -> None:
        """Remove what is there of a run without a checkpoint, but for its log and the lock."""
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in (".lock", "train.log"):
                path.unlink()

    # the manifest

    def _digests(self) -> dict[str, list[str]]:
        """The SHA-256 that each file may have; nothing for a run without a manifest. RunError when the manifest is damaged."""
        path = self.file(_MANIFEST)
        try:
            text = read_text(path)
            manifest = parse_json(text, {"files": dict, "sha256": str})
            if manifest == _sealed(manifest["files"]) and text == _plain(manifest):
                return manifest["files"]
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            pass
        raise RunError(
            f"{path} is damaged, so the other files of the run cannot be checked. {AGAIN}. Or remove {path.name} to use the "
            "files as they are"
        )

    def _write_manifest(self, files: dict[str, list[str]]) -> None:
        write_text(self.file(_MANIFEST), _plain(_sealed(files)))

    def _checked(self, name: str) -> str:
        """The SHA-256 of a file; RunError when it is missing, or is not what the manifest says."""
        with naming(self.file(name)):
            return self._compared(name, file_digest(self.file(name)) if self.file(name).exists() else None)

    def _content(self, name: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes; RunError as `_checked`."""
        path = self.file(name)
        try:
            with naming(path):
                content = read_bytes(path, limit) if path.exists() else None
        except ValueError as error:
            raise RunError(f"{path} cannot be read: {error}. {AGAIN}") from None
        self._compared(name, None if content is None else hashlib.sha256(content).hexdigest())
        return content or b""

    def _compared(self, name: str, digest: str | None) -> str:
        path, digests = self.file(name), self._digests()
        if digest is None:
            raise RunError(f"{path} does not exist. {AGAIN}")
        if not digests:
            _say_unchecked(self.path)
        if digest not in digests.get(name, [digest]):
            raise RunError(f"{path} is damaged: it is not the file that the run has written. {AGAIN}")
        return digest

    def _names(self) -> list[str]:
        """The files that a manifest covers, as far as they are there."""
        apart = {_MANIFEST, "train.log", ".lock"}
        return sorted(path.name for path in self.path.iterdir() if path.is_file() and path.name not in apart)

    def _adopt(self) -> None:
        """Begin the manifest of a run that was stopped before runs had one."""
        _say_unchecked(self.path)
        self._write_manifest({name: [file_digest(self.file(name))] for name in self._names() if name != _METRICS})


@contextmanager
def _all_placed(paths: list[Path]) -> Iterator[list[Path]]:
    """`placed` for several files."""
    if not paths:
        yield []
        return
    with placed(paths[-1]) as last, _all_placed(paths[:-1]) as others:
        yield [*others, last]


@contextmanager
def _cause_of_torch() -> Iterator[None]:
    """torch.save, when it is stopped by an error of the file or by Ctrl-C, ends with one of its own: let the cause leave."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError | KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _sealed(files: dict[str, list[str]]) -> dict[str, Any]:
    """What manifest.json holds: the digests, and that of these."""
    return {"files": files, "sha256": hashlib.sha256(_plain(files).encode()).hexdigest()}


def _plain(content: Any) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


_unchecked: list[Path] = []


def _say_unchecked(path: Path) -> None:
    """Say, once in a process, that a run has no manifest."""
    if not _unchecked:
        show(f"{path} has no {_MANIFEST}: damage to its files cannot be noticed", file=sys.stderr)
        _unchecked.append(path)


def same_result(first: Path, second: Path) -> list[str]:
    """Names of what differs between two finished runs, to the bit; times and memory do not count. Empty: the same."""
    a, b = RunDirectory(Path(first)), RunDirectory(Path(second))
    differing = []
    if _without(a.result(), RESULT_TIMES) != _without(b.result(), RESULT_TIMES):
        differing.append("result.json")
    if [_without(row, EPOCH_TIMES) for row in a.metrics()] != [_without(row, EPOCH_TIMES) for row in b.metrics()]:
        differing.append("metrics.jsonl")
    for name in ("per_user.npz", "topk.npz"):
        left, right = a.arrays(name), b.arrays(name)
        if list(left) != list(right) or any(not np.array_equal(left[key], right[key]) for key in left):
            differing.append(name)
    for name in ("best.pt", CHECKPOINT):
        states = a.load(name), b.load(name)
        for state in states:
            state.pop("metrics", None)  # compared already
            if "progress" in state:
                state["progress"] = _without(state["progress"], EPOCH_TIMES)
        if not identical(*states):
            differing.append(name)
    return differing


def _without(mapping: dict[str, Any] | None, keys) -> dict[str, Any] | None:
    return mapping and {key: value for key, value in mapping.items() if key not in keys}
