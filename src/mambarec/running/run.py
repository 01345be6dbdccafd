"""One run: where it lies, the training, and what it writes into its directory."""

import hashlib
import json
import re
import statistics
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from mambarec.base.bounded import first_line
from mambarec.base.contract import contract, is_refusal
from mambarec.base.errors import ConfigError, ModelError, RunError
from mambarec.base.logger import get_logger, log_to, silence_console
from mambarec.base.memory import release_freed_memory
from mambarec.base.processes import Processes, joined_processes
from mambarec.base.stopping import stop
from mambarec.base.words import count, option
from mambarec.config.catalogue import code_files
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader, TrainDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.topk_evaluator import Evaluation
from mambarec.mmrec.plugins import load_model_class
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.neighbours import neighbour_search
from mambarec.preparation.demo import ensure_demo
from mambarec.running.checks import Health
from mambarec.running.directory import RunDirectory
from mambarec.running.nearest import nearest_stopped
from mambarec.running.needs import check_batches
from mambarec.running.pruning import PRUNED, Judge, Pruned
from mambarec.running.recorder import Recorder, pruned_end
from mambarec.running.sizes import check_sizes
from mambarec.running.surroundings import environment, peak_memory_mb, reset_peak_memory
from mambarec.running.watching import Watch, watch_nothing
from mambarec.training.trainer import MirrorGradientTrainer, Trainer, init_seed

_STOPPED_EARLY = "stopped before training began. The same command begins again"


def run_path(config: Config, dataset: RecDataset) -> Path:
    """Where the run of this configuration lies: its name is a hash of model, data and every key that changes numbers."""
    identity = {**config.identity(), "data": dataset.fingerprint}
    if graphs := dataset.graphs_of(config):
        identity["graphs"] = graphs
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Path(config["results_dir"]) / config["dataset"] / config["model"] / f"seed{config['seed']}-{digest[:10]}"


def open_dataset(config: Config) -> RecDataset:
    """The configured data set, read and checked; the demo is generated first where it is not there."""
    ensure_demo(Path(config["data_path"]) / config["dataset"])
    return RecDataset(config)


