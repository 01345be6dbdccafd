"""All trials of one command: which of them its budget allows, in which order they run, and the experiment that names them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mambarec.base.logger import get_logger
from mambarec.base.words import count
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.experiments.engines import LocalProcesses
from mambarec.experiments.experiment import Experiment, plan_experiment
from mambarec.experiments.grid import by_model, by_point, sample
from mambarec.experiments.order import Order
from mambarec.experiments.ray_engine import RayCluster
from mambarec.experiments.tpe import search
from mambarec.experiments.trials import Engine, Outcome, Trial, prepare, run_trials
from mambarec.experiments.tuning import default_trials, save_best, shared_out
from mambarec.running.directory import RunDirectory
from mambarec.running.pruning import Judge

Name = tuple[str, str]  # of a model and a data set


class Sweep:
    """A grid of trials, or the points of it that a budget allows. `run` trains them.

    `experiment` is their plan; None where there is only one trial. `tuned_files` are what --save-best has written.
    """

    def __init__(self, order: Order, configs: Sequence[Config], datasets: dict[str, RecDataset]):
        """configs: the whole grid that the order asks for. datasets: those that were read already, as in `trials.prepare`.

        DataError for a data set with a defect, ConfigError where another experiment has the name.
        """
        self.order, self.configs, self.overrides = order, configs, order.overrides
        self.place = Path(configs[0]["results_dir"])
        of_yaml = _of_yaml(configs, order.datasets, self.overrides) if order.save_best else []
        trials = prepare([*configs, *of_yaml], anew=order.restart, datasets=datasets)
        self._trials = {id(trial.config): trial for trial in trials}
        self._space, self._of_yaml = self._known(configs), prepare(of_yaml, datasets=datasets)
        self._inside, self._outside = shared_out(self._space, self._of_yaml)
        self._restarted: set[Path] = set()
        self.tuned_files: list[Path] = []
        self.experiment = self._plan(trials).begun(self.place) if len(trials) > 1 else None

    def run(self) -> list[Outcome]:
        """Train all trials that the budget allows; their outcomes, those of finished runs among them."""
        outcomes = self._search() if self.order.sampler == "tpe" else self._train(self._drawn)
        if self.experiment:
            complete = all(outcome.result or outcome.pruned is not None for outcome in outcomes)
            pruned = {outcome.trial.path: outcome.pruned for outcome in outcomes if outcome.pruned is not None}
            paths = [outcome.trial.path for outcome in outcomes]
            self.experiment = self.experiment.ended(self.place, paths, complete, pruned)
        if self.order.save_best:
            budget, sampler = self.order.budget, self.order.sampler
            self.tuned_files = save_best(outcomes, self._space, self._of_yaml, self.overrides, budget, sampler)
        return outcomes

    def _search(self) -> list[Outcome]:
        """Let Optuna choose the points, one after the other."""
        outcomes = self._asked([(config, None) for config in self._outside]) if self._outside else []
        for name, group in by_model(self.configs).items():
            outcomes += search(group, self._n_points[name], self.order.jobs, self._asked, self.order.used_pruner, self._inside)
        return outcomes

    def _asked(self, points: Sequence[tuple[Config, Judge | None]]) -> list[Outcome]:
        """Train what the search asks for next, and add it to the experiment."""
        trials = [replace(self._trials[id(config)], judge=judge) for config, judge in points if id(config) in self._trials]
        if self.experiment:
            self.experiment = self.experiment.with_trials(self.place, [trial.path for trial in trials])
        return self._train(trials)

    def _train(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Run trials. With --restart each is thrown away when it starts; those of points that the budget leaves out stay."""
        if self.order.restart:
            for path in {trial.path for trial in trials} - self._restarted:
                RunDirectory(path).mark_for_restart()
            self._restarted |= {trial.path for trial in trials}
        return run_trials(trials, self._engine, self.order.jobs)

    @cached_property
    def _engine(self) -> Engine:
        if self.order.engine == "ray":
            return RayCluster(self.order.workers, self.order.gpus or 1.0)
        return LocalProcesses(self.order.jobs)

    @cached_property
    def _n_points(self) -> dict[Name, int]:
        """How many points of its grid each model may try. The YAML's values are one of the budget, in the grid or not."""
        budget, apart = self.order.budget, by_model(self._outside)
        points = {}
        for name, group in by_model(self.configs).items():
            points[name] = budget - (name in apart) if budget else len(group)
            if budget and points[name] > (has := len(by_point(group))):
                model, dataset = name
                get_logger().info(
                    "%s on %s: the budget is %d, but the space has %s", model, dataset, budget, count(has, "point")
                )
        return points

    @property
    def _drawn(self) -> list[Trial]:
        """The trials of the points that are drawn at random, all points without a budget, and the YAML's values."""
        groups = by_model(self.configs).items()
        drawn = [config for name, group in groups for config in sample(group, self._n_points[name], self._inside)]
        return self._known([*drawn, *self._outside])

    def _known(self, configs: Sequence[Config]) -> list[Trial]:
        """The trials of configurations; one of two that make the same run."""
        return [self._trials[id(config)] for config in configs if id(config) in self._trials]

    def _plan(self, trials: Sequence[Trial]) -> Experiment:
        order = self.order
        if order.search or order.budget:
            purpose = "search"
        else:
            purpose = "comparison" if len({config["model"] for config in self.configs}) > 1 else "grid"
        given = dict(self.overrides)
        if order.budget:
            given |= {"sampler": order.sampler, "search_budget": order.budget}
            given |= {"save_best": True} if order.save_best else {}  # then the YAML's values are one of the points
        if order.used_pruner != "none":
            given["pruner"] = order.used_pruner
        chosen = [] if order.sampler == "tpe" else [trial.path for trial in self._drawn]  # a search learns them as it goes
        paths = [trial.path for trial in trials]
        return plan_experiment(order.name, purpose, self.configs, paths, given, order.budget, chosen)


def _of_yaml(configs: Sequence[Config], datasets: Sequence[str], overrides: dict[str, Any]) -> list[Config]:
    """`default_trials` of the models and data sets that are trained."""
    trained = by_model(configs)
    models = list(dict.fromkeys(model for model, _ in trained))
    return [one for one in default_trials(models, datasets, overrides) if (one["model"], one["dataset"]) in trained]
