"""The trials of a command: every model, data set, grid point and seed, or some of the points drawn at random."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambarec.base.errors import ConfigError, ModelError
from mambarec.base.logger import get_logger
from mambarec.base.words import option, value_text
from mambarec.config.catalogue import available_models, declared_settings, keys_owners, model_files, model_folder, model_values
from mambarec.config.configurator import Config, search_space_key
from mambarec.config.keys import nearest_key

EVERY = ("all", "usable")  # words for every model there is; `usable` leaves out those whose needs the data do not meet


def is_every(models: Sequence[str]) -> bool:
    """Whether `models` is one of the words that stand for every model."""
    return list(models) in [[word] for word in EVERY]


def plan(
    models: Sequence[str], datasets: Sequence[str], overrides: Mapping[str, Any], search: bool | str = False
) -> list[Config]:
    """One Config per trial. With several models, a key goes to those that know it, and must be known to one at least.

    models: names, or one word of EVERY.
    """
    places = {key: overrides[key] for key in ("mg", "model_path") if overrides.get(key)}  # what says which keys there are
    if is_every(models):
        folder = model_folder(overrides)
        usable = list(models) == ["usable"]
        models = _importable(available_models(folder), folder) if usable else available_models(folder)
        if usable and search:
            models = _searchable(models, folder, search_space_key(search))
    trials, used = [], set()
    for dataset in datasets:
        for model in models:
            known = dict(overrides)
            if len(models) > 1:
                defaults = Config(model, dataset, places)
                known = {key: value for key, value in overrides.items() if defaults.knows(key)}
            used |= set(known)
            trials += Config(model, dataset, known, search).trials()
    unused = [key for key in overrides if key not in used]
    if unused:
        if owners := keys_owners(unused[0], model_folder(overrides)):
            hint = f"; it is a key of {owners}"
        else:
            near = nearest_key(unused[0], {key for trial in trials for key in trial})
            hint = f"; did you mean '{option(near).rstrip('=')}'?" if near else ""
        raise ConfigError(f"none of {', '.join(models)} has a key '{unused[0]}'{hint}")
    return trials


def _importable(models: Sequence[str], folder: Path | None) -> list[str]:
    """The models whose keys can be read, which takes an import of their files; the others are said."""
    kept, files = [], model_files(folder)
    for model in models:
        try:
            declared_settings(model, files[model])
        except (ConfigError, ModelError) as error:
            get_logger().info("left out: %s", error)
        else:
            kept.append(model)
    return kept


def _searchable(models: Sequence[str], folder: Path | None, space: str) -> list[str]:
    """The models whose YAML says what a search tries; the others are said."""
    kept = [model for model in models if model_values(model, folder).get(space)]
    if others := [model for model in models if model not in kept]:
        get_logger().info("left out, since their YAML has no %s: %s", space, ", ".join(others))
    return kept


def sample(trials: Sequence[Config], budget: int, kept: Sequence[Config] = ()) -> list[Config]:
    """At most `budget` grid points of each model and data set, without repetition, each with all its seeds.

    The draw depends on the grid and on the smallest seed alone, so the same command draws the same points. kept: the points of
    these are always among them.
    """
    chosen = []
    for group in by_model(trials).values():
        points = by_point(group)
        draw = random.Random(min(trial["seed"] for trial in group)).sample(range(len(points)), min(budget, len(points)))
        must = [i for i, some in enumerate(points.values()) if any(one is config for one in kept for config in some)]
        draw = [*must, *(i for i in draw if i not in must)][: len(draw)]
        chosen += [trial for i in sorted(draw) for trial in list(points.values())[i]]
    return chosen


def by_model(trials: Sequence[Config]) -> dict[tuple[str, str], list[Config]]:
    """Trials by model and data set."""
    groups: dict[tuple[str, str], list[Config]] = {}
    for trial in trials:
        groups.setdefault((trial["model"], trial["dataset"]), []).append(trial)
    return groups


def varied(trials: Sequence[Config]) -> list[str]:
    """The keys in which trials of one model and data set differ, but for the seed."""
    first = trials[0]
    return [key for key in first if key != "seed" and any(trial.peek(key) != first.peek(key) for trial in trials)]


def by_point(trials: Sequence[Config]) -> dict[tuple[str, ...], list[Config]]:
    """Trials of one model and data set by their values of the varied keys: each point with its seeds."""
    keys = varied(trials)
    points: dict[tuple[str, ...], list[Config]] = {}
    for trial in trials:
        points.setdefault(tuple(map(str, (trial.peek(key) for key in keys))), []).append(trial)
    return points


def describe(trial: Config, trials: Sequence[Config], seed: bool = True, named: Sequence[str] = ()) -> str:
    """Model, data set, and the settings in which `trial` differs from others of the same model and data set.

    named: keys that are named in any case.
    """
    peers = by_model(trials)[trial["model"], trial["dataset"]]
    keys = list(dict.fromkeys([*named, *varied(peers)]))
    if seed and any(peer["seed"] != trial["seed"] for peer in peers):
        keys.append("seed")
    return " ".join([f"{trial['model']} on {trial['dataset']}", *(f"{key}={value_text(trial.peek(key))}" for key in keys)])
