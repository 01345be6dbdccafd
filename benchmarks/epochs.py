"""`make bench-epochs`: whole epochs and evaluations of every model, on a GPU where there is one; there with CUDA graphs too."""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import ROOT, fresh_process, in_turn
from benchmarks.workloads import RUNS, Steps, source, with_features
from mambarec.evaluation.topk_evaluator import TopKEvaluator

HEADER = f"{'':20}{'s/epoch':>9}{'spread':>9}{'busy':>7}{'s/evaluation':>14}{'GPU MB':>9}"


def measure(run: str, folder: Path, rounds: int, use_gpu: bool = True, **overrides) -> dict[str, dict[str, float]]:
    """Of 'plain' epochs, and on a GPU of 'recorded' ones (CUDA graphs): seconds, spread, and seconds of an evaluation on test.

    On a GPU also the share of an epoch in which it is busy, and the memory it keeps at most, MB. An epoch counts what comes
    before its first step, and ends with its loss on the host. Epochs and evaluations take turns, as in training. Steps that
    cannot be recorded have no 'recorded'.
    """
    steps = Steps(run, folder, use_gpu=use_gpu, **overrides)
    trainer, evaluator = steps.trainer, TopKEvaluator(steps.trainer.config)
    on_gpu = trainer.device.type == "cuda"

    def epoch() -> None:
        trainer._train_epoch(steps.loader, 0)

    rows = {}
    for kind in ("plain", "recorded") if on_gpu else ("plain",):
        trainer.records = kind == "recorded"
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(trainer.device)
        times = in_turn({"epoch": epoch, "evaluation": lambda: evaluator.evaluate(trainer.model, steps.test)}, rounds)
        rows[kind] = {"epoch": times["epoch"].median, "spread": times["epoch"].spread, "evaluation": times["evaluation"].median}
        if on_gpu:
            rows[kind]["peak"] = torch.cuda.max_memory_reserved(trainer.device) / 2**20
    if on_gpu and not trainer.records:  # it was refused
        del rows["recorded"]
    if on_gpu:  # after all times: a profiler stays with a process
        for kind, row in rows.items():
            trainer.records = kind == "recorded"
            row["busy"] = _busy_seconds(epoch) / row["epoch"]
    return rows


def _busy_seconds(work: Callable[[], None]) -> float:
    """How long the GPU's kernels and copies run in `work`, seconds."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6


def _line(name: str, row: dict[str, float]) -> str:
    """Of the table under HEADER."""
    columns = {"epoch": (9, ".3f"), "spread": (9, ".3f"), "busy": (7, ".0%"), "evaluation": (14, ".3f"), "peak": (9, ",.0f")}
    cells = (f"{format(row[key], form) if key in row else '-':>{width}}" for key, (width, form) in columns.items())
    return f"{name:20}" + "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.epochs", description="Whole epochs and evaluations of every model.")
    parser.add_argument("-d", "--dataset", default="baby", help="its name (baby)")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data", help="the folder above it (data/)")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), metavar="RUN", help="only these")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each (5)")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.runs[0], options.alone, options.rounds)))
        return
    original, rounds = source(options.data_path, options.dataset), ["--rounds", str(options.rounds)]

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{options.dataset} on {device}, torch {torch.__version__}; load {os.getloadavg()[0]:.1f}")
    print(HEADER)
    with tempfile.TemporaryDirectory() as scratch:
        folder = with_features(original, Path(scratch))
        for run in options.runs:  # each in a process of its own
            rows = json.loads(fresh_process("benchmarks.epochs", "--alone", str(folder), "--runs", run, *rounds))
            for kind, row in rows.items():
                print(_line(run if kind == "plain" else f"  {kind}", row), flush=True)


if __name__ == "__main__":
    main()
