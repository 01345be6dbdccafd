"""`python -m benchmarks.processes`: pairs a second of sampled steps by one process with one thread, and by several.

The processes are started by torchrun, in turn with a single one, on a synthetic catalogue of benchmarks.growth. A single
process draws in a second thread. So it is measured twice: on one core, where both threads share the core, and free to use
another core for the draw. Other load lengthens the seconds on the clock, so the seconds of the processor stand beside them:
those of one step in one process, draw and messages included.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

import mambarec.nn.graph
from benchmarks.growth import _random_neighbours, write_catalogue
from benchmarks.measure import ROOT
from benchmarks.workloads import Steps
from mambarec.base.processes import joined_processes
from mambarec.training.prefetching import prefetched


def measure(folder: Path, run: str, n_steps: int, warm_up: int = 3) -> tuple[float, float] | None:
    """Seconds of a step on the clock and of the processor, in this process; None but in the first of several."""
    torch.set_num_threads(1)
    mambarec.nn.graph.nearest_neighbours = _random_neighbours
    with joined_processes(torch.device("cpu")) as processes:
        steps = Steps(run, folder, propagation="sampled", threads=1)
        samples = prefetched(steps.trainer._samples(steps.loader, 0))
        ends = []
        for step, sample in enumerate(itertools.islice(samples, warm_up + n_steps)):
            steps.trainer._train_step(sample, step)
            ends.append((time.perf_counter(), time.process_time()))
        samples.close()  # type: ignore[attr-defined]
        clock, processor = np.diff(ends[warm_up - 1 :], axis=0).T  # of each step, with what it waited for its draw
        return (float(np.median(clock)), float(processor.mean())) if processes.is_first else None


def started(n: int, *words: str, core: int | None = None) -> tuple[float, float]:
    """What `measure` returns in the first of n processes; core: the only one that they may use."""
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)] if n > 1 else []
    command = [sys.executable, *many, "-m", "benchmarks.processes", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    bound = None if core is None else partial(os.sched_setaffinity, 0, {core})
    out = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=bound
    ).stdout
    return json.loads(out)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.processes", description="Pairs a second by several processes.")
    parser.add_argument("--kind", default="MambaRec/fixed", metavar="NAME", help="MambaRec/fixed or LightGCN")
    parser.add_argument("--scale", type=float, default=1, metavar="N", help="times Baby (1)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many work together (2)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each is measured (3)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="steps that are timed (10)")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        seconds = measure(options.alone, options.kind, options.steps)
        if seconds is not None:
            print(json.dumps(seconds))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_catalogue(Path(scratch) / "baby", options.scale, dtype=np.float16)
        words = ["--alone", str(folder), "--kind", options.kind, "--steps", str(options.steps)]
        core = min(os.sched_getaffinity(0))
        ways = {
            "one process on one core": partial(started, 1, *words, core=core),
            "one process": partial(started, 1, *words),
            f"{options.processes} processes": partial(started, options.processes, *words),
        }
        taken = np.array([[start() for start in ways.values()] for _ in range(options.rounds)])  # rounds, ways, clocks
    seconds, gains = np.median(taken, 0), np.median(taken / taken[:, -1:], 0)
    print(f"{options.kind}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {options.rounds} rounds")
    for way, (clock, processor), gain in zip(ways, seconds, gains, strict=True):
        faster = f"{list(ways)[-1]} are {gain[0]:.2f} and {gain[1]:.2f} times as fast"
        print(f"{way:23}  {clock:.3f} s/step by the clock, {processor:.3f} of the processor; {faster}")


if __name__ == "__main__":
    main()
