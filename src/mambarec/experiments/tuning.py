"""The best settings of a search as a YAML, src/configs/tuned/<data set>/<Model>.yaml, with the search that found them.

Every model gets the same budget: so many points, the values of its YAML among them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

import mambarec.config.catalogue as catalogue
from mambarec.base.errors import ConfigError, RunError
from mambarec.base.files import write_text
from mambarec.base.logger import get_logger
from mambarec.base.settings import takes_list
from mambarec.base.words import count, option, seeds_text
from mambarec.config.catalogue import TUNED_BUDGET, tuned_budget, tuned_file
from mambarec.config.configurator import Axis, Config
from mambarec.config.identity import identity_names
from mambarec.config.keys import RunSettings, keys_with, modality_of
from mambarec.experiments.grid import by_model, by_point, plan, varied
from mambarec.experiments.trials import Outcome, Trial

# What is no setting of a model: how long it trains, what is evaluated, on which data and machine.
_APART = {"seed", *keys_with("neutral", "budget", "selection", "evaluation", "machine", "data")}


def default_trials(models: Sequence[str], datasets: Sequence[str], given: Mapping[str, Any]) -> list[Config]:
    """Each model as its YAML has it, with the budget, the seeds and the places that a search was given.

    Where a YAML lists several values, as MMRec's do, the first of each is the model's. ConfigError where the search sets or
    varies what a tuned file cannot hold.
    """
    for key, value in given.items():
        if isinstance(value, Axis) and key in _APART - {"seed"} and not takes_list(RunSettings.model_fields[key]):
            raise ConfigError(
                f"{option(key).rstrip('=')} has several values, and it is no setting of a model: "
                f"{option('save-best', True)} compares points of one budget and one split. Give one value"
            )
    groups = by_model(plan(models, datasets, {key: value for key, value in given.items() if key in _APART})).values()
    defaults = [config for group in groups for config in next(iter(by_point(group).values()))]
    for config in defaults:
        features = [key for key in config if modality_of(key)]
        fixed = {*_identity(config), *features} - _APART
        single = {key: value for key, value in given.items() if not isinstance(value, Axis)}
        fixed |= {*_identity(config.at(**single))} & {*single} - _APART
        if refused := [key for key in given if key in fixed]:
            raise ConfigError(
                f"{option(refused[0]).rstrip('=')} makes another model of {config['model']}, and "
                f"{option('save-best', True)} keeps the settings of the one that its YAML describes; leave it out"
            )
    return defaults


def _identity(config: Config) -> list[str]:
    """The keys that say which model this is, at these settings."""
    return identity_names(config.peek("model_identity") or [], config.plain())


def _is_of_the_yaml(config: Config, default: Config) -> bool:
    """Whether a point of a space is the model that its YAML describes."""
    return all(config.peek(key) == default.peek(key) for key in {*_identity(config), *_identity(default)} - _APART)


def shared_out(space: Sequence[Trial], defaults: Sequence[Trial]) -> tuple[list[Config], list[Config]]:
    """The YAML's values as points of the space, and those that the space does not have."""
    of_space = {trial.path: trial.config for trial in space}
    inside = [of_space[trial.path] for trial in defaults if trial.path in of_space]
    return inside, [trial.config for trial in defaults if trial.path not in of_space]


def save_best(
    outcomes: Sequence[Outcome],
    space: Sequence[Trial],
    defaults: Sequence[Trial],
    given: Mapping[str, Any],
    budget: int | None,
    sampler: str,
) -> list[Path]:
    """Write the tuned file of each model and data set; returns their paths.

    outcomes: of all points that were tried, the defaults among them. space: every point of the search. given: what the command
    set. budget: how many points of each model were to be tried, None for all. A model of which no point has all its seeds has
    no file, which the log says.
    """
    paths = []
    for (model, dataset), configs in by_model([trial.config for trial in space]).items():

        def of_it(trial: Trial, name: tuple[str, str] = (model, dataset)) -> bool:
            return (trial.config["model"], trial.config["dataset"]) == name

        try:
            search = _Search(
                [outcome for outcome in outcomes if of_it(outcome.trial)],
                configs,
                {trial.path for trial in space},
                [trial for trial in defaults if of_it(trial)],
            )
        except RunError as error:
            get_logger().warning("%s", error)
            continue
        path = catalogue.config_folders()[0] / tuned_file(model, dataset)
        if path.exists():
            get_logger().info("%s is replaced; it had the budget: %s", path, tuned_budget(path))
        write_text(path, search.text(given, budget, sampler))
        _compare_budgets(path)
        paths.append(path)
    return paths


