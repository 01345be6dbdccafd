"""Trials in worker processes of this machine, side by side, within its memory."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch
from pebble import ProcessExpired, ProcessPool

from experiments.trials import Outcome, Trial, attempt, finished_results
from utils.logger import get_logger, silence_console

_RESERVE = 0.1  # share of the machine's memory that stays free
_LOOK_SECONDS = 1.0


def threads_each(jobs: int) -> int:
    """Threads of a trial when `jobs` of them share this machine."""
    return max(1, torch.get_num_threads() // jobs)


@dataclass(frozen=True)
class LocalProcesses:
    """An engine: `jobs` trials at a time, each in a worker process that goes on to the next when it is done.

    A trial starts beside others only when the memory that its kind was seen to need is free. When memory runs short all the
    same, the trial that started last is stopped, and goes on from its checkpoint when there is room. A worker that dies
    fails its trial alone. The trials' key `threads` must be set: see `threads_each`.
    """

    jobs: int

    def __call__(self, trials: Sequence[Trial]) -> Iterator[Outcome]:
        waiting = deque(trials)
        running: dict[Any, Trial] = {}
        stopped: set[Path] = set()  # for want of memory; these wait until nothing else runs
        needs = {trial.path.parent: _known_need(trial) for trial in trials}  # bytes, by model and data set
        reserve = _RESERVE * psutil.virtual_memory().total

        def fits(trial: Trial) -> bool:
            return trial.path not in stopped and free_memory() - needs[trial.path.parent] > reserve

        pool = ProcessPool(self.jobs, context=get_context("spawn"), initializer=_set_up_worker, initargs=[os.getpid()])
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs and (not running or fits(waiting[0])):
                    trial = waiting.popleft()
                    running[pool.schedule(_work, args=[trial])] = trial
                done, _ = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = _outcome(future, running.pop(future))
                    needs[outcome.trial.path.parent] = _known_need(outcome.trial)
                    yield outcome
                if len(running) > 1 and free_memory() < reserve:
                    future, trial = running.popitem()
                    future.cancel()
                    stopped.add(trial.path)
                    waiting.appendleft(trial)
                    get_logger().warning("memory runs short: %s waits", trial.name)
            pool.close()
        finally:
            pool.stop()
            pool.join()


def _known_need(trial: Trial) -> float:
    """Bytes that the largest finished run of the trial's model on its data took; 0 when there is none, and on a GPU."""
    if trial.config["device"].type == "cuda":
        return 0.0  # runs there record the GPU's memory, not the process's
    peaks = [result["peak_memory_mb"] or 0.0 for result in finished_results(trial.path.parent)]
    return max(peaks, default=0.0) * 2**20


def free_memory() -> float:
    """Bytes that processes can still take: of the machine, or of the control group that a container gives them."""
    available = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and limit.read_text().strip().isdigit():
        cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        used = int((group / "memory.current").read_text()) - int(cache)
        available = min(available, int(limit.read_text()) - used)
    return available


def _set_up_worker(parent: int) -> None:
    """Leave Ctrl-C and the console to the parent, and die with it, however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TQDM_DISABLE"] = "1"
    silence_console()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(trial: Trial) -> Outcome:
    torch.set_num_threads(trial.config["threads"])
    return attempt(trial)


def _outcome(future, trial: Trial) -> Outcome:
    """Of `trial` itself, not of the copy that was sent to a worker and back: a search knows its trials again."""
    try:
        return replace(future.result(), trial=trial)
    except ProcessExpired as death:
        reason = "perhaps for want of memory" if death.exitcode == -signal.SIGKILL else "see its train.log"
        return Outcome(trial, error=f"its process died with exit status {death.exitcode}, {reason}")
