"""Many trials: what is finished stays, what was stopped goes on, what fails is reported and stops nothing else."""

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.directory import RunDirectory
from experiments.grid import describe
from experiments.run import open_dataset, run, run_path
from utils.configurator import Config
from utils.dataset import RecDataset
from utils.errors import UserError
from utils.logger import get_logger
from utils.words import duration

SHOWN = 40  # trials that the plan lists one by one
_DATA_KEYS = frozenset(
    "dataset data_path inter_file_name modalities is_multimodal_model end2end field_separator USER_ID_FIELD ITEM_ID_FIELD "
    "inter_splitting_label".split()
)  # what the fingerprint of the data depends on, beside the feature files


@dataclass(frozen=True)
class Trial:
    """One run to be made: its configuration, its directory, and what to call it on the console."""

    config: Config
    path: Path
    name: str

    @property
    def state(self) -> str:
        """'finished', 'stopped' before its end, or 'new'."""
        finished = (self.path / "result.json").exists()
        return "finished" if finished else "stopped" if (self.path / "checkpoint.pt").exists() else "new"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: with its result, or with the error that ended it."""

    trial: Trial
    result: dict[str, Any] | None = None
    error: str | None = None


Engine = Callable[[Sequence[Trial]], Iterable[Outcome]]  # gives outcomes as trials end


def prepare(configs: Sequence[Config]) -> list[Trial]:
    """Trials of configurations, each once; reads every data set they name, so that its defects are met before training."""
    datasets: dict[str, RecDataset] = {}
    trials: dict[Path, Trial] = {}
    for config in configs:
        read = str([(key, config[key]) for key in config if key.endswith("_feature_file") or key in _DATA_KEYS])
        if read not in datasets:
            datasets[read] = open_dataset(config)
        path = run_path(config, datasets[read])
        trials.setdefault(path, Trial(config, path, describe(config, configs)))
    return list(trials.values())


def attempt(trial: Trial) -> Outcome:
    """Run a trial, going on from its checkpoint if there is one; whatever it raises becomes its error."""
    try:
        return Outcome(trial, result=run(trial.config, resume=True))
    except UserError as error:
        return Outcome(trial, error=str(error))
    except Exception as error:  # a model's own mistake must not end the other trials
        if trial.path.is_dir():
            with (trial.path / "train.log").open("a", encoding="utf-8") as file:
                file.write(traceback.format_exc())
        return Outcome(trial, error=f"{type(error).__name__}: {error} (traceback in {trial.path / 'train.log'})")


def one_after_the_other(trials: Sequence[Trial]) -> Iterator[Outcome]:
    """The engine without workers: trials in this process, their epochs on the console."""
    for number, trial in enumerate(trials, 1):
        if len(trials) > 1:
            get_logger().info("\n%d of %d: %s", number, len(trials), trial.name)
        yield attempt(trial)


def run_trials(trials: Sequence[Trial], engine: Engine = one_after_the_other, workers: int = 1) -> list[Outcome]:
    """Outcomes of all trials, in their order; finished ones are not run again.

    Prints the plan first, and after each trial how long the rest may take when `workers` trials run at a time.
    """
    states = [trial.state for trial in trials]
    outcomes = {trial.path: _finished(trial) for trial, state in zip(trials, states, strict=True) if state == "finished"}
    left = {trial.path: trial for trial in trials if trial.path not in outcomes}
    clock = _Clock(trials, workers)
    _show_plan(trials, states, clock.time_for(left.values()))
    for outcome in engine(list(left.values())):
        outcomes[outcome.trial.path] = outcome
        del left[outcome.trial.path]
        if outcome.result:
            clock.add(outcome)
        _show_outcome(outcome, f"{len(outcomes)}/{len(trials)}", clock.time_for(left.values()))
    return [outcomes[trial.path] for trial in trials]


def _finished(trial: Trial) -> Outcome:
    return Outcome(trial, {**(RunDirectory(trial.path).result() or {}), "directory": str(trial.path)})


def finished_results(place: Path) -> list[dict[str, Any]]:
    """The results of the finished runs in results/<dataset>/<model>."""
    results = [RunDirectory(path.parent).result() for path in sorted(place.glob("*/result.json"))]
    return [result for result in results if result]


class _Clock:
    """How long trials take, learned from the finished ones of the same model and data set."""

    def __init__(self, trials: Sequence[Trial], workers: int):
        self.workers = workers
        places = {trial.path.parent for trial in trials}
        self.seconds = {place: [result["seconds_total"] for result in finished_results(place)] for place in places}

    def add(self, outcome: Outcome) -> None:
        self.seconds[outcome.trial.path.parent].append(outcome.result["seconds_total"])  # type: ignore[index]

    def time_for(self, trials: Collection[Trial]) -> str:
        """What is known of the time that `trials` will take, in words; empty when nothing is."""
        known = [self.seconds[trial.path.parent] for trial in trials if self.seconds[trial.path.parent]]
        if not known:
            return ""
        total = sum(sum(seconds) / len(seconds) for seconds in known) / min(self.workers, len(trials))
        unknown = len(trials) - len(known)
        return f"about {duration(total)}" + (f" and {unknown} of unknown length" if unknown else "")


_STATES = {"finished": "finished", "stopped": "stopped, to go on with", "new": "to train"}


def _show_plan(trials: Sequence[Trial], states: Sequence[str], time_left: str) -> None:
    if len(trials) == 1:
        return
    counts = [f"{states.count(state)} {text}" for state, text in _STATES.items() if state in states]
    get_logger().info("%d trials: %s%s", len(trials), ", ".join(counts), f"; {time_left}" if time_left else "")
    for trial, state in list(zip(trials, states, strict=True))[:SHOWN]:
        get_logger().info("  %-8s  %s", state, trial.name)
    if len(trials) > SHOWN:
        get_logger().info("  … and %d more", len(trials) - SHOWN)


def _show_outcome(outcome: Outcome, progress: str, time_left: str) -> None:
    if outcome.result:
        metric = outcome.trial.config["valid_metric"].lower()
        text = f"validation {metric} {outcome.result['valid'][metric]:.4f}, {duration(outcome.result['seconds_total'])}"
    else:
        text = f"failed: {outcome.error}"
    get_logger().info("[%s%s] %s: %s", progress, f", {time_left} left" if time_left else "", outcome.trial.name, text)