def _compare_budgets(path: Path) -> None:
    """Say where another model of the data set had another budget."""
    own = tuned_budget(path)
    for other in sorted(path.parent.glob("*.yaml")):
        if other != path and tuned_budget(other) != own:
            get_logger().warning(
                "%s had another budget (%s) than %s (%s). A fair table needs the same for each model",
                path.name,
                own,
                other.name,
                tuned_budget(other),
            )


class _Search:
    """What was tried of one model on one data set.

    configs: every point of the space. of_space: directories of its runs. defaults: the trials of the YAML's values. A point
    that is another model than that of the YAML is tried, and is never the best.
    """

    def __init__(
        self, outcomes: Sequence[Outcome], configs: Sequence[Config], of_space: set[Path], defaults: Sequence[Trial]
    ) -> None:
        self.first, self.configs = configs[0], configs
        self.metric = self.first["valid_metric"]
        self.seeds = sorted({config["seed"] for config in configs})
        by_config = {id(outcome.trial.config): outcome for outcome in outcomes}
        points = by_point([outcome.trial.config for outcome in outcomes]).values()
        self.points = [[by_config[id(config)] for config in point] for point in points]
        self.tried = [point for point in self.points if point[0].trial.path in of_space]
        of_yaml = defaults[0].config
        own = [point for point in self.points if _is_of_the_yaml(point[0].trial.config, of_yaml)]
        complete = [point for point in own if len(point) == len(self.seeds) and all(one.result for one in point)]
        if not complete:
            name = f"{self.first['model']} on {self.first['dataset']}"
            best = option("save-best", True)
            raise RunError(f"{best}: no setting of {name} was trained to its end with {seeds_text(self.seeds)}")
        of_default = {trial.path for trial in defaults}
        self.default = next((point for point in complete if point[0].trial.path in of_default), None)
        # Of equal ones the YAML's values, else the first.
        self.best = max([self.default, *complete] if self.default else complete, key=self.value)

    def value(self, point: Sequence[Outcome]) -> float:
        """The mean of the validation metric over the seeds of a point."""
        return mean(one.result["valid"][self.metric.lower()] for one in point if one.result)

    def text(self, given: Mapping[str, Any], budget: int | None, sampler: str) -> str:
        """The tuned file."""
        config, first = self.best[0].trial.config, self.first
        axes = [key for key in varied(self.configs) if key not in _APART]
        fixed = [key for key in given if key not in _APART and key not in axes and first.knows(key)]
        space = [" ".join([key, *dict.fromkeys(str(one[key]) for one in self.configs)]) for key in axes]
        limit = "all points of the space" if budget is None else f"at most {count(budget, 'point')}"
        values = [yaml.safe_dump({key: config[key]}, default_flow_style=True, width=10_000) for key in [*axes, *fixed]]
        n_space = len(by_point(self.configs))
        n_pruned = sum(any(one.pruned is not None for one in point) for point in self.points)
        n_failed = sum(any(one.error for one in point) for point in self.points)
        of_yaml = f"{self.value(self.default):.4f}" if self.default else "none, they failed"
        lines = [
            f"{first['model']} on {first['dataset']}: the best settings of a search on validation. --tuned uses them.",
            f"space: {'; '.join(space)}",
            f"{TUNED_BUDGET}: {limit}, the YAML's values among them; at most {count(first['epochs'], 'epoch')}, patience "
            f"{first['stopping_step']} from epoch {first['min_epochs']}; {seeds_text(self.seeds)}",
            f"tried: {count(len(self.points), 'point')}, {len(self.tried)} of them of the {n_space} of the space"
            f"{f', sampler {sampler}' if budget else ''}; {n_pruned} pruned, {n_failed} failed",
            f"validation {self.metric}{', mean over the seeds' * (len(self.seeds) > 1)}: best {self.value(self.best):.4f}, "
            f"YAML's values {of_yaml}",
        ]
        return "\n".join([*(f"# {line}" for line in lines), *(line.strip()[1:-1] for line in values), ""])
