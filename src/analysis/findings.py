"""What the runs of a study show: its runs among the finished ones, their numbers, and the figures with their captions.

Runs are told by their settings, in directories and compact records alike.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import METRICS, check_same_data
from analysis.embedding import angle_density, item_directions, tsne, uniformity
from analysis.figures import Picture, clouds, densities, metric_name
from analysis.records import MACHINE_KEYS, Record
from analysis.studies import Plan, Point
from utils.configurator import NEUTRAL_KEYS, Config
from utils.errors import RunError
from utils.words import count


@dataclass(frozen=True)
class Findings:
    """A plan with the finished runs of its points, in the order of `seeds`; points that lack one are in `left_out`."""

    plan: Plan
    seeds: list[int]
    runs: list[tuple[Point, Config, list[Record]]]
    left_out: list[str]


def find(plan: Plan, records: Iterable[Record]) -> Findings:
    """Take a plan's runs from records; RunError when no point has all seeds, or when two different runs are of one point."""
    records = list(records)
    found: list[tuple[Point, Config, dict[int, Record]]] = []
    for point, config in plan.points:
        runs: dict[int, Record] = {}
        for record in records:
            if _fits(record, config, plan.given):
                other = runs.setdefault(record.seed, record)
                if other.result["test"] != record.result["test"]:
                    raise RunError(_ambiguous(point, other, record))
        found.append((point, config, runs))
    asked = [trial["seed"] for trial in plan.points[0][1].trials()] if "seed" in plan.given else []
    seeds = asked or sorted(max(found, key=lambda one: len(one[2]))[2])
    complete = [(point, config, [runs[seed] for seed in seeds]) for point, config, runs in found if set(seeds) <= set(runs)]
    if not seeds or not complete:
        raise RunError(
            f"{plan.name} on {plan.dataset}: none of its {len(found)} points has a finished run"
            + (f" of {_seeds(seeds)}" if seeds else "")
            + ". Without --results the runs are made"
        )
    check_same_data([run for *_, runs in complete for run in runs])
    left_out = [point.label for point, _, runs in found if not set(seeds) <= set(runs)]
    return Findings(plan, seeds, complete, left_out)


def _fits(record: Record, config: Config, given: Mapping[str, Any]) -> bool:
    """Whether a run is of this point, whatever its seed. A key that the run is too old to have does not count."""
    if record.model != config["model"] or record.dataset != config["dataset"]:
        return False
    free = NEUTRAL_KEYS | {"seed", "device"} | (MACHINE_KEYS - set(given))  # the machine counts where it was asked for
    wanted = json.loads(json.dumps(config.plain()))
    return all(record.config.get(key, value) == value for key, value in wanted.items() if key not in free)


def _ambiguous(point: Point, one: Record, other: Record) -> str:
    a, b = ({**record.environment, **record.machine()} for record in (one, other))
    keys = ("threads", "device", "data", "torch", "git")
    differing = [f"{key} {a.get(key)} and {b.get(key)}" for key in keys if a.get(key) != b.get(key)]
    return (
        f"{one.source} and {other.source} are both runs of '{point.label}' with seed {one.seed}, with other figures "
        f"({', '.join(differing) or 'nothing recorded tells them apart'}); give --threads N, or --results without one of them"
    )


def numbers(findings: Findings) -> pd.DataFrame:
    """A row per point: what it varies, means and standard deviations over seeds, size, cost, and the names of its runs."""
    rows = []
    for point, config, runs in findings.runs:
        results = [run.result for run in runs]
        row: dict[str, Any] = {"label": point.label, "model": point.model, "is_default": not point.values}
        row |= {key: config[key] for key in findings.plan.study.keys}
        for metric in METRICS:
            row |= _mean_and_deviation(metric, [result["test"][metric] for result in results])
        row |= {f"valid_{runs[0].valid_metric}": mean(run.result["valid"][run.valid_metric] for run in runs)}
        row |= {key: results[0][key] for key in ("parameters", "parameters_without_features")}
        for key in ("seconds_per_epoch", "peak_memory_mb"):
            row |= _mean_and_deviation(key, [np.nan if result[key] is None else result[key] for result in results])
        row |= {"epochs": mean(result["epochs"] for result in results)}
        row |= {"seeds": " ".join(map(str, findings.seeds)), "runs": " ".join(run.name for run in runs)}
        rows.append(row)
    return pd.DataFrame(rows)


