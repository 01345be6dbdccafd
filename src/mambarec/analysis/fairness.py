"""The rules of a fair table, a function each: which runs make a row, which point of it is shown, and on which seeds.

They hold for runs and for compact records, whatever lies in a folder. `analysis.comparison.compare` applies them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np

from mambarec.analysis.records import Record
from mambarec.base.errors import ConfigError, RunError
from mambarec.base.words import listed, option, seeds_text, value_text
from mambarec.config.identity import identity_names
from mambarec.config.keys import keys_with, modality_of

# How long a run trains and which of its epochs is kept: no search may choose among values of these.
BUDGET_KEYS = keys_with("budget", "selection")
# What is computed of a trained model, which changes nothing in it.
EVALUATION_KEYS = set(keys_with("evaluation"))
_COLUMNS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "inter_splitting_label")  # of the .inter file: they say which split is read

Point = Mapping[int, Record]  # the runs of one setting, by seed


@dataclass(frozen=True)
class Choice:
    """The point of a row that validation chose, on which seeds, and the text of the points that are level with it."""

    key: str
    seeds: list[int]
    level: list[str]


def budget(record: Record) -> dict[str, Any]:
    """What limits the run's training and chooses its epoch."""
    settings = record.settings()
    return {key: settings.get(key) for key in BUDGET_KEYS}


def identity(record: Record) -> dict[str, Any]:
    """The settings that say which model this is, by key: those of IDENTITY_KEYS, of its YAML, and its feature files."""
    settings, defaults = record.settings(), record.defaults()
    declared = [*(defaults.get("model_identity") or []), *(record.config.get("model_identity") or [])]
    features = [key for key in settings if modality_of(key)]
    keys = dict.fromkeys([*identity_names(declared, settings), *features])
    found = {key: settings.get(key, defaults.get(key)) for key in keys if key in settings or key in defaults}
    modalities = found.get("modalities")
    if modalities and set(modalities) == _declared_modalities(settings):
        found["modalities"] = ["all"]
    return found


def point(record: Record) -> dict[str, Any]:
    """The settings that a search may choose: all but the budget, the identity, the seed and the machine."""
    apart = EVALUATION_KEYS | set(BUDGET_KEYS) | set(identity(record))
    return {key: value for key, value in record.settings().items() if key not in apart}


def at_cap(record: Record) -> bool:
    """Whether the run ended at its number of epochs while it might still have improved."""
    settings, best = record.settings(), record.result["best_epoch"]
    if settings.get("req_training") is False:
        return False
    validated = [row["epoch"] for row in record.epochs if "valid" in row] or range(record.result["epochs"])
    since = sum(epoch > best and epoch >= settings["min_epochs"] for epoch in validated)
    return record.result["epochs"] >= settings["epochs"] and since < settings["stopping_step"]


