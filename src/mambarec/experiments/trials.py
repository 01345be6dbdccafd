"""Many trials: what is finished stays, what was stopped goes on, what fails is reported and stops nothing else."""

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from mambarec.base.errors import RunError, UserError, explained
from mambarec.base.files import naming
from mambarec.base.logger import get_logger
from mambarec.base.stopping import stop
from mambarec.base.words import count, duration, option
from mambarec.config.configurator import Config
from mambarec.config.keys import keys_with, modality_of
from mambarec.data.dataset import RecDataset
from mambarec.experiments.grid import describe
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import finished_results, paces
from mambarec.running.needs import unmet_need
from mambarec.running.pruning import Judge, Pruned
from mambarec.running.run import open_dataset, run, run_path
from mambarec.running.watching import Status, Watch, watch_nothing, watching

SHOWN = 40  # trials that the plan lists one by one
# What the fingerprint of the data depends on, beside the feature files.
_DATA_KEYS = {"dataset", "data_path", *keys_with("data", "features")}


@dataclass(frozen=True)
class Trial:
    """One run to be made: its configuration, its directory, and what to call it on the console.

    anew: it does not go on from a run of a smaller cap of epochs. judge: of a search, what may end the run early.
    """

    config: Config
    path: Path
    name: str
    anew: bool = False
    judge: Judge | None = None

    @property
    def state(self) -> str:
        """'finished', 'pruned' by a search, 'stopped' before its end, or 'new', as one is that starts over."""
        directory = RunDirectory(self.path)
        try:
            if directory.is_to_restart:
                return "new"
            if directory.is_finished or not directory.is_stopped:
                return "finished" if directory.is_finished else "new"
            return "pruned" if directory.is_pruned else "stopped"
        except OSError:  # the trial will say what is wrong
            return "new"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: with its result, with the error that ended it, or pruned by a search after so many epochs."""

    trial: Trial
    result: dict[str, Any] | None = None
    error: str | None = None
    pruned: int | None = None


Show = Callable[[Trial, Status | None], None]  # is told how running trials come on; None: this one no longer runs
Engine = Callable[[Sequence[Trial], Show], Iterable[Outcome]]  # gives outcomes as trials end


def how_to_go_on(trials: Iterable[Trial]) -> str:
    """The sentence that ends a command that was stopped. --restart would throw away what it has saved."""
    without = f" without {option('restart', True)}" if any(trial.anew for trial in trials) else ""
    return f"The same command{without} goes on"


def show_nothing(trial: Trial, status: Status | None) -> None:
    """For engines whose trials nobody watches."""


def prepare(
    configs: Sequence[Config],
    anew: bool = False,
    among: Sequence[Config] = (),
    datasets: dict[str, RecDataset] | None = None,
) -> list[Trial]:
    """Trials of configurations, each once; reads every data set they name, so that its defects are met before training.

    among: all of the command's, from which they differ by the settings in their names; without it, these. datasets: those that
    an earlier call has read, to which this one adds.
    """
    datasets = {} if datasets is None else datasets
    trials: dict[Path, Trial] = {}
    for config in configs:
        path = run_path(config, opened(config, datasets))
        trials.setdefault(path, Trial(config, path, describe(config, among or configs), anew))
    return list(trials.values())


def opened(config: Config, datasets: dict[str, RecDataset]) -> RecDataset:
    """The data set of a configuration, read once for all that read the same of it. datasets: as in `prepare`."""
    read = str([(key, config[key]) for key in config if modality_of(key) or key in _DATA_KEYS])
    if read not in datasets:
        datasets[read] = open_dataset(config)
    return datasets[read]


def unmet_needs(configs: Sequence[Config], datasets: dict[str, RecDataset]) -> dict[tuple[str, str], str]:
    """Model and data set -> why it cannot be trained there, for those of which this is known before anything is trained.

    datasets: as in `prepare`.
    """
    found: dict[tuple[str, str], str] = {}
    different = {(one["model"], one["dataset"], str(one["modalities"])): one for one in configs}
    for (model, dataset, _), config in different.items():
        if why := unmet_need(config, opened(config, datasets)):
            found.setdefault((model, dataset), why)
    return found


def attempt(trial: Trial, watch: Watch = watch_nothing) -> Outcome:
    """Run a trial, going on from its checkpoint if there is one; whatever it raises becomes its error."""
    try:
        extend = not trial.anew
        return Outcome(trial, run(trial.config, resume=True, asked=False, extend=extend, watch=watch, judge=trial.judge))
    except Pruned as end:
        return Outcome(trial, pruned=end.epochs)
    except UserError as error:
        return Outcome(trial, error=str(error))
    except MemoryError as error:
        return Outcome(trial, error=f"memory does not suffice ({error}). Lower {option('jobs')}, or use a smaller model")
    except (Exception, SystemExit) as error:  # a mistake of a model, or a full disk, must not end the other trials
        if isinstance(error, OSError) and (text := explained(error)):
            return Outcome(trial, error=text)
        return Outcome(trial, error=f"{type(error).__name__}: {error} ({_kept(traceback.format_exc(), trial)})")


def _kept(text: str, trial: Trial) -> str:
    """Where a traceback was put: into the trial's log, or where this cannot be, here."""
    log = trial.path / "train.log"
    try:
        with naming(log), log.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return f"its traceback: {text}"
    return f"traceback in {log}"


def one_after_the_other(trials: Sequence[Trial], show: Show = show_nothing) -> Iterator[Outcome]:
    """The engine without workers: trials in this process, with their epochs on the console, and sharing its peak of memory."""
    for number, trial in enumerate(trials, 1):
        if len(trials) > 1:
            get_logger().info("\n%d of %d: %s", number, len(trials), trial.name)
        yield attempt(trial, partial(show, trial))
        if stop.signal:
            stop.end()


