"""What the console shows when runs have ended."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from statistics import mean
from typing import Any

from mambarec.base.words import count
from mambarec.experiments.grid import by_model, by_point, describe
from mambarec.experiments.trials import Outcome


def run_table(result: dict[str, Any]) -> str:
    """Test metrics of one run, a row per metric and a column per cut-off, and where its files lie."""
    names = list(dict.fromkeys(name.partition("@")[0] for name in result["test"]))
    cutoffs = list(dict.fromkeys(name.partition("@")[2] for name in result["test"]))
    lines = [f"{'test':10}" + "".join(f"{'@' + cutoff:>9}" for cutoff in cutoffs)]
    lines += [f"{name:10}" + "".join(f"{result['test'][f'{name}@{k}']:>9.4f}" for k in cutoffs) for name in names]
    title = f"{result['model']} on {result['dataset']}, seed {result['seed']}: "
    title += f"best epoch {result['best_epoch'] + 1} of {result['epochs']}"
    return "\n".join(["", title, "", *lines, "", f"files: {result['directory']}"])


def trials_table(
    outcomes: Sequence[Outcome],
    axes: Mapping[str, Mapping[str, Sequence[Any]]],
    chosen: Collection[Path] = (),
    show_test: bool = False,
) -> str:
    """A row per grid point: its finished seeds and their mean on validation; a star where `chosen` holds one of its runs.

    axes: of each model, the keys of its grid and their values; a line says where not all points of it were tried. show_test:
    the mean on test too, which is no figure to choose by.
    """
    configs = [outcome.trial.config for outcome in outcomes]
    metric = configs[0]["valid_metric"].lower()
    ended = {id(outcome.trial.config): outcome for outcome in outcomes}
    rows: list[list[str]] = [["", "seeds", "validation", *["test"] * show_test, ""]]
    some_of = []
    for (model, dataset), group in by_model(configs).items():
        keys, points = axes.get(model, {}), by_point(group)
        inside = sum(all(point[0].peek(key) in values for key, values in keys.items()) for point in points.values())
        if inside < (size := prod(map(len, keys.values()))):
            some_of.append(
                f"{model} on {dataset}: {inside} of the {size} points of its grid {'was' if inside == 1 else 'were'} tried"
            )
        for point in points.values():
            done = [(config, ended[id(config)]) for config in point if ended[id(config)].result]
            means = [
                f"{mean(outcome.result[split][metric] for _, outcome in done):.4f}" if done else "–"  # type: ignore[index]
                for split in ["valid", *["test"] * show_test]
            ]
            if not done and (epochs := ended[id(point[0])].pruned) is not None:
                means = [f"pruned after {count(epochs, 'epoch')}", *means[1:]]
            star = "*" if any(outcome.trial.path in chosen for _, outcome in done) else ""
            seeds = ",".join(str(config["seed"]) for config, _ in done) or "–"
            rows.append([describe(point[0], configs, seed=False, named=list(keys)), seeds, *means, star])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{text:{'<' if i == 0 else '>'}{widths[i]}}" for i, text in enumerate(row)).rstrip() for row in rows]
    about = f"{metric}, mean over the seeds named" + ("; * is the setting that the table shows" if chosen else "")
    return "\n".join(["", f"{lines[0]}   ({about})", *lines[1:], *some_of])


N_NAMED = 5  # trials that are named of those that failed alike


def failures(outcomes: Sequence[Outcome]) -> str:
    """A line per kind of error, with the trials that it ended; empty when none failed."""
    failed = [(outcome.trial.name, outcome.error) for outcome in outcomes if outcome.error]
    return "\n".join([f"error: {len(failed)} of {len(outcomes)} trials failed:", *failed_alike(failed)]) if failed else ""


def failed_alike(failed: Iterable[tuple[str, str]], thing: str = "run") -> list[str]:
    """A line per kind of error, from the names of things and their errors: the names, then the error of the first of them.

    Errors are of one kind when they differ only in numbers, in paths and in words of the run's own name, such as its model.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, error in failed:
        kinds.setdefault(_kind(name, error), []).append((name, error))
    lines = []
    for found in kinds.values():
        names, (_, error) = [name for name, _ in found], found[0]
        more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
        which = f"{len(names)} {thing}s ({', '.join(names[:N_NAMED])}{more})" if len(names) > 1 else names[0]
        same = len({error for _, error in found}) == 1
        lines.append(f"  {which}: {error}" if same else f"  {which}, the first of them: {error}")
    return lines


def _kind(name: str, error: str) -> str:
    """An error without what is of one run: its paths, all numbers, and the words of its name."""
    text = re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "0", re.sub(r"\S*/\S*", "/", error))
    for word in set(re.findall(r"[A-Za-z]\w*", name)) - {"on"}:
        text = re.sub(rf"\b{re.escape(word)}\b", "·", text)
    return text
