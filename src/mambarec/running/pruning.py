"""Runs of a search that are ended early, because Optuna's pruner sees no hope in their validation metric.

A run is judged after each validation by the runs that had ended when it began. So the same search judges the same in fresh
processes and again after a stop. A pruned run keeps its checkpoint, and its pruned.json says that it was pruned.
"""

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PRUNERS = ("median", "hyperband", "none")
PRUNED = "pruned.json"  # in the directory of a run that was pruned and has not been taken up again
STARTUP = 5  # points that are trained to their end before the median pruner judges
_FACTOR = 3  # of Hyperband: the share of runs that go on to the next rung is one in so many


class Pruned(Exception):
    """Ends the training of a run: after how many epochs, by which pruner."""

    def __init__(self, epochs: int, pruner: str):
        super().__init__(f"pruned after {epochs} epochs by the {pruner} pruner")
        self.epochs, self.pruner = epochs, pruner


def make_pruner(optuna: Any, name: str, min_epochs: int, epochs: int) -> Any:
    """Optuna's pruner of this name. It ends no run before `min_epochs`, since the metric of some models rises late."""
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=min_epochs)
    least = max(1, min(min_epochs, epochs))
    return optuna.pruners.HyperbandPruner(min_resource=least, max_resource=epochs, reduction_factor=_FACTOR)


@dataclass(frozen=True)
class Judge:
    """What judges one run, in whichever process it is trained.

    trial: the pickled Optuna trial, with all of its study that was known when the run began. metric: as in metrics.jsonl.
    """

    trial: bytes
    metric: str
    pruner: str

    @classmethod
    def of(cls, trial: Any, metric: str, pruner: str) -> "Judge":
        return cls(pickle.dumps(trial), metric.lower(), pruner)

    def begin(self) -> "Judgement":
        return Judgement(pickle.loads(self.trial), self.metric, self.pruner)


class Judgement:
    """The judging of one run, epoch by epoch. What is reported is the best value so far."""

    def __init__(self, trial: Any, metric: str, pruner: str):
        self.trial, self.metric, self.pruner, self.best = trial, metric, pruner, float("-inf")

    def ends(self, row: Mapping[str, Any]) -> bool:
        """Whether the run is to end after this row of metrics.jsonl; the rows come in their order."""
        if "valid" not in row:
            return False
        self.best = max(self.best, row["valid"][self.metric])
        self.trial.report(self.best, row["epoch"] + 1)
        return self.trial.should_prune()

    def ended(self, rows: Iterable[Mapping[str, Any]]) -> int | None:
        """After how many epochs the run ends, by the rows so far; None where it goes on."""
        return next((row["epoch"] + 1 for row in rows if self.ends(row)), None)

    def copy_to(self, trial: Any) -> None:
        """Give another trial what this one has reported, and what the pruner has noted of it."""
        storage, number = trial.storage, trial._trial_id
        seen = self.trial.storage.get_trial(number)
        for step, value in seen.intermediate_values.items():
            storage.set_trial_intermediate_value(number, step, value)
        for key, value in seen.system_attrs.items():
            storage.set_trial_system_attr(number, key, value)
