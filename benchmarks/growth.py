"""`make bench-growth`: a training step, an evaluation, the kNN graphs and memory as the catalogue grows, as a table.

Synthetic catalogues of 1 to 16 times the users, items and interactions of Baby, each measured in a process of its own, then
data sets that one has. The exponent p of a cost is the slope of log cost over log size: cost grows as size^p.

With --sampled the steps are those of `propagation: sampled`, of features that stay on disk as float16; 64 and 160 times Baby
are for these. Seconds are those of one processor then, which other processes lengthen little, and a step includes its draw.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import mambarec.nn.graph
from benchmarks.measure import ROOT, fresh_process, in_turn
from benchmarks.workloads import Steps, generated_features, source, with_features
from mambarec.base.memory import process_peak_mb, release_freed_memory
from mambarec.evaluation.topk_evaluator import TopKEvaluator, representations_once
from mambarec.nn.neighbours import Neighbours, approximate, exact, recall
from mambarec.running.directory import RunDirectory
from mambarec.running.trained import Trained
from mambarec.serving.lists import recommend, trained_users

N_USERS, N_ITEMS, N_PAIRS = 19_445, 7_050, 160_792  # of Baby
FEWEST, POPULARITY = 5, 0.6  # interactions of a user; the exponent of an item's rank in its popularity
WIDTHS = {"image_feat.npy": 4096, "text_feat.npy": 384}
ROWS = 2**15  # of features that are generated at a time
USERS = 4096  # of the evaluation that are timed
EVALUATED = 20_000  # users of the evaluation of a sampled model
IN_TURN = 5  # full and sampled steps that are compared
COSTS = {"step": "s/step", "user": "µs/user", "graph": "s exact", "approximate": "s approx.", "peak": "peak MB"}


SAMPLED_COSTS = {
    "step": "s/step",
    "examples": "pairs/s",
    "rows": "rows/step",
    "resident": "MB trained",
    "vectors": "s vectors",
    "user": "µs/user",
    "list": "µs/list",
    "approximate": "s approx.",
    "recall": "recall",
    "peak": "MB in all",
    "full": "s full",
    "gain": "full/sampl.",
}


def write_catalogue(folder: Path, scale: float, widths: dict[str, int] = WIDTHS, dtype: type = np.float32) -> Path:
    """A data set of `scale` times Baby's size: users with 5 or more interactions, items by a power law, split 8:1:1."""
    rng = np.random.default_rng(0)
    n_users, n_items = round(scale * N_USERS), round(scale * N_ITEMS)
    counts = FEWEST - 1 + rng.geometric(1 / (N_PAIRS / N_USERS - FEWEST + 1), n_users)
    users = np.repeat(np.arange(n_users), counts)
    shares = np.cumsum(np.arange(1, n_items + 1) ** -POPULARITY)
    items = rng.permutation(n_items)[np.searchsorted(shares / shares[-1], rng.random(len(users)))]
    frame = pd.DataFrame({"userID": users, "itemID": items}).drop_duplicates()
    frame["x_label"] = rng.choice(3, len(frame), p=(0.8, 0.1, 0.1))
    folder.mkdir(parents=True)
    frame.to_csv(folder / f"{folder.name}.inter", sep="\t", index=False)
    for name, width in widths.items():
        write_features(folder / name, frame["itemID"].max() + 1, width, dtype)
    return folder


def write_features(path: Path, n_items: int, width: int, dtype: type) -> None:
    """Generated features (I, width) as a file, some rows at a time."""
    table = np.lib.format.open_memmap(path, "w+", dtype, (int(n_items), width))
    for start in range(0, n_items, ROWS):
        rows = generated_features(min(ROWS, n_items - start), width, start if n_items > ROWS else None)
        table[start : start + len(rows)] = rows
    table.flush()


def measure(folder: Path, run: str = "MambaRec/paper", rounds: int = 3) -> dict[str, float]:
    """Sizes, seconds of a step, of an evaluated user and of both searches for neighbours, and peak memory, of this process.

    The model's kNN graphs are made of random neighbours, since each is as large as that of the nearest; the searches for
    these are timed by themselves.
    """
    mambarec.nn.graph.nearest_neighbours = _random_neighbours
    steps = Steps(run, folder)
    times, model = in_turn({"step": steps}, rounds, warm_up=2), steps.trainer.model

    model.eval()
    evaluator, test = TopKEvaluator(steps.trainer.config), steps.test
    test.users, test.n_relevant = test.users[:USERS], test.n_relevant[:USERS]
    with torch.no_grad(), representations_once(model):
        seconds = in_turn({"user": lambda: evaluator.evaluate(model, test)}, rounds)["user"].median
    peak = process_peak_mb()
    return {
        "users": test.dataset.n_users,
        "items": test.dataset.n_items,
        "pairs": sum(map(len, test.dataset.users.values())),
        "step": times["step"].median,
        "user": seconds / len(test.users) * 1e6,
        "graph": _search_seconds(exact, model.features),
        "approximate": _search_seconds(approximate, model.features) if find_spec("faiss") else math.nan,
        "peak": peak,
    }


