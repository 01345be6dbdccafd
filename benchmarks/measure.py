"""Times of several things in turn in one process, and the memory and the start of a process of its own."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mambarec.base.memory import keep_freed_memory, return_freed_memory

ROOT = Path(__file__).resolve().parents[1]


class Times(list[float]):
    """Seconds of one thing, measured several times."""

    @property
    def median(self) -> float:
        return statistics.median(self)

    @property
    def spread(self) -> float:
        """Half the distance from the fastest to the slowest."""
        return (max(self) - min(self)) / 2


def in_turn(
    things: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Seconds of each thing in each round. What is named 'plain …' runs with the allocator as it comes, as it would alone.

    clock: time.process_time counts the seconds of the processor, which other processes lengthen little.
    """
    times = {name: Times() for name in things}
    for number in range(warm_up + rounds):
        for name, thing in things.items():
            if name.startswith("plain"):
                return_freed_memory()
            started = clock()
            thing()
            seconds = clock() - started
            if name.startswith("plain"):
                keep_freed_memory()
            if number >= warm_up:
                times[name].append(seconds)
    return times


def fresh_process(module: str, *arguments: str) -> str:
    """What `python -m module` prints, and its start before that: seconds since the epoch, in the environment's BENCH_START."""
    environment = {**os.environ, "BENCH_START": repr(time.time())}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