def once(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Each setting and seed once, and a sentence on those that were run several times with other figures.

    Runs of several machines count as the same. Of these the first by its name is taken, which no figure decides.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        key = [record.dataset, record.model, record.seed, point(record), identity(record), budget(record)]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    taken, repeated = [], []
    for group in groups.values():
        taken.append(min(group, key=lambda record: (-len(record.result["test"]), record.name, str(record.source))))
        if len({record.result["valid"][record.valid_metric] for record in group}) > 1:
            repeated.append(f"{taken[-1].model} seed {taken[-1].seed}")
    if not repeated:
        return taken, []
    names = listed(sorted(set(repeated)))
    return taken, [f"Run several times with other figures, on other machines or threads: {names}. The first by name is used."]


def row_labels(records: Sequence[Record], split: Sequence[str] = ()) -> list[str]:
    """The row of each run: its model, and what of identity and budget needs to be said.

    Identity is named where it is not the YAMLs', the budget where runs of the data set have several. Keys in `split` are
    named where they vary within a model.
    """
    unknown = [key for key in split if not any(key in record.config for record in records)]
    if unknown:
        raise ConfigError(f"none of the runs has a key '{unknown[0]}'")
    if apart := [key for key in split if not any(key in record.settings() for record in records)]:
        raise ConfigError(f"{option('split', apart[0])}: '{apart[0]}' is no setting of a model, and makes no row of its own")
    values: dict[tuple[str, ...], set[str]] = {}  # of a key, among the runs that it is to tell apart
    found = [(record, record.settings(), identity(record), budget(record)) for record in records]
    for record, settings, kind, limits in found:
        places: list[tuple[tuple[str, ...], str, Any]] = [((record.model,), key, settings.get(key)) for key in split]
        places += [((record.model, record.dataset), key, value) for key, value in kind.items()]
        places += [((record.dataset,), key, value) for key, value in limits.items()]
        for place, key, value in places:
            values.setdefault((*place, key), set()).add(str(value))

    def label(record: Record, settings: Mapping[str, Any], kind: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
        defaults = record.defaults()
        words = {key: settings.get(key) for key in split if len(values[record.model, key]) > 1}
        for key, value in kind.items():
            varies = len(values[record.model, record.dataset, key]) > 1
            if key not in split and (value != defaults[key] if key in defaults else varies):
                words[key] = value
        for key, value in limits.items():
            if key not in split and len(values[record.dataset, key]) > 1:
                words[key] = value
        return " ".join([record.model, *(f"{key}={_value_text(key, value)}" for key, value in words.items())])

    return [label(*one) for one in found]


def points_of(records: Sequence[Record]) -> dict[str, dict[int, Record]]:
    """The runs of a row by their point and seed."""
    points: dict[str, dict[int, Record]] = {}
    for record in records:
        points.setdefault(json.dumps(point(record), sort_keys=True), {})[record.seed] = record
    return points


def choose(row: str, points: Mapping[str, Point], by_test: bool = False) -> Choice:
    """The point with the best validation metric, mean over the seeds that all points of the row have.

    How many seeds a point has decides nothing. Of equal points, the one nearest to the YAMLs' values is taken. by_test: by
    the test metric, which only shows what MMRec would report. RunError when the points share no seed.
    """
    shared = sorted(set.intersection(*(set(runs) for runs in points.values())))
    texts = point_texts(points)
    if not shared:
        lines = "\n".join(f"  {texts[key]}: {seeds_text(runs)}" for key, runs in points.items())
        raise RunError(
            f"{row}: its {len(points)} settings have no seed in common, so validation cannot choose among them:\n{lines}\n"
            "Run the seeds that are missing, or leave settings out: --where KEY=VALUE, --experiment NAME"
        )
    part = "test" if by_test else "valid"

    def value(key: str) -> float:
        return fsum(points[key][seed].result[part][points[key][seed].valid_metric] for seed in shared) / len(shared)

    def departures(key: str) -> int:
        record = next(iter(points[key].values()))
        defaults = record.defaults()
        return sum(key in defaults and value != defaults[key] for key, value in point(record).items())

    best = min(points, key=lambda key: (-value(key), departures(key), key))
    level = [texts[key] for key in sorted(points) if key != best and round(value(key), 4) == round(value(best), 4)]
    return Choice(best, shared, level)


def point_texts(points: Mapping[str, Point]) -> dict[str, str]:
    """What tells the points of a row apart, as 'learning_rate=0.01'; empty for the only point."""
    settings = {key: json.loads(key) for key in points}
    keys = dict.fromkeys(name for values in settings.values() for name in values)
    varied = [name for name in keys if len({str(values.get(name)) for values in settings.values()}) > 1]
    return {
        key: " ".join(f"{name}={_value_text(name, values.get(name))}" for name in varied) for key, values in settings.items()
    }


def common_seeds(dataset: str, rows: Mapping[str, Point]) -> tuple[list[int], list[str]]:
    """The seeds on which every row has a run, and a sentence on those that are not used; RunError when there is none."""
    common = sorted(set.intersection(*(set(runs) for runs in rows.values())))
    if not common:
        lines = "\n".join(f"  {label}: {seeds_text(runs)}" for label, runs in rows.items())
        raise RunError(
            f"the rows of {dataset} have no seed in common, so they cannot be compared:\n{lines}\n"
            "Run the same seeds for each of them (--seed 1 2 3), or leave rows out: -m NAME, --where KEY=VALUE, --experiment "
            "NAME"
        )
    unused = []
    for seed in sorted({seed for runs in rows.values() for seed in runs} - set(common)):
        have = [label for label, runs in rows.items() if seed in runs]
        lack = [label for label, runs in rows.items() if seed not in runs]
        unused.append(f"seed {seed} (only {listed(have)})" if len(have) <= len(lack) else f"seed {seed} (not {listed(lack)})")
    return common, [f"Not used, because not every row of {dataset} has it: {listed(unused)}."] if unused else []


def check_computed(records: Sequence[Record], metrics: Sequence[str]) -> None:
    """RunError where a run lacks one of these test metrics."""
    for record in records:
        if lacking := [metric for metric in metrics if metric not in record.result["test"]]:
            raise RunError(
                f"{record.source} has no {', '.join(lacking)} on test, which is shown here. Leave this run out, or train with "
                "the usual metrics and topk"
            )


def check_same_data(records: Sequence[Record]) -> None:
    """RunError unless runs were made and tested on one split of one data set; they may read different feature files of it."""
    seen: dict[str, tuple[str, Record]] = {}
    read: dict[str, tuple[set[str], Record]] = {}  # the names of the files, by which features a run reads
    for record in records:
        interactions = record.config.get("inter_file_name")
        own = set(record.environment.get("data_files", {}))  # empty for a run from before the files were recorded
        files, other = read.setdefault(_features_text(record), (own, record)) if own else (own, record)
        if differing := files ^ own:
            raise RunError(
                f"{record.source} and {other.source} were made on different data: only one of them had {min(differing)}. "
                "Compare runs of one form of the data: --experiment NAME, or --results with a folder of these alone"
            )
        for name, digest in record.environment.get("data_files", {}).items():
            known = "interactions" if name == interactions else name
            other_digest, other = seen.setdefault(known, (digest, record))
            if digest != other_digest:
                raise RunError(
                    f"{record.source} and {other.source} were made on different data: {name} is not the same file. Compare "
                    "runs of one form of the data: --experiment NAME, or --results with a folder of these alone"
                )
        columns = [{key: one.config.get(key) for key in _COLUMNS} for one in (record, records[0])]
        if columns[0] != columns[1]:
            key = next(key for key in _COLUMNS if columns[0][key] != columns[1][key])
            raise RunError(
                f"{record.source} and {records[0].source} read different columns of one file: {key} is {columns[0][key]} and "
                f"{columns[1][key]}. Compare runs of one split: --where {key}={columns[1][key]}"
            )
        if not np.array_equal(record.users, records[0].users):
            raise RunError(
                f"{record.source} and {records[0].source} were tested on different users; compare runs of one data set"
            )


def _features_text(record: Record) -> str:
    """Which feature files a run reads, as a text. Another name of the interactions makes another text too."""
    keys = ["is_multimodal_model", "end2end", "modalities", "inter_file_name"]
    settings = record.settings()
    return str({key: settings.get(key) for key in [*keys, *sorted(one for one in settings if modality_of(one))]})


def _declared_modalities(settings: Mapping[str, Any]) -> set[str]:
    """The modalities for which the data set has a feature file."""
    return {modality for key, value in settings.items() if (modality := modality_of(key)) and value}


def _value_text(key: str, value: Any) -> str:
    return value_text(value)[:8] if key == "model_code" else value_text(value)