def _mean_and_deviation(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: float(np.mean(values)), f"{name}_std": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan}


def caption(findings: Findings, title: str, *more: str) -> str:
    """What a figure shows, of which data, seeds and epochs, how the epoch was chosen, and what is not in it."""
    plan = findings.plan
    runs = [run for *_, runs in findings.runs for run in runs]
    config = findings.runs[0][1]
    capped = sum(run.result["epochs"] >= run.config.get("epochs", np.inf) for run in runs)
    beside = [f"{key}={value}" for key, value in plan.given.items() if key not in NEUTRAL_KEYS | MACHINE_KEYS | {"seed"}]
    machines = sorted({f"{run.environment['device']}, {count(run.environment['threads'], 'thread')}" for run in runs})
    metric = metric_name(config["valid_metric"].lower())
    parts = [
        f"{title}, {plan.dataset}.",
        plan.study.varied,
        *more,
        f"All other settings are the YAMLs'{' but for ' + ', '.join(beside) if beside else ''}.",
        f"Means of {_seeds(findings.seeds)}; error bars, and _std among the numbers, are one standard deviation."
        if len(findings.seeds) > 1
        else f"One run a point, {_seeds(findings.seeds)}: small differences mean nothing.",
        f"At most {count(config['epochs'], 'epoch')}, ended after {config['stopping_step']} evaluations without a better "
        f"validation {metric}; {capped} of {count(len(runs), 'run')} reached the cap.",
        f"All is of the test split and the epoch that was best by validation {metric}; test was used for no choice.",
        f"Impossible on {plan.dataset}: {'; '.join(plan.obstacles)}." if plan.obstacles else "",
        f"Left out for want of a finished run of every seed: {', '.join(findings.left_out)}." if findings.left_out else "",
        f"Machine: {'; '.join(machines)}.",
    ]
    return " ".join(part for part in parts if part)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def pictures(findings: Findings) -> list[Picture]:
    """The figures of a study, each with its numbers and caption."""
    plan = findings.plan
    if plan.study.draw is None:
        return _embedding_pictures(findings)
    table = numbers(findings)
    return [Picture(plan.name, plan.study.draw(table), table, caption(findings, plan.study.title))]


def _embedding_pictures(findings: Findings) -> list[Picture]:
    """Maps and angles of the first seed's runs; uniformity of every seed's."""
    labels = [point.label for point, *_ in findings.runs]
    maps, curves = [], []
    uniformities: dict[str, list[float]] = {label: [] for label in labels}
    for place in range(len(findings.seeds)):
        items, directions = item_directions([runs[place].source for *_, runs in findings.runs])
        for label, vectors in zip(labels, directions, strict=True):
            uniformities[label].append(uniformity(vectors))
            if place == 0:
                points = tsne(vectors)
                maps.append(pd.DataFrame({"model": label, "item": items, "x": points[:, 0], "y": points[:, 1]}))
                curves.append(angle_density(points).assign(model=label))
    for table, label in zip([*maps, *curves], [*labels, *labels], strict=True):
        table["uniformity"] = mean(uniformities[label])
    texts = [f"{label} {_mean_text(values)}" for label, values in uniformities.items()]
    measure = (
        f"Uniformity of the vectors on the unit sphere (Wang and Isola 2020: log of the mean of exp(-2 d^2) over pairs, lower "
        f"is more uniform): {', '.join(texts)}. The same {len(maps[0]):,} items of each model, from the run with "
        f"{_seeds(findings.seeds[:1])}."
    )
    points_table, curves_table = pd.concat(maps), pd.concat(curves)[["model", "angle", "density", "uniformity"]]
    return [
        Picture(
            "embedding",
            clouds(points_table, "model"),
            points_table,
            caption(findings, "t-SNE of item vectors", measure),
        ),
        Picture(
            "embedding-angles",
            densities(curves_table, "model"),
            curves_table,
            caption(findings, "Kernel density of the angles of the items in the t-SNE map", measure),
        ),
    ]


def _mean_text(values: Sequence[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
