"""Lists of runs and of experiments for a terminal, without any test figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambarec.analysis.fairness import BUDGET_KEYS
from mambarec.analysis.records import finished_file
from mambarec.base.words import count, seeds_text, value_text
from mambarec.config.keys import NEUTRAL_KEYS
from mambarec.experiments.experiment import Experiment
from mambarec.running.directory import trial_name
from mambarec.running.lookup import FoundRun, find_runs, is_named, say_damaged

_SAID = NEUTRAL_KEYS | {"model", "dataset", "seed", "device", "use_gpu", "model_code"}  # said elsewhere, or of the machine


def runs_list(runs: Sequence[FoundRun]) -> str:
    """A line per run: where it lies, its state and epochs, and the settings in which runs of its model differ."""
    varied: dict[str, list[str]] = {}
    for model in {run.model for run in runs}:
        varied[model] = varied_settings([run.config for run in runs if run.model == model])
    rows = [["run", "state", "progress", "settings that differ"]]
    for run in runs:
        settings = " ".join(f"{key}={value_text(run.config.get(key))}" for key in varied[run.model])
        rows.append([trial_name(run.path), run.state(), run.progress(), settings])
    states = [row[1] for row in rows[1:]]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return "\n".join([*_columns(rows), "", f"{count(len(runs), 'run')}: {', '.join(counts)}"])


def varied_settings(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which runs differ, but for what is said elsewhere, such as the seed."""
    keys = dict.fromkeys(key for config in configs for key in config if key not in _SAID)
    return [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]


def experiments_list(
    place: Path,
    found: Sequence[Experiment],
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
    where: Sequence[str] = (),
    unfinished: bool = False,
) -> str:
    """The experiments of a folder that have a trial that fits, the last one at the end; '' where there is none.

    where is met by the settings of a trial's run, so a trial that has not begun does not fit it.
    """
    found_runs = find_runs([place], models, datasets, seeds, where, say_damaged) if where else []
    fitting = {trial_name(run.path) for run in found_runs}

    def fits(trial: str) -> bool:
        return is_named(trial, models, datasets, seeds) and (not where or trial in fitting)

    rows = [["experiment", "purpose", "models", "data sets", "seeds", "settings", "runs finished", "last given (UTC)"]]
    for plan in found:
        filters = models or datasets or seeds or where
        ended = [finished_file(Path(place), trial).exists() for trial in plan.trials]
        done = sum(ended)
        is_finished = plan.finished is not None and all(
            has_ended or trial in plan.pruned for has_ended, trial in zip(ended, plan.trials, strict=True)
        )
        if (filters and not any(map(fits, plan.trials))) or (unfinished and is_finished):
            continue
        models_text = ", ".join(plan.models) if len(plan.models) <= 5 else count(len(plan.models), "model")
        settings = [f"{key}={value_text(value)}" for key, value in plan.settings.items() if key not in BUDGET_KEYS]
        settings += [f"epochs={value_text(plan.budget.get('epochs'))}"]
        axes = dict.fromkeys(f"{key}={_span(values)}" for keys in plan.axes.values() for key, values in keys.items())
        rows.append(
            [
                plan.name,
                plan.purpose,
                models_text,
                ", ".join(plan.datasets),
                seeds_text(plan.seeds),
                " ".join([*axes, *settings]),
                f"{done} of {len(plan.trials)}",
                plan.given[:16].replace("T", " "),
            ]
        )
    return "\n".join([f"{place}", "", *_columns(rows)]) if len(rows) > 1 else ""


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _span(values: Sequence[object]) -> str:
    """Up to four values, or the first and the last and how many there are."""
    return value_text(values) if len(values) <= 4 else f"{values[0]}…{values[-1]} ({len(values)})"
