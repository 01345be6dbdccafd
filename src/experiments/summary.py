"""What the console shows when runs have ended."""

import math
import re
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from experiments.grid import by_model, by_point, describe
from experiments.trials import Outcome


def run_table(result: dict[str, Any]) -> str:
    """Test metrics of one run, a row per metric and a column per cut-off, and where its files lie."""
    names = list(dict.fromkeys(name.partition("@")[0] for name in result["test"]))
    cutoffs = list(dict.fromkeys(name.partition("@")[2] for name in result["test"]))
    lines = [f"{'test':10}" + "".join(f"{'@' + cutoff:>9}" for cutoff in cutoffs)]
    lines += [f"{name:10}" + "".join(f"{result['test'][f'{name}@{k}']:>9.4f}" for k in cutoffs) for name in names]
    title = f"{result['model']} on {result['dataset']}, seed {result['seed']}: "
    title += f"best epoch {result['best_epoch']} (of 0 to {result['epochs'] - 1})"
    return "\n".join(["", title, "", *lines, "", f"files: {result['directory']}"])


def trials_table(outcomes: Sequence[Outcome], by_test: bool = False) -> str:
    """A row per grid point: mean over its seeds on validation and test, and a star at the best of each model and data set.

    by_test: the star goes by the test metric, as MMRec chooses, and the table says so. A point that lacks a seed gets none.
    """
    configs = [outcome.trial.config for outcome in outcomes]
    metric = configs[0]["valid_metric"].lower()
    results = {id(outcome.trial.config): outcome.result for outcome in outcomes}
    rows: list[tuple[str, int, float, float, bool]] = []
    for group in by_model(configs).values():
        points = by_point(group)
        n_seeds = max(map(len, points.values()))
        scored = []
        for point in points.values():
            done = [result for config in point if (result := results[id(config)])]
            valid, test = (mean(one[split][metric] for one in done) if done else math.nan for split in ("valid", "test"))
            complete = len(done) == n_seeds
            scored.append((describe(point[0], configs, seed=False), len(done), valid, test, complete))
        choice = [(row[3] if by_test else row[2]) if row[4] else -math.inf for row in scored]
        best = choice.index(max(choice))
        rows += [(*row[:4], i == best and row[4]) for i, row in enumerate(scored)]
    width = max(len(row[0]) for row in rows)
    by = "TEST: for comparison with MMRec only" if by_test else "validation"
    lines = ["", f"{'':{width}}  seeds  validation    test   ({metric}, mean over seeds; * is best on {by})"]
    for name, n_seeds, valid, test, is_best in rows:
        lines.append(f"{name:{width}}  {n_seeds:>5}  {valid:>10.4f}  {test:>6.4f} {'*' if is_best else ''}".rstrip())
    return "\n".join(lines)


N_NAMED = 5  # trials that are named of those that failed alike


def failures(outcomes: Sequence[Outcome]) -> str:
    """A line per kind of error, with the trials that it ended; empty when none failed."""
    failed = [(outcome.trial.name, outcome.error) for outcome in outcomes if outcome.error]
    return "\n".join([f"error: {len(failed)} of {len(outcomes)} trials failed:", *failed_alike(failed)]) if failed else ""


def failed_alike(failed: Iterable[tuple[str, str]]) -> list[str]:
    """A line per kind of error, from the names of runs and their errors: the names, then the error of the first of them.

    Errors are of one kind when they differ only in numbers, in paths and in words of the run's own name, such as its model.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, error in failed:
        kinds.setdefault(_kind(name, error), []).append((name, error))
    lines = []
    for found in kinds.values():
        names, (_, error) = [name for name, _ in found], found[0]
        more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
        which = f"{len(names)} runs ({', '.join(names[:N_NAMED])}{more})" if len(names) > 1 else names[0]
        same = len({error for _, error in found}) == 1
        lines.append(f"  {which}: {error}" if same else f"  {which}, the first of them: {error}")
    return lines


def _kind(name: str, error: str) -> str:
    """An error without what is of one run: its paths, all numbers, and the words of its name."""
    text = re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "0", re.sub(r"\S*/\S*", "/", error))
    for word in set(re.findall(r"[A-Za-z]\w*", name)) - {"on"}:
        text = re.sub(rf"\b{re.escape(word)}\b", "·", text)
    return text
