"""Search by Optuna's tree-structured Parzen estimator: each point is chosen by what the ones before it gave on validation.

Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011. Optuna is the optional extra [search].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from mambarec.base.bounded import first_line
from mambarec.base.extras import optional
from mambarec.base.logger import get_logger
from mambarec.base.words import option
from mambarec.config.configurator import Config, distinct
from mambarec.experiments.grid import by_model, by_point, varied
from mambarec.experiments.trials import Outcome
from mambarec.running.directory import RunDirectory
from mambarec.running.pruning import Judge, make_pruner

Point = tuple[str, ...]
Run = Callable[[list[tuple[Config, Judge | None]]], list[Outcome]]


def search(
    configs: Sequence[Config], budget: int, at_a_time: int, run: Run, pruner: str = "none", first: Sequence[Config] = ()
) -> list[Outcome]:
    """Try `budget` points of the grid of each model and data set, `at_a_time` side by side; outcomes of all their seeds.

    first: the points of these come first, and are not pruned. pruner: of PRUNERS; it judges the smallest seed of a point, and
    where that is pruned, the other seeds are not run. A pruned run that was taken up again and finished counts with its result.

    A search that was stopped is played again from its start: what it had finished is read from disk, so it asks for the
    same points. Optuna's own record of it is <results_dir>/<dataset>/<model>/search.db.
    """
    groups = by_model(configs).values()
    return [outcome for group in groups for outcome in _search(group, budget, at_a_time, run, pruner, first)]


def _search(
    configs: Sequence[Config], budget: int, at_a_time: int, run: Run, pruner: str, begin_with: Sequence[Config]
) -> list[Outcome]:
    configs = sorted(configs, key=lambda config: config["seed"])  # in whichever order the command named the seeds
    points, keys = by_point(configs), varied(configs)
    first = configs[0]
    values = {key: _in_order([config[key] for config in configs]) for key in keys}
    axes = {key: list(map(str, some)) for key, some in values.items()}
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=first["seed"], n_startup_trials=5, constant_liar=True)
    judging = make_pruner(optuna, pruner, first["min_epochs"], first["epochs"])
    name = f"{first['model']} on {first['dataset']}"  # of which Hyperband makes the brackets
    study = optuna.create_study(study_name=name, sampler=sampler, pruner=judging, direction="maximize")
    record = _Record(optuna, Path(first["results_dir"]) / first["dataset"] / first["model"] / "search.db", axes)
    distributions = {key: _distribution(optuna, some) for key, some in values.items()}
    failed, ended_early = optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED

    spared = [point for point, some in points.items() if any(one is config for one in begin_with for config in some)]
    for point in spared:
        study.enqueue_trial({key: axes[key].index(value) for key, value in zip(keys, point, strict=True)})
    outcomes: dict[Point, list[Outcome]] = {}
    while len(outcomes) < min(budget, len(points)):
        asked: dict[Point, Any] = {}
        while len(asked) < at_a_time and len(outcomes) + len(asked) < min(budget, len(points)):
            trial = study.ask(distributions)
            point = tuple(axes[key][trial.params[key]] for key in keys)
            if point in points and point not in outcomes and point not in asked:
                asked[point] = trial
                continue
            record.add(study.tell(trial, state=failed))  # known already: let the first point come that is not
            point = next(one for one in points if one not in outcomes and one not in asked)
            study.enqueue_trial({key: axes[key].index(value) for key, value in zip(keys, point, strict=True)})
            asked[point] = study.ask(distributions)
        last = len(outcomes) + len(asked)
        which = f"point {last}" if len(asked) == 1 else f"points {len(outcomes) + 1} to {last}"
        get_logger().info("%s: %s of %d", name, which, min(budget, len(points)))
        judges = {point: Judge.of(trial, first["valid_metric"], pruner) for point, trial in asked.items() if pruner != "none"}
        for point, done in _run(points, list(asked), judges, spared, run).items():
            outcomes[point] = done
            if point in judges and done[0].error is None:
                _follow(judges[point], done[0], asked[point])
        for point, trial in asked.items():
            if any(one.pruned is not None for one in outcomes[point]):
                record.add(study.tell(trial, state=ended_early))
                continue
            value = _value(outcomes[point])
            record.add(study.tell(trial, value, state=failed if value is None else None))
    return [outcome for group in outcomes.values() for outcome in group]


def _run(
    points: Mapping[Point, Sequence[Config]],
    asked: Sequence[Point],
    judges: Mapping[Point, Judge],
    spared: Sequence[Point],
    run: Run,
) -> dict[Point, list[Outcome]]:
    """Outcomes of some points, those of a point in the order of its seeds; with judges, its smallest seed before the others."""
    judging = {point: judge for point, judge in judges.items() if point not in spared}
    stages = [slice(0, 1), slice(1, None)] if judges else [slice(None)]
    outcomes: dict[Point, list[Outcome]] = {point: [] for point in asked}
    for number, stage in enumerate(stages):
        going_on = [point for point in asked if all(one.pruned is None for one in outcomes[point])]
        some = [(config, None if number else judging.get(point)) for point in going_on for config in points[point][stage]]
        done = {id(outcome.trial.config): outcome for outcome in run(some)} if some else {}
        for point in going_on:
            outcomes[point] += [done[id(config)] for config in points[point][stage]]
    return outcomes


def _follow(judge: Judge, outcome: Outcome, trial: Any) -> None:
    """Let the study see the epochs of a run as its judge has seen them."""
    judgement = judge.begin()
    for row in RunDirectory(outcome.trial.path).metrics():
        if judgement.ends(row) and outcome.pruned is not None:
            break
    judgement.copy_to(trial)


def _value(outcomes: Sequence[Outcome]) -> float | None:
    """Mean of the validation metric over the seeds; None when one of them failed."""
    values = [one.result["valid"][one.trial.config["valid_metric"].lower()] for one in outcomes if one.result]
    return mean(values) if len(values) == len(outcomes) else None


class _Record:
    """The study on disk, for Optuna's own tools, in the place of an earlier one of the same grid.

    The search does not read it. Where it cannot be written, the search goes on and says so once.
    """

    def __init__(self, optuna: Any, path: Path, axes: dict[str, list[str]]):
        from sqlalchemy.exc import SQLAlchemyError  # comes with Optuna

        self.failures = (SQLAlchemyError, optuna.exceptions.OptunaError, OSError)
        self.path, self.study = path, None
        storage, name = f"sqlite:///{path}", " × ".join(f"{key} {' '.join(values)}" for key, values in axes.items())
        with self._kept():
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in optuna.get_all_study_names(storage):
                optuna.delete_study(study_name=name, storage=storage)
            self.study = optuna.create_study(study_name=name, storage=storage, direction="maximize")

    def add(self, trial: Any) -> None:
        if self.study is not None:
            with self._kept():
                self.study.add_trial(trial)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except self.failures as error:
            self.study = None
            get_logger().warning("%s cannot be written (%s). The search goes on without it", self.path, first_line(error))


def _in_order(values: Sequence[Any]) -> list[Any]:
    """The values of an axis, each once. Numbers rise or fall, whichever the first and the last that were given do."""
    found = distinct(values)
    return sorted(found, reverse=found[0] > found[-1]) if _are_numbers(found) else found


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _distribution(optuna: Any, values: Sequence[Any]) -> Any:
    """Over the positions of an axis' values: ordered where they are numbers, so that neighbours tell of one another."""
    if _are_numbers(values):
        return optuna.distributions.IntDistribution(0, len(values) - 1)
    return optuna.distributions.CategoricalDistribution(range(len(values)))


def _optuna() -> Any:
    optuna = optional("optuna", "optuna", "search", f"{option('sampler', 'tpe')} needs")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
