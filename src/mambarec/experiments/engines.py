"""Trials in processes of this machine, side by side, within its memory."""

import pickle
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import torch

from mambarec.base.logger import get_logger
from mambarec.base.memory import free_memory, total_memory
from mambarec.base.stopping import stop
from mambarec.experiments import worker
from mambarec.experiments.trials import Outcome, Show, Trial, how_to_go_on, show_nothing
from mambarec.running.lookup import finished_results
from mambarec.running.watching import Status

_RESERVE = 0.1  # share of the machine's memory that stays free
_LOOK_SECONDS = 1.0
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0  # with a process that was told to end at once


def threads_each(jobs: int) -> int:
    """Threads of a trial when `jobs` of them share this machine."""
    return max(1, torch.get_num_threads() // jobs)


class _Process:
    """A process that runs one trial. What it sends is put into `inbox`, with this object, and None when it has ended."""

    def __init__(self, trial: Trial, inbox: "Inbox"):
        self.trial, self.inbox = trial, inbox
        self.outcome: Outcome | None = None
        self.is_set_back = False  # for want of memory
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = worker.start(trial, self.errors)
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                self.inbox.put((self, pickle.load(self.process.stdout)))  # type: ignore[arg-type]
        except Exception:  # it has ended, perhaps in the middle of a message, of which pickle may raise anything
            pass
        finally:
            self.inbox.put((self, None))

    def ask_to_stop(self) -> None:
        """Let it save what it would lose, and end."""
        with suppress(BrokenPipeError):
            self.process.stdin.write(b".")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]

    def end_at_once(self) -> None:
        """Let it remove what it has not written to the end, and end."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()  # type: ignore[union-attr]

    def wait(self) -> int:
        """Its exit status, at the latest soon after end_at_once."""
        try:
            return self.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def death(self) -> str:
        """Wait for its end; how that came, in words, where there is no outcome."""
        status = self.wait()
        with self.errors as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").strip().splitlines()
        if status > 128 and lines:
            return lines[-1]  # it got a signal itself, and said what it saved
        said = "perhaps for want of memory" if status == -signal.SIGKILL else (lines or [self._log()])[-1]
        return f"its process died with exit status {status}, {said}"

    def _log(self) -> str:
        """Where a process that died without a word may have left some."""
        log = self.trial.path / "train.log"
        return f"see {log}" if log.exists() else "before it had logged anything"


Inbox = SimpleQueue[tuple[_Process, worker.Message | None]]


@dataclass(frozen=True)
class LocalProcesses:
    """An engine: `jobs` trials at a time, each in a process of its own, so that its peak of memory is its own.

    A trial starts beside others only when the memory that its kind was seen to need is free. When memory runs short all the
    same, the trial that started last is stopped, and goes on from its checkpoint when there is room. A process that dies
    fails its trial alone. The trials' key `threads` must be set where `jobs` is above 1: see `threads_each`.
    """

    jobs: int

    def __call__(self, trials: Sequence[Trial], show: Show = show_nothing) -> Iterator[Outcome]:
        crew = _Crew(self.jobs, trials, show)
        stop.last_acts.append(crew.end)
        try:
            with stop.guard(lambda: bool(crew.running), crew.last_words):
                yield from crew.work()
        finally:
            crew.end()
            stop.last_acts.remove(crew.end)


class _Crew:
    """The processes of one call of LocalProcesses, and the trials that wait for one."""

    def __init__(self, jobs: int, trials: Sequence[Trial], show: Show):
        self.jobs, self.waiting, self.show = jobs, deque(trials), show
        self.how_to_go_on = how_to_go_on(trials)
        self.running: list[_Process] = []
        self.inbox: Inbox = SimpleQueue()
        self.saved: dict[str, int] = {}  # the last epoch of unfinished trials that is in the checkpoint
        self.set_back: set[Path] = set()  # for want of memory; these wait until nothing else runs
        self.needs = {trial.path.parent: _known_need(trial) for trial in trials}  # bytes, by model and data set
        self.reserve = _RESERVE * total_memory()
        self.looked_at = 0.0
        self.asked_to_stop = False

    def work(self) -> Iterator[Outcome]:
        """Outcomes of all trials as they end; ends the process instead when it was asked to, and all have saved."""
        while self.waiting or self.running:
            if stop.signal:
                self._stop()
            else:
                self._start()
            with suppress(Empty):
                process, message = self.inbox.get(timeout=_POLL_SECONDS)
                if isinstance(message, Status):
                    self.saved[process.trial.name] = message.saved
                    self.show(process.trial, message)
                elif message is not None:
                    process.outcome = Outcome(process.trial, *message)
                    self.saved.pop(process.trial.name, None)
                elif outcome := self._dismiss(process):
                    yield outcome
            if time.monotonic() - self.looked_at > _LOOK_SECONDS:
                self._look_at_memory()

    def _start(self) -> None:
        """Start as many as there are places and memory for, and one in any case."""
        while self.waiting and len(self.running) < self.jobs and (not self.running or self._fits(self.waiting[0])):
            with stop.held():
                self.running.append(_Process(self.waiting.popleft(), self.inbox))

    def _fits(self, trial: Trial) -> bool:
        return trial.path not in self.set_back and free_memory() - self.needs[trial.path.parent] > self.reserve

    def _stop(self) -> None:
        if not self.running:
            stop.end()
        if not self.asked_to_stop:
            self.asked_to_stop = True
            get_logger().info("stopping: what is not saved yet is saved first. Ctrl-C again stops at once")
            for process in self.running:
                if not process.is_set_back:  # else it ends already, and cannot be told more
                    process.ask_to_stop()

    def _dismiss(self, process: _Process) -> Outcome | None:
        """Clear up after a process that has ended; its outcome, or None where its trial is to go on later."""
        self.running.remove(process)
        self.show(process.trial, None)
        how = process.death()
        self.needs[process.trial.path.parent] = _known_need(process.trial)
        if process.outcome is None and (process.is_set_back or stop.signal):
            self.waiting.appendleft(process.trial)
            return None
        return process.outcome or Outcome(process.trial, error=how)

    def _look_at_memory(self) -> None:
        """Stop the trial that started last when memory runs short."""
        self.looked_at = time.monotonic()
        active = [process for process in self.running if not process.is_set_back]
        if len(active) > 1 and free_memory() < self.reserve:
            active[-1].is_set_back = True
            active[-1].end_at_once()
            self.set_back.add(active[-1].trial.path)
            get_logger().warning("memory runs short: %s waits", active[-1].trial.name)

    def end(self) -> None:
        """End all processes, wherever they are."""
        for process in self.running:
            process.end_at_once()
        for process in self.running:
            process.wait()

    def last_words(self) -> str:
        epochs = ", ".join(f"{name} after epoch {epoch}" for name, epoch in self.saved.items() if epoch)
        return f"stopped. {f'Saved: {epochs}. ' if epochs else ''}{self.how_to_go_on}"


def _known_need(trial: Trial) -> float:
    """Bytes that the largest finished run of the trial's model on its data took; 0 when there is none, and on a GPU."""
    if trial.config["device"].type == "cuda":
        return 0.0  # runs there record the GPU's memory, not the process's
    peaks = [result["peak_memory_mb"] or 0.0 for result in finished_results(trial.path.parent)]
    return max(peaks, default=0.0) * 2**20
