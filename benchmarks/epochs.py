"""`make bench-epochs`: whole epochs and evaluations of every model, on a GPU where there is one; there with CUDA graphs too."""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import ROOT, in_turn
from benchmarks.workloads import RUNS, Steps, source, with_features
from utils.topk_evaluator import TopKEvaluator

HEADER = f"{'':20}{'s/epoch':>9}{'spread':>9}{'busy':>7}{'recorded':>10}{'busy':>7}{'s/evaluation':>14}{'GPU MB':>9}"


def measure(run: str, folder: Path, rounds: int, use_gpu: bool = True, **overrides) -> dict[str, float]:
    """Seconds of an epoch and of an evaluation on test; on a GPU also its busy share of an epoch and its peak memory, MB.

    recorded, recorded_busy: the same of an epoch with `cuda_graphs`, where the step can be recorded. An epoch counts what comes
    before its first step, and ends with its loss on the host.
    """
    steps = Steps(run, folder, use_gpu=use_gpu, **overrides)
    trainer, evaluator = steps.trainer, TopKEvaluator(steps.trainer.config)
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(trainer.device)

    def epoch() -> None:
        trainer._train_epoch(steps.loader, 0)

    times = in_turn({"epoch": epoch, "evaluation": lambda: evaluator.evaluate(trainer.model, steps.test)}, rounds)
    seconds = times["epoch"].median
    row = {"epoch": seconds, "spread": times["epoch"].spread, "evaluation": times["evaluation"].median}
    if not on_gpu:
        return row
    row["busy"] = _busy_seconds(epoch) / seconds
    trainer.records = True
    seconds = in_turn({"recorded": epoch}, rounds)["recorded"].median
    if trainer.records:  # the step could be recorded
        row |= {"recorded": seconds, "recorded_busy": _busy_seconds(epoch) / seconds}
    return row | {"peak": torch.cuda.max_memory_allocated(trainer.device) / 2**20}


def _busy_seconds(work: Callable[[], None]) -> float:
    """How long the GPU's kernels and copies run in `work`, seconds."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6


def _line(run: str, row: dict[str, float]) -> str:
    """Of the table under HEADER."""
    columns = {
        "epoch": (9, ".3f"),
        "spread": (9, ".3f"),
        "busy": (7, ".0%"),
        "recorded": (10, ".3f"),
        "recorded_busy": (7, ".0%"),
    }
    columns |= {"evaluation": (14, ".3f"), "peak": (9, ",.0f")}
    cells = (f"{format(row[name], form) if name in row else '-':>{width}}" for name, (width, form) in columns.items())
    return f"{run:20}" + "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.epochs", description="Whole epochs and evaluations of every model.")
    parser.add_argument("-d", "--dataset", default="baby", help="its name (baby)")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data", help="the folder above it (data/)")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), metavar="RUN", help="only these")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each (5)")
    options = parser.parse_args()
    original = source(options.data_path, options.dataset)

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{options.dataset} on {device}, torch {torch.__version__}; load {os.getloadavg()[0]:.1f}")
    print(HEADER)
    with tempfile.TemporaryDirectory() as scratch:
        folder = with_features(original, Path(scratch))
        for run in options.runs:
            print(_line(run, measure(run, folder, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
