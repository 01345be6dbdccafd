"""Many runs: the plan of models, data sets, grid points and seeds, run one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.run import run
from utils.configurator import Config, available_models
from utils.errors import ConfigError
from utils.logger import get_logger


def plan(models: Sequence[str], datasets: Sequence[str], overrides: Mapping[str, Any], search: bool = False) -> list[Config]:
    """One Config per trial. With several models, a key goes to those that know it, and must be known to one at least."""
    models = available_models() if list(models) == ["all"] else models
    trials, used = [], set()
    for dataset in datasets:
        for model in models:
            known = dict(overrides)
            if len(models) > 1:
                defaults = Config(model, dataset, {"mg": True} if overrides.get("mg") else {})
                known = {key: value for key, value in overrides.items() if defaults.knows(key)}
            used |= set(known)
            trials += Config(model, dataset, known, search).trials()
    unused = [key for key in overrides if key not in used]
    if unused:
        raise ConfigError(f"none of {', '.join(models)} has a key '{unused[0]}'")
    return trials


def run_all(trials: Sequence[Config], resume: bool = False, restart: bool = False) -> list[dict[str, Any]]:
    """Results of all trials in order; those that are finished are not trained again."""
    results = []
    for number, trial in enumerate(trials, 1):
        if len(trials) > 1:
            get_logger().info("trial %d of %d: %s", number, len(trials), describe(trial, trials))
        results.append(run(trial, resume=resume, restart=restart))
    return results


def describe(trial: Config, trials: Sequence[Config]) -> str:
    """Model, data set, and the settings in which `trial` differs from others of the same model and data set."""
    name = (trial["model"], trial["dataset"])
    peers = [other for other in trials if (other["model"], other["dataset"]) == name]
    varied = [key for key in trial if any(other[key] != trial[key] for other in peers)]
    return " ".join([f"{name[0]} on {name[1]}", *(f"{key}={trial[key]}" for key in varied)])