def run(
    config: Config,
    resume: bool = False,
    restart: bool = False,
    asked: bool | None = None,
    extend: bool = True,
    watch: Watch = watch_nothing,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Train one configuration, or return the result of a run of it that is finished.

    resume: go on from the checkpoint of a run that was stopped. restart: throw away what is there. Without either, an
    unfinished run is an error, so that nothing is lost by accident. asked: whether the user gave --resume; as `resume` if it is
    left out. It decides only what the log says of other runs. extend: a new run goes on from one of the same
    configuration with a smaller cap of epochs, where the result is the same. watch: is told how the run comes on. judge: may
    end it early, which raises Pruned. Returns result.json's content and 'directory'; nothing, in a process that trains beside
    the one that writes.
    """
    with joined_processes(config["device"]) as processes:
        if processes.is_first:
            return _run(
                config,
                processes,
                _Wish(resume, restart, resume if asked is None else asked, extend and not restart, watch, judge),
            )
        _follow(config, processes)
        return {}


@dataclass(frozen=True)
class _Wish:
    """The arguments of `run` that say what to do with what is there, and with what comes."""

    resume: bool
    restart: bool
    asked: bool
    extend: bool
    watch: Watch
    judge: Judge | None


def _run(config: Config, processes: Processes, wish: _Wish) -> dict[str, Any]:
    """`run` in the process that writes."""
    logger = get_logger()
    dataset = open_dataset(config)
    processes.wait()  # the demo is there by now
    directory = RunDirectory(run_path(config, dataset))
    if directory.is_to_restart:
        wish = replace(wish, resume=False, restart=True, extend=False)
    finished = None if wish.restart else directory.result()
    if finished:
        directory.check_table_files()
        again = option("restart", True)
        logger.info("finished earlier, nothing to train (%s trains again): %s", again, directory.path)
        processes.from_first({"trains": False})
        return {**finished, "directory": str(directory.path)}

    stop.folders |= {directory.path, _graphs(config)}
    with _traceback_kept(directory, config), stop.guard(lambda: False, lambda: _STOPPED_EARLY):
        try:
            result = _train(config, processes, dataset, directory, wish)
        except Pruned as end:
            logger.info("pruned: the search sees no hope after %s. --resume goes on", count(end.epochs, "epoch"))
            raise
    return {**result, "directory": str(directory.path)}


class _Silent:
    """The Recorder of a process that does not write."""

    def step(self, done: int, steps: int) -> None:
        pass

    def epoch(self, row: dict[str, Any]) -> None:
        pass

    def best(self, model: nn.Module, test: Evaluation) -> None:
        pass

    def checkpoint(self, trainer: Trainer, last: bool) -> None:
        pass


def _follow(config: Config, processes: Processes) -> None:
    """Train beside the first of several processes, from the state from which it trains; nothing is written."""
    silence_console()
    try:
        processes.wait()
        dataset = open_dataset(config)
        init_seed(config["seed"])
        start = processes.from_first(None)
    except RunError as error:
        raise RunError("the first process of this training has ended before the training began, and says why") from error
    if not start["trains"]:
        return
    train, valid, test, trainer = assemble(config, dataset)
    if start["state"] is not None:
        trainer.load_state_dict(start["state"])
    trainer.fit(train, valid, test, _Silent())


def _train(config: Config, processes: Processes, dataset: RecDataset, directory: RunDirectory, wish: _Wish) -> dict[str, Any]:
    """Train and write everything; returns what result.json holds."""
    logger = get_logger()
    check_batches(config)
    reset_peak_memory(config["device"])
    init_seed(config["seed"])
    train, valid, test, trainer = assemble(config, dataset)
    surroundings = environment(config, dataset)
    with directory.lock():
        if wish.restart:
            directory.clear()
        elif finished := directory.result():  # by another process, while this one waited
            processes.from_first({"trains": False})
            return finished
        if wish.resume and directory.is_stopped and config["save_recommended_topk"] and _kept_no_lists(directory):
            raise RunError(
                f"{directory.path} kept no recommendations so far (save_recommended_topk: false). Go on with this value, or "
                f"start over with {option('restart', True)}"
            )
        if directory.is_stopped and not wish.resume:
            how = "pruned by a search" if directory.is_pruned else "stopped before its end"
            raise RunError(f"{directory.path} was {how}. Go on with --resume, or start over with --restart")
        notes: list[str] = []
        before = None
        if not directory.is_stopped:
            notes, before = _beginning(config, dataset, directory, wish.extend)
            if not directory.is_stopped and not wish.restart:  # it has taken over no checkpoint
                notes += nearest_stopped(config, directory, surroundings, asked=wish.asked)
        with log_to(directory.file("train.log")):
            for line in [*_opening(config, processes, dataset, directory, trainer.cap), *notes]:
                logger.info("%s", line)
            judgement = wish.judge.begin() if wish.judge else None
            health = Health(config, trainer, test)
            health.before()
            if state := directory.last_checkpoint():
                _take_up(trainer, state, directory)
                logger.info("resumed after epoch %d", trainer.progress.epoch + 1)
            else:
                directory.clear_remains()
            directory.write_json("config.json", config.plain())
            earlier = (before.processes if before else _processes_of(directory)) if state else 1
            directory.write_json("environment.json", {**surroundings, "processes": max(processes.size, earlier)})
            if masks := dataset.masks():
                arrays: dict[str, Any] = dict(masks)
                directory.write("masks.npz", lambda file: np.savez_compressed(file, **arrays))
            if state and judgement and not trainer.has_ended and (epochs := judgement.ended(directory.metrics())):
                raise pruned_end(directory, epochs, judgement)
            directory.file(PRUNED).unlink(missing_ok=True)
            recorder = Recorder(config, directory, trainer, wish.watch, judgement)
            processes.from_first({"trains": True, "state": state})
            # Of several processes each ends at once, since no other could finish an epoch without it.
            unsaved = recorder.is_unsaved if processes.size == 1 else lambda: False
            with stop.guard(unsaved, lambda: recorder.last_words(wish.resume, wish.restart)):
                trainer.fit(train, valid, test, recorder)
                rows = directory.metrics()
                health.after(rows)
                result = _result(config, trainer, rows) | {"warnings": health.warnings}
                if before and before.result:
                    peaks = [one["peak_memory_mb"] or 0.0 for one in (result, before.result)]
                    result["peak_memory_mb"] = max(peaks) or None
                directory.finish(result)
                logger.info("%s", _why_it_ended(config, result))
    return result


def _opening(config: Config, processes: Processes, dataset: RecDataset, directory: RunDirectory, cap: int) -> Iterator[str]:
    """The first lines of a run's log."""
    yield f"{config['model']} on {dataset.summary()}"
    yield from (f"  {note}" for note in dataset.notes)
    yield f"device {config['device']}, {count(torch.get_num_threads(), 'CPU thread')}, seed {config['seed']}"
    if processes.size > 1:
        yield f"trained by {processes.size} processes"
    if config["tuned"]:
        yield f"values of {config['tuned']}"
    yield f"{directory.path}"
    yield _when_it_ends(config, cap)


def _take_up(trainer: Trainer, state: dict[str, Any], directory: RunDirectory) -> None:
    """Go on from a checkpoint; RunError where it is of another training."""
    try:
        trainer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(
            f"{directory.path} has a checkpoint of another training: {first_line(error)}. Give {option('restart', True)}"
        ) from error


class _Earlier(NamedTuple):
    """A run that was taken over. result: None where it was stopped. processes: the most that trained it together."""

    result: dict[str, Any] | None
    processes: int


def _processes_of(directory: RunDirectory) -> int:
    """The most processes that have trained a run together so far."""
    try:
        return directory.read_json("environment.json").get("processes", 1)
    except RunError:  # it is written anew
        return 1


def _beginning(config: Config, dataset: RecDataset, directory: RunDirectory, extend: bool) -> tuple[list[str], _Earlier | None]:
    """Take over a run of a smaller cap of epochs, if there is one.

    Returns what to say of that and of an earlier start of this run, and the run that was taken over, if any.
    """
    notes = []
    if directory.file("config.json").exists():
        notes.append("an earlier start of this run was stopped before its first checkpoint: it starts anew")
    for other, epochs in _shorter_runs(config, dataset, directory) if extend else ():
        name = f"{other.path.name}, the run with at most {count(epochs, 'epoch')}"
        try:
            with other.lock():
                trained = other.checkpoint()["progress"]["epoch"] + 1
                obstacle = _obstacle(config, other, epochs, trained)
                if obstacle is None:
                    directory.adopt(other)
                    earlier = _Earlier(other.result(), _processes_of(other))
                    return [*notes, f"goes on from {name}, after epoch {trained}"], earlier
        except RunError as error:
            obstacle = str(error)
        notes.append(f"does not go on from {name}: {obstacle}")
    return notes, None


def _shorter_runs(config: Config, dataset: RecDataset, directory: RunDirectory) -> list[tuple[RunDirectory, int]]:
    """Runs of this configuration but for a smaller cap of epochs that left a checkpoint, with their caps; the longest first."""
    found = []
    for path in directory.path.parent.glob(f"seed{config['seed']}-*/checkpoint.pt"):
        other = RunDirectory(path.parent)
        epochs = other.settings().get("epochs")
        if epochs and epochs < config["epochs"] and run_path(config.at(epochs=epochs), dataset) == other.path:
            found.append((other, epochs))
    return sorted(found, key=lambda one: one[0].n_epochs(), reverse=True)


def _obstacle(config: Config, other: RunDirectory, epochs: int, trained: int) -> str | None:
    """Why a run with the cap `epochs`, `trained` of which are in its checkpoint, is no part of one with a larger cap."""
    if trained == epochs and trained % config["eval_step"]:
        return f"it was evaluated after epoch {trained} only because that was its last (eval_step={config['eval_step']})"
    for file in code_files(config.model_file):
        if _READS_EPOCHS.search(file.read_text(encoding="utf-8", errors="replace")):
            return f"{file.name} reads 'epochs', so that its training may depend on the cap"
    if config["save_recommended_topk"] and _kept_no_lists(other):
        return "it kept no recommendations (save_recommended_topk: false)"
    return None


def _kept_no_lists(directory: RunDirectory) -> bool:
    return directory.file("per_user.npz").exists() and not directory.file("topk.npz").exists()


_READS_EPOCHS = re.compile(r"""["']epochs["']""")


@contextmanager
def _traceback_kept(directory: RunDirectory, config: Config) -> Iterator[None]:
    """While open, what a model's code raises is written into train.log; the error says so, and which keys it read are None."""
    try:
        yield
    except ModelError as error:
        if error.__cause__ is None:
            raise
        log = directory.file("train.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error.__cause__, file=file)
        unset = config.unset()
        hint = f". It read these keys, which nothing sets: {', '.join(unset)}" if unset else ""
        raise ModelError(f"{error}; traceback in {log}{hint}") from error.__cause__


def assemble(config: Config, dataset: RecDataset) -> tuple[TrainDataLoader, EvalDataLoader, EvalDataLoader, Trainer]:
    """Loaders, model and trainer of a run."""
    check_sizes(config, dataset)
    dataset.check_features()
    generator = torch.Generator(device=config["device"]).manual_seed(config["seed"])
    train = TrainDataLoader(config, dataset, generator)
    with neighbour_search(_graphs(config), config["approximate_knn_above"]) as search:
        model = _build(config, train)
    release_freed_memory()  # of reading the data and building the graphs
    dataset.notes += search.notes
    trainer = (MirrorGradientTrainer if config["mg"] else Trainer)(config, model, generator)
    return train, EvalDataLoader(config, dataset, "valid"), EvalDataLoader(config, dataset, "test"), trainer


def _graphs(config: Config) -> Path:
    """Where the neighbours of items are kept."""
    return Path(config["results_dir"]) / ".graphs"


def _build(config: Config, loader: TrainDataLoader) -> GeneralRecommender:
    """The model; ConfigError when it refuses its settings, ModelError when its constructor fails."""
    name = config["model"]
    model = load_model_class(name, config["model_path"])
    try:
        with contract(name, "__init__"):
            return model(config, loader).to(config["device"])
    except ModelError as error:
        if is_refusal(error.__cause__):
            raise ConfigError(f"{name} cannot be built: {error.__cause__}") from error
        raise


def _result(config: Config, trainer: Trainer, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What result.json holds of a training whose epochs left these rows."""
    progress = trainer.progress
    epochs = progress.epoch + 1
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "best_epoch": progress.best_epoch,
        "epochs": epochs,
        "stopped_by": "patience" if trainer.has_converged else "cap",
        "valid": progress.best_valid,
        "test": progress.best_test,
        "parameters": trainer.parameters,
        "parameters_without_features": trainer.parameters_without_features,
        "seconds_per_epoch": statistics.median(row.get("seconds_train", 0.0) for row in rows),
        "seconds_total": progress.seconds_train + progress.seconds_eval,
        "peak_memory_mb": peak_memory_mb(config["device"]),
    }


def _when_it_ends(config: Config, cap: int) -> str:
    patience = f"{count(config['stopping_step'], 'evaluation')} without a better validation {config['valid_metric']}"
    return f"at most {count(cap, 'epoch')}; ends after {patience} (patience, the key stopping_step)"


def _why_it_ended(config: Config, result: dict[str, Any]) -> str:
    """result: what result.json holds."""
    if result["stopped_by"] == "patience":
        why = f"no better validation {config['valid_metric']} for {count(config['stopping_step'], 'evaluation')}"
    else:
        why = f"the cap of {count(result['epochs'], 'epoch')} is reached"
    return f"ended: {why}. Best epoch {result['best_epoch'] + 1} of {result['epochs']}"
