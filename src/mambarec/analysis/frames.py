"""Runs, and the points of a comparison, as DataFrames: their settings and what validation says of them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd

from mambarec.analysis.listing import varied_settings
from mambarec.base.words import value_text
from mambarec.experiments.grid import by_model, by_point, varied
from mambarec.experiments.trials import Outcome
from mambarec.running.lookup import FoundRun


def runs_frame(runs: Sequence[FoundRun], show_test: bool = False) -> pd.DataFrame:
    """A row per run: model, dataset, seed, state, metric, validation, settings, directory; with `show_test`, test too.

    The settings are those in which runs of one model and data set differ. A run whose model has no such key lacks it.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run.model, run.dataset), []).append(run.config)
    keys = list(dict.fromkeys(key for configs in groups.values() for key in varied_settings(configs)))
    parts = {"validation": "valid", **({"test": "test"} if show_test else {})}
    rows = []
    for run in runs:
        metric = run.valid_metric
        row = {"model": run.model, "dataset": run.dataset, "seed": run.seed, "state": run.state(), "metric": metric}
        row |= {name: (run.result or {}).get(part, {}).get(metric) for name, part in parts.items()}
        rows.append({**row, **_cells(run.config, keys), "directory": str(run.path)})
    columns = ["model", "dataset", "seed", "state", "metric", *parts, *keys, "directory"]
    return _frame(rows, columns, keys).astype(dict.fromkeys(parts, float))


def points_frame(outcomes: Sequence[Outcome], shown: Collection[Path]) -> pd.DataFrame:
    """A row per point: model, dataset, settings, seeds, metric, validation, validation std, pruned, chosen. No test figure.

    seeds: how many are finished. validation: their mean. pruned: after how many epochs a search ended the point. chosen:
    whether one of its runs is among the directories `shown`. The settings are those in which points of one model and data set
    differ.
    """
    ended = {id(outcome.trial.config): outcome for outcome in outcomes}
    groups = by_model([outcome.trial.config for outcome in outcomes]).values()
    keys = list(dict.fromkeys(key for group in groups for key in varied(group)))
    rows = []
    for point in (point for group in groups for point in by_point(group).values()):
        first, found = point[0], [ended[id(config)] for config in point]
        metric = first["valid_metric"].lower()
        values = [outcome.result["valid"][metric] for outcome in found if outcome.result]
        figures = {"validation": mean(values) if values else None, "validation std": stdev(values) if len(values) > 1 else None}
        pruned = next((outcome.pruned for outcome in found if outcome.pruned is not None), None)
        chosen = any(outcome.trial.path in shown for outcome in found)
        row = {"model": first["model"], "dataset": first["dataset"], **_cells(first.plain(), keys), "seeds": len(values)}
        rows.append({**row, "metric": metric, **figures, "pruned": pruned, "chosen": chosen})
    columns = ["model", "dataset", *keys, "seeds", "metric", "validation", "validation std", "pruned", "chosen"]
    return _frame(rows, columns, keys).astype({"validation": float, "validation std": float, "pruned": "Int64"})


def _cells(settings: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The values of some settings as cells: a list as the command line takes it, 'visual,text'."""
    return {key: value_text(settings[key]) if isinstance(settings.get(key), list) else settings.get(key) for key in keys}


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """A table of rows. keys: columns of which some cells may be missing; whole numbers in them stay whole."""
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(**{key: frame[key].convert_dtypes() for key in keys if frame[key].isna().any()})
