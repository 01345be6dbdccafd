"""`make bench`: every model's training step and what surrounds it, beside plain forms, as a table and as latest.json.

Where the data set has no image features, ones of width 4096 are generated beside a copy of it.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import ROOT, fresh_process, in_turn
from benchmarks.workloads import RUNS, Steps, plain_evaluation, source, with_features
from mambarec.evaluation.topk_evaluator import TopKEvaluator, representations_once
from mambarec.nn.neighbours import exact, nearest_neighbours, neighbour_search

OUTPUT = Path(__file__).with_name("latest.json")
HEADER = (
    f"{'':20}{'s/step':>9} {'spread':>7}{'plain':>9}{'ratio':>8}{'s/epoch':>9}"
    f"{'peak MB':>9}{'plain':>9}{'parameters':>13}{'own':>13}"
)
EVALUATION = {"metrics": ["Recall", "NDCG", "Precision", "MAP"], "topk": [5, 10, 20, 50]}


def measure_steps(
    folder: Path, runs: list[str], rounds: int, plain_rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, dict]:
    """Of each run: seconds and spread of a step, of the plain form's, their ratio, both's peak memory, parameters, an epoch."""
    rows: dict[str, dict] = {}
    variants = [run for run in runs if run.startswith("MambaRec")]  # which are all compared with the plain released one
    for group in filter(None, [variants, *([run] for run in runs if run not in variants)]):
        reference = "MambaRec/released" if group is variants else group[0]
        fast = {run: Steps(run, folder) for run in group}
        times = in_turn({**fast, "plain": Steps(reference, folder, plain=True)}, plain_rounds, clock=clock)
        plain, plain_peak = times["plain"], _peak_mb(reference, folder, "plain")
        times = in_turn(fast, rounds, clock=clock)
        for run, steps in fast.items():
            parameters, own = steps.trainer.parameters, steps.trainer.parameters_without_features
            rows[run] = {
                "seconds": times[run].median,
                "spread": times[run].spread,
                "plain_seconds": plain.median,
                "ratio": plain.median / times[run].median,
                "peak_mb": _peak_mb(run, folder),
                "plain_peak_mb": plain_peak,
                "epoch_seconds": times[run].median * len(steps.loader),
                "parameters": parameters,
                "parameters_without_features": own,
            }
            row = rows[run]
            print(
                f"{run:20}{row['seconds']:9.3f} ±{row['spread']:6.3f}{row['plain_seconds']:9.3f}{row['ratio']:8.1f}"
                f"{row['epoch_seconds']:9.2f}{row['peak_mb']:9.0f}{plain_peak:9.0f}{parameters:13,}{own:13,}",
                flush=True,
            )
        del fast, steps
    return rows


def _peak_mb(run: str, folder: Path, *form: str) -> float:
    """The most memory that a process with this run alone needs, MB."""
    return json.loads(fresh_process("benchmarks.alone", run, str(folder), *form))["peak_mb"]


def measure_evaluation(steps: Steps) -> dict[str, float]:
    """From ready representations to four metrics at cut-offs to 50, over the users of test."""
    model, evaluator = steps.trainer.model, TopKEvaluator(steps.trainer.config)
    with torch.no_grad(), representations_once(model):
        users, items = model.representations()
        times = in_turn(
            {
                "fast": lambda: evaluator.evaluate(model, steps.test),
                "plain": lambda: plain_evaluation(users, items, steps.test),
            },
            rounds=3,
        )
    fast, plain = times["fast"].median, times["plain"].median
    return {"seconds": fast, "plain_seconds": plain, "ratio": plain / fast, "users": len(steps.test.users)}


def measure_loader(steps: Steps) -> dict[str, float]:
    """An epoch of batches with their negatives, without a model, and beside LightGCN's steps on them."""
    times = in_turn({"loader": lambda: list(steps.loader), "step": steps}, rounds=5)
    seconds, epoch = times["loader"].median, times["step"].median * len(steps.loader)
    pairs = steps.loader.pairs.shape[1]
    return {"seconds": seconds, "pairs_per_second": pairs / seconds, "share_of_LightGCN_epoch": seconds / epoch}