def measure_sampled(
    folder: Path, run: str, n_steps: int, search: bool, n_lists: int = 0, full: bool = False
) -> dict[str, float]:
    """Sizes and SAMPLED_COSTS of sampled steps, of an evaluation, then of lists for `n_lists` users, by the processor's clock.

    resident: memory after the steps, without the pages of files, such as the features. peak: the most, with these pages.
    search: find the neighbours of the text features approximately; the model's graphs are of random ones, as in `measure`.
    full: when memory has been measured, full steps of the same model take turns with sampled ones.
    """
    mambarec.nn.graph.nearest_neighbours = _random_neighbours
    steps = Steps(run, folder, propagation="sampled", threads=1)
    model, test, size = steps.trainer.model, steps.test, steps.loader.batch_size
    times = in_turn({"step": steps}, n_steps, warm_up=3, clock=time.process_time)["step"]
    rows = [len(one.grad._values()) for one in model.parameters() if one.grad is not None and one.grad.is_sparse]
    resident = _resident_mb()

    release_freed_memory()  # as the trainer does before an evaluation
    model.eval()
    evaluator = TopKEvaluator(steps.trainer.config)
    test.users, test.n_relevant = test.users[:EVALUATED], test.n_relevant[:EVALUATED]
    with torch.no_grad():
        started = time.process_time()
        with representations_once(model):
            vectors = time.process_time() - started
            users = in_turn({"user": lambda: evaluator.evaluate(model, test)}, 1, 0, time.process_time)["user"].median
    wanted = trained_users(test.dataset)[:n_lists]
    trained = Trained(steps.trainer.config, test.dataset, RunDirectory(folder), model)
    lists = in_turn({"all": lambda: [None for _ in recommend(trained, wanted, 20)]}, 1, 0, time.process_time)["all"].median
    text = model.features.get("text")
    found, share = math.nan, math.nan
    if search and text is not None:
        started = time.process_time()
        neighbours = approximate(text, 10)
        found, share = time.process_time() - started, recall(text, neighbours[1])
    peak, whole, gain = process_peak_mb(), math.nan, math.nan
    if full:
        model.train()
        compared = in_turn({"full": Steps(run, folder, threads=1), "sampled": steps}, IN_TURN, 2, time.process_time)
        whole = compared["full"].median
        gain = whole / compared["sampled"].median
    return {
        "users": test.dataset.n_users,
        "items": test.dataset.n_items,
        "pairs": sum(map(len, test.dataset.users.values())),
        "step": times.median,
        "examples": size / times.median,
        "rows": sum(rows),
        "resident": resident,
        "vectors": vectors,
        "user": users / len(test.users) * 1e6,
        "list": lists / n_lists * 1e6 if n_lists else math.nan,
        "approximate": found,
        "recall": share,
        "peak": peak,
        "full": whole,
        "gain": gain,
    }


def _resident_mb() -> float:
    """Memory of this process without the pages of files; of Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 2**10


def _random_neighbours(features: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    n = len(features)
    return torch.rand(n, k), torch.randint(n, (n, k), generator=torch.Generator().manual_seed(0))


def _search_seconds(search: Callable[[torch.Tensor, int], Neighbours], features: Mapping[str, torch.Tensor]) -> float:
    """Of finding the 10 nearest rows of each row of the tables (N, D)."""
    search(torch.rand(100, 2), 10)  # imports what it needs
    started = time.perf_counter()
    for table in features.values():
        search(table.detach(), 10)
    return time.perf_counter() - started


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log cost over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description="Cost of MambaRec by the size of the catalogue.")
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 2, 4, 8, 16], metavar="N", help="times Baby")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data", help="the folder above the data sets (data/)")
    parser.add_argument("-d", "--datasets", nargs="+", default=[], metavar="NAME", help="data sets beside them")
    parser.add_argument("--sampled", action="store_true", help="steps of propagation: sampled; scales up to 160")
    parser.add_argument("--run", default="MambaRec/fixed", metavar="NAME", help="with --sampled: MambaRec/fixed or LightGCN")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="with --sampled: steps that are timed (20)")
    parser.add_argument("--search", action="store_true", help="with --sampled: search neighbours of the text features, too")
    parser.add_argument("--full", action="store_true", help="with --sampled: time full steps in turn with sampled ones, too")
    parser.add_argument("--lists", type=int, default=0, metavar="N", help="with --sampled: make lists for N users, too")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where the catalogues lie while they are measured")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone and options.sampled:
        print(
            json.dumps(measure_sampled(options.alone, options.run, options.steps, options.search, options.lists, options.full))
        )
        return
    if options.alone:
        print(json.dumps(measure(options.alone)))
        return
    costs = SAMPLED_COSTS if options.sampled else COSTS
    dtype = np.float16 if options.sampled else np.float32
    words = ["--sampled", "--run", options.run, "--steps", options.steps, "--lists", options.lists] if options.sampled else []
    words += [word for word, given in (("--search", options.search), ("--full", options.full)) if given]
    sources = {name: source(options.data_path, name) for name in options.datasets}

    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {threads} threads, torch {torch.__version__}; load {load:.1f}")
    print(f"{'':12}{'users':>9}{'items':>9}{'pairs':>11}" + "".join(f"{title:>12}" for title in costs.values()))

    def row(name: str, folder: Path) -> dict[str, float]:
        measured = json.loads(fresh_process("benchmarks.growth", "--alone", str(folder), *map(str, words)))
        sizes = f"{measured['users']:9,}{measured['items']:9,}{measured['pairs']:11,}"
        print(f"{name:12}{sizes}" + "".join(f"{measured[cost]:12,.3f}" for cost in costs), flush=True)
        return measured

    rows = []
    for scale in sorted(options.scales):
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            with ProcessPoolExecutor(1, get_context("spawn")) as maker:  # its memory is given back before the measurement
                folder = maker.submit(write_catalogue, Path(scratch) / "baby", scale, dtype=dtype).result()
            rows.append(row(f"{scale:g} x Baby", folder))
    if len(rows) > 1:
        slopes = [exponent([one["items"] for one in rows], [one[cost] for one in rows]) for cost in costs]
        print(f"{'exponent':12}{'':29}" + "".join(f"{slope:12.2f}" for slope in slopes))
    for name, folder in sources.items():
        with tempfile.TemporaryDirectory() as scratch:
            row(name, with_features(folder, Path(scratch)))


if __name__ == "__main__":
    main()