def run_trials(trials: Sequence[Trial], engine: Engine = one_after_the_other, workers: int = 1) -> list[Outcome]:
    """Outcomes of all trials, in their order; finished ones are not run again.

    Prints the plan first, and after each trial how long the rest takes at most when `workers` trials run at a time.
    """
    states = [trial.state for trial in trials]
    known = [_known(trial, state) for trial, state in zip(trials, states, strict=True)]
    outcomes = {outcome.trial.path: outcome for outcome in known if outcome}
    left = {trial.path: trial for trial in trials if trial.path not in outcomes}
    clock = _Clock(trials, workers)
    _show_plan(trials, states, clock.time_for(left.values()))
    for trial in left.values():
        if not trial.anew and RunDirectory(trial.path).is_to_restart:
            get_logger().info("%s: an earlier command asked to throw it away: it starts over", trial.name)
    with watching(lines=engine is not one_after_the_other) as display:

        def show(trial: Trial, status: Status | None) -> None:
            clock.running[trial.path] = status
            display.show(trial.name, status)

        for outcome in engine(list(left.values()), show):
            outcomes[outcome.trial.path] = outcome
            del left[outcome.trial.path]
            clock.add(outcome)
            display.show(outcome.trial.name, None)
            _show_outcome(outcome, f"{len(outcomes)}/{len(trials)}", clock.time_for(left.values()))
    return [outcomes[trial.path] for trial in trials]


def _known(trial: Trial, state: str) -> Outcome | None:
    """The outcome of a trial that is finished, or pruned as its judge would have it again; None for one that is to be run."""
    if state == "finished":
        return _finished(trial)
    if state == "pruned" and trial.judge:
        with suppress(RunError):  # where it is damaged, the run itself will say so
            if epochs := trial.judge.begin().ended(RunDirectory(trial.path).metrics()):
                return Outcome(trial, pruned=epochs)
    return None


def _finished(trial: Trial) -> Outcome:
    directory = RunDirectory(trial.path)
    try:
        directory.check_table_files()
        return Outcome(trial, {**(directory.result() or {}), "directory": str(trial.path)})
    except RunError as error:  # it is damaged
        return Outcome(trial, error=str(error))
    except OSError as error:
        return Outcome(trial, error=explained(error) or str(error))


class _Clock:
    """How long trials take at most: their epochs up to the cap, at the pace of finished runs of their model on their data."""

    def __init__(self, trials: Sequence[Trial], workers: int):
        self.workers = workers
        self.running: dict[Path, Status | None] = {}
        begun = [one for one in trials if one.state in ("stopped", "pruned")]
        self.done = {one.path: 0 for one in trials} | {one.path: RunDirectory(one.path).n_epochs() for one in begun}
        places = {trial.path.parent for trial in trials}
        self.paces = {place: paces(finished_results(place)) for place in places}

    def add(self, outcome: Outcome) -> None:
        self.running.pop(outcome.trial.path, None)
        if outcome.result:
            self.paces[outcome.trial.path.parent] += paces([outcome.result])

    def time_for(self, trials: Collection[Trial]) -> str:
        """What is known of the time that `trials` will take, in words; empty when nothing is."""
        known = [seconds for trial in trials if (seconds := self._seconds(trial)) is not None]
        if not known:
            return ""
        # Whichever way they fall to the workers, the last one starts no later than when all others are shared out evenly.
        total = sum(known) / self.workers + max(known) * (1 - 1 / self.workers)
        unknown = len(trials) - len(known)
        text = f"at most {duration(total)}"
        return text + (f" for {count(len(known), 'trial')}, unknown for the other {unknown}" if unknown else "")

    def _seconds(self, trial: Trial) -> float | None:
        if status := self.running.get(trial.path):
            return status.seconds_left
        known = self.paces[trial.path.parent]
        return mean(known) * (trial.config.cap - self.done[trial.path]) if known else None


_STATES = {"finished": "finished", "pruned": "pruned by a search", "stopped": "stopped, to go on with", "new": "to train"}


def _show_plan(trials: Sequence[Trial], states: Sequence[str], time_left: str) -> None:
    if len(trials) == 1:
        return
    counts = [f"{states.count(state)} {text}" for state, text in _STATES.items() if state in states]
    get_logger().info("%d trials: %s", len(trials), "; ".join(counts))
    for trial, state in list(zip(trials, states, strict=True))[:SHOWN]:
        get_logger().info("  %-8s  %s", state, trial.name)
    if len(trials) > SHOWN:
        get_logger().info("  … and %d more", len(trials) - SHOWN)
    for line in dict.fromkeys(line for trial in trials for line in trial.config.left_out):
        get_logger().info("%s", line)
    if time_left:
        get_logger().info("time to go: %s", time_left)
    elif set(states) != {"finished"}:
        get_logger().info("time to go: unknown until a first run of these models on this data has finished")


def _show_outcome(outcome: Outcome, progress: str, time_left: str) -> None:
    if outcome.result:
        metric = outcome.trial.config["valid_metric"].lower()
        text = f"validation {metric} {outcome.result['valid'][metric]:.4f}, {duration(outcome.result['seconds_total'])}"
    else:
        text = f"failed: {outcome.error}" if outcome.pruned is None else f"pruned after {count(outcome.pruned, 'epoch')}"
    get_logger().info("[%s] %s: %s%s", progress, outcome.trial.name, text, f". To go: {time_left}" if time_left else "")
