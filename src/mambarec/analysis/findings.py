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

from mambarec.analysis.comparison import METRICS
from mambarec.analysis.embedding import angle_density, item_directions, tsne, uniformity
from mambarec.analysis.fairness import check_computed, check_same_data
from mambarec.analysis.figures import Picture, clouds, densities, metric_name
from mambarec.analysis.records import MACHINE_KEYS, Record, undeclared
from mambarec.analysis.studies import Plan, Point
from mambarec.base.errors import RunError
from mambarec.base.words import count, seeds_text, value_text
from mambarec.config.catalogue import config_file
from mambarec.config.configurator import Config
from mambarec.config.keys import NEUTRAL_KEYS
from mambarec.config.yaml_files import read_yaml


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
            + (f" of {seeds_text(seeds)}" if seeds else "")
            + ". Without --results the runs are made"
        )
    taken = [run for *_, runs in complete for run in runs]
    check_same_data(taken)
    check_computed(taken, METRICS)
    left_out = [point.label for point, _, runs in found if not set(seeds) <= set(runs)]
    return Findings(plan, seeds, complete, left_out)


def _fits(record: Record, config: Config, given: Mapping[str, Any]) -> bool:
    """Whether a run is of this point, whatever its seed.

    A key that the run is too old to have counts with the value that stands for what was before it; without one it does not.
    """
    if record.model != config["model"] or record.dataset != config["dataset"]:
        return False
    free = NEUTRAL_KEYS | {"seed", "device"} | (MACHINE_KEYS - set(given))  # the machine counts where it was asked for
    wanted = json.loads(json.dumps(config.plain()))
    had = {**wanted, **config.later, **undeclared(record.config, wanted), **record.config}
    return all(had[key] == value for key, value in wanted.items() if key not in free)


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
        row: dict[str, Any] = {"label": point.label, "model": point.model, "is_default": _is_default(config, findings.plan)}
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


def _is_default(config: Config, plan: Plan) -> bool:
    """Whether what the study varies has the value of the YAMLs."""
    usual = Config(config["model"], plan.dataset)
    return all(config[key] == usual[key] for key in plan.study.keys)


def _mean_and_deviation(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: float(np.mean(values)), f"{name}_std": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan}


def caption(findings: Findings, *more: str) -> str:
    """What is shown, of which data, seeds and epochs, how the epoch was chosen, and what is missing."""
    plan = findings.plan
    runs = [run for *_, runs in findings.runs for run in runs]
    config = findings.runs[0][1]
    capped = sum(run.result["epochs"] >= run.config.get("epochs", np.inf) for run in runs)
    beside = [f"{key} ({value})" for key, value in plan.given.items() if key not in NEUTRAL_KEYS | MACHINE_KEYS | {"seed"}]
    machines = sorted({f"{run.environment['device']}, {count(run.environment['threads'], 'thread')}" for run in runs})
    metric = metric_name(config["valid_metric"].lower())
    reached = {0: "No run", len(runs): "Every run"}.get(capped, f"{capped} of {count(len(runs), 'run')}")
    unsure = ", so it may not have learned all it can" * (capped == len(runs))
    patience = count(config["stopping_step"], "evaluation")
    every = "Every other setting" if plan.study.keys else "Every setting"
    files = _tuned_files(plan)
    usual = f"its tuned value or its default (tuned: {'; '.join(files)})" if files else "its default value"
    parts = [
        f"{plan.study.title}, on {plan.dataset}.",
        plan.study.varied,
        *more,
        f"{every} has {usual}{', except ' + ', '.join(beside) if beside else ''}.",
        f"Every value is the mean over {seeds_text(findings.seeds)}. Error bars show one standard deviation."
        if len(findings.seeds) > 1
        else f"Every value is from one run ({seeds_text(findings.seeds)}), so small differences mean nothing.",
        f"A run has at most {count(config['epochs'], 'epoch')}. It stops earlier after {patience} in a row without a better "
        f"validation {metric}. {reached} reached the limit of epochs{unsure}.",
        f"The test metrics are those of the epoch with the best validation {metric}. No choice was made on the test split.",
        f"Not possible on {plan.dataset}: {'; '.join(plan.obstacles)}." if plan.obstacles else "",
        f"Not drawn, because not every seed has a finished run: {', '.join(map(repr, findings.left_out))}."
        if findings.left_out
        else "",
        f"Machine: {'; '.join(machines)}.",
    ]
    return " ".join(part for part in parts if part)


def _tuned_files(plan: Plan) -> list[str]:
    """Each file of tuned values that the study's runs have, with those of its values that the study does not vary."""
    names = dict.fromkeys(config.peek("tuned") for _, config in plan.points)
    found = {name: path for name in names if name and (path := config_file(name))}
    texts = []
    for name, path in found.items():
        values = {key: value for key, value in read_yaml(path).items() if key not in {*plan.study.keys, *plan.given}}
        texts.append(" ".join([name, *(f"{key}={value_text(value)}" for key, value in values.items())]))
    return texts


def _about(findings: Findings) -> str:
    """The line under a figure's title: data set, seeds, and what was set beside the study."""
    beside = [
        f"at most {count(value, 'epoch')}" if key == "epochs" else f"{key}={value}"
        for key, value in findings.plan.given.items()
        if key not in NEUTRAL_KEYS | MACHINE_KEYS | {"seed"}
    ]
    tuned = ["tuned values"] if _tuned_files(findings.plan) else []
    return ", ".join([f"{findings.plan.dataset}, test", seeds_text(findings.seeds), *tuned, *beside])


def pictures(findings: Findings) -> list[Picture]:
    """The figures of a study, each with its numbers and caption."""
    plan = findings.plan
    draw = plan.study.draw
    if draw is None:
        return _embedding_pictures(findings)
    table = numbers(findings)
    return [Picture(plan.name, lambda: draw(table), table, caption(findings), plan.study.title, _about(findings))]


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
    return draw_embedding(findings, pd.concat(maps), pd.concat(curves)[["model", "angle", "density", "uniformity"]], texts)


def draw_embedding(
    findings: Findings, points: pd.DataFrame, curves: pd.DataFrame, uniformities: Sequence[str]
) -> list[Picture]:
    """The two pictures, from their numbers. uniformities: each model's, in words."""
    seed = seeds_text(findings.seeds[:1])
    about = f"{findings.plan.dataset}, {seed}"
    measure = (
        f"The figure shows the same {points['item'].nunique():,} items of each model, from the run with {seed}. Uniformity of "
        f"the vectors is {' and '.join(uniformities)}; lower is more uniform. (It is the log of the mean of exp(-2 d²) over "
        "pairs on the unit sphere, by Wang and Isola, 2020.)"
    )
    near = "A t-SNE map puts similar vectors near each other."
    directions = "The lines show how many items lie in each direction of the t-SNE map, seen from its centre."
    return [
        Picture(
            "embedding",
            lambda: clouds(points, "model"),
            points,
            caption(findings, near, measure),
            "Map of item vectors (t-SNE)",
            about,
        ),
        Picture(
            "embedding-angles",
            lambda: densities(curves, "model"),
            curves,
            caption(findings, directions, measure),
            "Directions of items in the t-SNE map",
            about,
        ),
    ]


def _mean_text(values: Sequence[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
