"""What a command, or a call of the Python interface, asks to be trained, and which of its options go together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mambarec.base.errors import ConfigError
from mambarec.base.logger import get_logger
from mambarec.base.words import command, is_python, listed, option
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.experiments.engines import threads_each
from mambarec.experiments.grid import by_model, by_point
from mambarec.experiments.summary import failed_alike
from mambarec.experiments.trials import unmet_needs

SAMPLERS = ("random", "tpe")
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Order:
    """What is asked for; ConfigError for options that do not go together. The fields are the options of `mambarec train`.

    models: names, or one word of grid.EVERY. given: the configuration keys that are set. search: True, or 'wide' for the
    larger grid. budget: points of each model's grid to try, None for all. pruner: one of PRUNERS; None leaves the choice to
    `used_pruner`. jobs: trials at a time. workers, gpus: with Ray, the processes of a trial, and the GPUs of each.
    """

    models: Sequence[str]
    datasets: Sequence[str]
    given: Mapping[str, Any] = field(default_factory=dict)
    search: bool | str = False
    budget: int | None = None
    sampler: str = "random"
    pruner: str | None = None
    save_best: bool = False
    legacy_test_selection: bool = False
    show_test: bool = False
    reference: str | None = None
    name: str | None = None
    jobs: int = 1
    engine: str = "local"
    workers: int = 1
    gpus: float | None = None
    resume: bool = False
    restart: bool = False

    def __post_init__(self) -> None:
        if mistake := self._contradiction():
            raise ConfigError(mistake)

    @cached_property
    def overrides(self) -> dict[str, Any]:
        """The configuration keys of the trials: those given, and their `threads`."""
        return with_threads(self.given, self.jobs, self.engine)

    @property
    def used_pruner(self) -> str:
        """The pruner that is asked for, else the median rule for a search by Optuna whose trials have one process each."""
        return self.pruner or ("median" if self.sampler == "tpe" and self.workers == 1 else "none")

    def trainable(self, configs: Sequence[Config], datasets: dict[str, RecDataset]) -> list[Config]:
        """The configurations that can be trained; ConfigError before anything is trained where some cannot.

        With the model `usable`, what cannot be trained is left out and said. A single run is left to say itself what it needs.
        datasets: as in `prepare`, which gets those that are read here.
        """
        usable = list(self.models) == ["usable"]
        if len(configs) == 1 and not usable:
            return list(configs)
        unmet = unmet_needs(configs, datasets)
        if not unmet:
            return list(configs)
        lines = "\n".join(failed_alike(((f"{model} on {name}", why) for (model, name), why in unmet.items()), "model"))
        kept = [config for config in configs if (config["model"], config["dataset"]) not in unmet]
        if usable and kept:
            get_logger().info("left out, since something is missing:\n%s", lines)
            return kept
        missing_somewhere = {model for model, _ in unmet}
        others = list(dict.fromkeys(config["model"] for config in configs if config["model"] not in missing_somewhere))
        by_name = f", or name the others: {option('-m', *others)}" if others else ""
        hint = f" Leave them out: give {option('-m', 'usable')}{by_name}." if kept else ""
        raise ConfigError(f"nothing is trained, since something is missing.{hint}\n{lines}")

    def check(self, configs: Sequence[Config]) -> None:
        """ConfigError before anything is trained where an option cannot have an effect on these configurations."""
        budget = option("search-budget", self.budget) if self.budget else ""
        asked = option("save-best", True) if self.save_best else budget
        if asked and all(len(by_point(group)) == 1 for group in by_model(configs).values()):
            search = "" if is_python() or self.search else "--search, or "
            one = ". The search space has one point with the values that are given" * bool(self.search)
            raise ConfigError(f"{asked} needs several settings to choose from: give {search}several values of a key{one}")
        if self.search and not asked and all(len(by_point(group)) == 1 for group in by_model(configs).values()):
            names, single = (
                listed(list(dict.fromkeys(config["model"] for config in configs))),
                "mr.train()" if is_python() else command("train"),
            )
            raise ConfigError(f"there is nothing to search: the search space of {names} has one point here. Use {single}")
        if len(configs) == 1:
            self._check_one_run()
        models = list(dict.fromkeys(config["model"] for config in configs))
        # A row's name begins with that of its model.
        if self.reference is not None and self.reference.partition(" ")[0].lower() not in {name.lower() for name in models}:
            raise ConfigError(
                f"{option('reference', self.reference)}: no such model is trained here. There are: {', '.join(models)}"
            )

    def _check_one_run(self) -> None:
        if self.name is not None:
            raise ConfigError(f"{option('name', self.name)}: an experiment has several trials, and this is one run")
        if self.jobs > 1:
            raise ConfigError(
                f"{option('jobs', self.jobs)} runs several trials side by side, and this is one run; leave it out"
            )
        for name, given in (("legacy-test-selection", self.legacy_test_selection), ("show-test", self.show_test)):
            if given:
                raise ConfigError(f"{option(name, True)} is for several settings, and this is one run; leave it out")
        if self.reference is not None:
            reference = option("reference", self.reference)
            raise ConfigError(f"{reference}: a reference is tested against other rows, and this is one run")

    def _contradiction(self) -> str | None:
        """What is wrong with options that do not go together."""
        workers, best, budget = option("workers-per-trial"), option("save-best", True), option("search-budget")
        tpe, pruner = option("sampler", "tpe"), option("pruner", self.pruner)
        if self.resume and self.restart:
            goes_on, deletes = option("resume", True), option("restart", True)
            return f"{goes_on} goes on with what is there, and {deletes} deletes it; leave one of the two out"
        if self.sampler == "tpe" and not self.budget:
            return f"{tpe} needs {budget}, the number of points to try"
        if self.pruner and self.sampler != "tpe":
            return f"{pruner} needs {tpe}"
        if self.engine != "ray" and (self.workers > 1 or self.gpus is not None):
            return f"{workers} and {option('gpus-per-trial')} are for {option('engine', 'ray')}"
        if self.pruner in ("median", "hyperband") and self.workers > 1:
            return f"{pruner} does not end trials of several workers; leave one of the two out"
        if self.save_best and self.budget == 1:
            return f"{best} needs a {budget} above 1, for the YAML's own values are one of its points"
        if self.save_best and self.legacy_test_selection:
            return f"{best} goes by validation; leave {option('legacy-test-selection', True)} out"
        if self.save_best and self.given.get("tuned"):
            return f"{best} finds the tuned values; leave {option('tuned', True)} out"
        return None


def with_threads(given: Mapping[str, Any], jobs: int, engine: str = "local") -> dict[str, Any]:
    """Configuration keys, with the threads of each trial where several share a machine or Ray places them."""
    if jobs == 1 and engine == "local":
        return dict(given)
    return {**given, "threads": given.get("threads", threads_each(jobs))}
