"""What the console shows when runs have ended."""

from collections.abc import Sequence
from typing import Any

from experiments.grid import describe
from utils.configurator import Config


def run_table(result: dict[str, Any]) -> str:
    """Test metrics of one run, a row per metric and a column per cut-off, and where its files lie."""
    names = list(dict.fromkeys(name.partition("@")[0] for name in result["test"]))
    cutoffs = list(dict.fromkeys(name.partition("@")[2] for name in result["test"]))
    lines = [f"{'test':10}" + "".join(f"{'@' + cutoff:>9}" for cutoff in cutoffs)]
    lines += [f"{name:10}" + "".join(f"{result['test'][f'{name}@{k}']:>9.4f}" for k in cutoffs) for name in names]
    title = f"{result['model']} on {result['dataset']}, seed {result['seed']}: "
    title += f"best epoch {result['best_epoch']} of {result['epochs']}"
    return "\n".join(["", title, "", *lines, "", f"files: {result['directory']}"])


def trials_table(trials: Sequence[Config], results: Sequence[dict[str, Any]]) -> str:
    """A row per trial with its validation and test metric, best on validation marked, within each model and data set."""
    rows = []
    best: dict[tuple[str, str], float] = {}
    for trial, result in zip(trials, results, strict=True):
        metric, key = trial["valid_metric"].lower(), (result["model"], result["dataset"])
        best[key] = max(best.get(key, 0.0), result["valid"][metric])
        rows.append((key, describe(trial, trials), metric, result["valid"][metric], result["test"]))
    width = max(len(row[1]) for row in rows)
    metric = rows[0][2]
    lines = ["", f"{'':{width}}  {'validation':>10}  {'test':>6}   ({metric}; * is best on validation)"]
    for key, name, metric, valid, test in rows:
        lines.append(f"{name:{width}}  {valid:>10.4f}  {test[metric]:.4f} {'*' if valid == best[key] else ''}".rstrip())
    return "\n".join(lines)