def measure_graph(steps: Steps) -> dict[str, float]:
    """Neighbours of the widest features, computed and read again."""
    features = max(steps.trainer.model.features.values(), key=lambda table: table.shape[1])
    seconds = in_turn({"exact": lambda: exact(features, 10)}, rounds=2, warm_up=0)["exact"].median
    with tempfile.TemporaryDirectory() as folder, neighbour_search(Path(folder)):
        kept = in_turn({"kept": lambda: nearest_neighbours(features, 10)}, rounds=3)["kept"].median
    return {"seconds": seconds, "kept_seconds": kept}


def measure_startup(folder: Path) -> dict[str, float]:
    """From the start of the process to the end of MambaRec's first step, before and after its graphs are kept."""
    shutil.rmtree(folder.parent / "results", ignore_errors=True)
    cold, *warm = (json.loads(fresh_process("benchmarks.alone", "MambaRec/paper", str(folder))) for _ in range(4))
    best = min(warm, key=lambda alone: alone["first_step"])
    return {"cold_seconds": cold["first_step"], "warm_seconds": best["first_step"], "import_torch": best["import_torch"]}


def measure_roofline(steps: Steps) -> dict[str, float]:
    """GFLOP/s of the visual projection and its two gradients, and of square products of this machine."""
    table = steps.trainer.model.features["visual"]
    (n, width), dim = table.shape, 64
    weight, gradient, square = torch.randn(dim, width), torch.randn(n, dim), torch.randn(2048, 2048)
    times = in_turn(
        {
            "projection": lambda: table @ weight.T,
            "gradient_of_weight": lambda: gradient.T @ table,
            "gradient_of_features": lambda: gradient @ weight,
            "square": lambda: square @ square,
        },
        rounds=7,
    )
    square_rate = 2 * 2048**3 / times.pop("square").median / 1e9
    rates = {name: 2 * n * width * dim / seconds.median / 1e9 for name, seconds in times.items()}
    return {**rates, "square": square_rate}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.bench", description="Speed and memory beside plain forms.")
    parser.add_argument("-d", "--dataset", default="baby", help="its name (baby)")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data", help="the folder above it (data/)")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), metavar="RUN", help="only these steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (as many as it chooses)")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each model (7)")
    parser.add_argument("--plain-rounds", type=int, default=2, help="steps of each plain form (2)")
    parser.add_argument("--steps-only", action="store_true", help="leave out all but the steps")
    parser.add_argument("--cpu-time", action="store_true", help="steps in seconds of the processor, where others use it too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    original = source(options.data_path, options.dataset)

    with tempfile.TemporaryDirectory() as scratch:
        folder = with_features(original, Path(scratch))
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        print(f"{options.dataset} on {machine}, torch {torch.__version__}; load {os.getloadavg()[0]:.1f}")
        print(HEADER)
        clock = time.process_time if options.cpu_time else time.perf_counter
        steps_of = measure_steps(folder, options.runs, options.rounds, options.plain_rounds, clock)
        if options.steps_only:
            return
        results: dict = {"machine": machine, "step": steps_of}
        steps = Steps("LightGCN", folder, **EVALUATION)
        results["evaluation"] = measure_evaluation(steps)
        results["loader"] = measure_loader(steps)
        steps = Steps("VBPR", folder)
        results["graph"] = measure_graph(steps)
        results["roofline_gflops"] = measure_roofline(steps)
        results["startup"] = measure_startup(folder)
    for part in ("evaluation", "loader", "graph", "roofline_gflops", "startup"):
        print(f"{part:20}" + "  ".join(f"{name} {value:,.3f}" for name, value in results[part].items()))
    OUTPUT.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written: {OUTPUT}")


if __name__ == "__main__":
    main()
