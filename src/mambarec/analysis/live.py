"""Runs that are not finished: how far they are, whether they still go on, and a page that is written again until they end."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from mambarec.analysis.records import Record, has_runs, load_records
from mambarec.analysis.selection import Wanted, shown_so_far
from mambarec.base.bounded import read_json
from mambarec.base.errors import RunError
from mambarec.base.words import count, duration
from mambarec.running.directory import RunDirectory, trial_name
from mambarec.running.lookup import Described

QUIET = 60.0  # seconds without a change, and without a process at work, after which the runs have ended
_SETTINGS = {
    "model": str,
    "dataset": str,
    "seed": int,
    "valid_metric": str,
    "epochs": int,
    "stopping_step": int,
    "min_epochs": int,
}
_END = 2**20  # bytes of a log that are looked at
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")  # how a line of train.log begins
RUNNING, STOPPED, PRUNED, FAILED = "running", "stopped", "pruned", "failed"


@dataclass(frozen=True)
class Unfinished(Described):
    """A run without a result: its settings, the rows of metrics.jsonl so far, and how it stands.

    changed: when a file of it last changed, seconds since 1970. error: the last line of the traceback in train.log, if the log
    ends with one. in_use: whether a process on this machine is seen to hold its lock. is_pruned: a search has ended it early.
    """

    config: dict[str, Any]
    epochs: list[dict[str, Any]]
    path: Path
    changed: float
    error: str
    in_use: bool
    is_pruned: bool = False

    @classmethod
    def of_run(cls, path: Path, in_use: bool) -> "Unfinished":
        directory = RunDirectory(path)
        config = read_json(directory.file("config.json"), _SETTINGS)
        times = [file.stat().st_mtime for file in path.iterdir() if file.is_file() and file.name != ".lock"]
        error = _last_error(directory.file("train.log"))
        return cls(config, directory.metrics(), path, max(times), error, in_use, directory.is_pruned)

    @cached_property
    def progress(self) -> tuple[int | None, float, int]:
        """The best epoch so far (from 0; None before the first validation), its value, and the evaluations since that count."""
        best, value, without = None, float("-inf"), 0
        for row in self.epochs:
            if "valid" not in row:
                continue
            found = row["valid"][self.valid_metric]
            if found > value:
                best, value, without = row["epoch"], found, 0
            elif row["epoch"] >= self.config["min_epochs"]:
                without += 1
        return best, value, without

    @property
    def longest_epoch(self) -> float:
        return max((row.get("seconds_train", 0.0) + row.get("seconds_eval", 0.0) for row in self.epochs), default=0.0)

    def state(self, now: float) -> str:
        """RUNNING while a process holds it, or something of it changed lately; then FAILED, PRUNED or STOPPED."""
        if self.in_use:
            return RUNNING
        if self.error or self.is_pruned:
            return FAILED if self.error else PRUNED
        return RUNNING if now - self.changed < max(QUIET, 5 * self.longest_epoch) else STOPPED

    def words(self, now: float) -> list[str]:
        """Epoch of the limit, best so far, patience, and when it last moved: the cells of a table."""
        best, value, without = self.progress
        return [
            f"{len(self.epochs)} of at most {self.config['epochs']}",
            "–" if best is None else f"{value:.4f} in epoch {best + 1}",
            f"{without} of {self.config['stopping_step']}",
            f"{duration(max(0.0, now - self.changed))} ago",
            self.state(now),
        ]


COLUMNS = ("Epoch", "Best on validation so far", "Evaluations without a better one", "Last change", "State")


@dataclass(frozen=True)
class Live:
    """What makes a page a live one: the unfinished runs, when it was written, and after how many seconds it reads itself anew.

    seconds: None once the runs have ended.
    """

    runs: list[Unfinished]
    written: float
    seconds: int | None

    @property
    def stamp(self) -> str:
        return datetime.fromtimestamp(self.written).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")

    @property
    def summary(self) -> str:
        """'2 runs go on, 1 run failed.'"""
        states = [run.state(self.written) for run in self.runs]
        words = {RUNNING: ("goes on", "go on"), STOPPED: ("was stopped", "were stopped"), FAILED: ("failed", "failed")}
        words[PRUNED] = ("was pruned", "were pruned")
        found = {state: states.count(state) for state in words if state in states}
        return ", ".join(f"{count(n, 'run')} {words[state][n > 1]}" for state, n in found.items()) or "no run is unfinished"


def unfinished(paths: Sequence[Path]) -> list[Unfinished]:
    """The unfinished runs below some folders; one that is being made or thrown away at this moment is passed over."""
    runs = [path.parent for folder in paths for path in sorted(folder.rglob("config.json"))]
    found = [run for run in runs if not (run / "result.json").exists()]
    held = _held_locks() if found else set()
    made = []
    for run in found:
        try:
            made.append(Unfinished.of_run(run, f"{(run / '.lock').resolve()}" in held))
        except (OSError, ValueError, KeyError, RunError):
            continue
    return made


def until_they_end(
    read: Callable[[], tuple[list[Record], list[Unfinished]]], seconds: int, clock: Any = time
) -> Iterator[tuple[list[Record], Live]]:
    """What `read` gives, finished and unfinished runs, every so many seconds; the last once the runs have ended.

    clock: has time() and sleep(). Before the first run appears it waits. After a run has ended it waits for QUIET seconds,
    since the next one of the same command may be about to start.
    """
    seen, changed = None, clock.time()
    while True:
        finished, runs = read()
        now = clock.time()
        state = [*(record.source for record in finished), *((run.path, run.changed) for run in runs)]
        if state != seen:
            changed = changed if seen is None else now
            seen = state
        is_over = bool(state) and now - changed >= QUIET and not any(run.state(now) == RUNNING for run in runs)
        yield finished, Live(runs, now, None if is_over else seconds)
        if is_over:
            return
        clock.sleep(seconds)


def finished_and_not(paths: Sequence[Path], wanted: Wanted) -> tuple[list[Record], list[Unfinished]]:
    """The finished and the unfinished runs that a live page shows, as `until_they_end` reads them.

    They are those of `selection.shown_so_far`, and every run that a process is at work on.
    """
    is_shown = shown_so_far([path for path in paths if path.is_dir()], wanted)
    there = [path for path in paths if has_runs(path)]
    finished = load_records(there) if there else []
    others = unfinished([path for path in paths if path.is_dir()])
    return (
        [one for one in finished if is_shown(one.trial, one.config | one.settings() | {"seed": one.seed}, one)],
        [one for one in others if is_shown(trial_name(one.path), one.config, in_use=one.in_use)],
    )


def _held_locks() -> set[str]:
    """The files that processes of this user hold open and that are locks of runs."""
    held: set[str] = set()
    for process in psutil.process_iter():
        try:
            held |= {file.path for file in process.open_files() if file.path.endswith(".lock")}
        except (psutil.Error, OSError):
            continue
    return held


def _last_error(log: Path) -> str:
    """The error that train.log ends with: the last line of a traceback after which nothing was logged; empty when none is."""
    text = ""
    if log.exists():
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _END))
            text = file.read().decode("utf-8", "replace")
    _, traceback, rest = text.rpartition("Traceback (most recent call last):\n")
    lines = [line for line in rest.splitlines() if line and not line.startswith("  ")]
    return lines[0] if traceback and lines and not any(_LOGGED.match(line) for line in lines) else ""
