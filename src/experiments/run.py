"""One run: where it lies, the training, and what it writes into its directory."""

import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from torch import nn

from common.abstract_recommender import GeneralRecommender
from common.trainer import MirrorGradientTrainer, Trainer, init_seed
from experiments.checks import Health
from experiments.directory import RunDirectory
from experiments.plugins import load_model_class
from experiments.sizes import check_sizes
from preparation.demo import ensure_demo
from utils.bounded import first_line
from utils.configurator import SRC, Config
from utils.contract import contract, is_refusal
from utils.dataloader import EvalDataLoader, TrainDataLoader
from utils.dataset import RecDataset
from utils.errors import ConfigError, ModelError, RunError
from utils.extras import installed_version, optional
from utils.logger import get_logger, log_to
from utils.memory import process_peak_mb, reset_process_peak
from utils.neighbours import neighbour_search
from utils.topk_evaluator import Evaluation


class _Recorder:
    """Writes what a trainer reports into the run's directory and to the console."""

    def __init__(self, config: Config, directory: RunDirectory):
        self.config, self.directory = config, directory
        self.interval = config["checkpoint_seconds"]
        self.saved_at = time.monotonic()
        self.reported_unread = False
        self.tensorboard = _summary_writer(directory.path) if config["tensorboard"] else None

    def epoch(self, row: dict[str, Any]) -> None:
        with self.directory.file("metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        metric = self.config["valid_metric"].lower()
        parts = [f"epoch {row['epoch']:>3}"]
        if "loss" in row:
            parts.append(f"loss {row['loss']:.5f}")
        if "valid" in row:
            parts.append(f"validation {metric} {row['valid'][metric]:.5f}")
        seconds = [f"{row[key]:.2f} s {name}" for key, name in _SECONDS.items() if key in row]
        get_logger().info("  ".join([*parts, " + ".join(seconds)]))
        if self.tensorboard:
            for name, value in {"loss": row.get("loss"), **row.get("valid", {})}.items():
                if value is not None:
                    self.tensorboard.add_scalar(name, value, row["epoch"])
            self.tensorboard.flush()
        if not self.reported_unread:
            self.reported_unread = True
            for line in self.config.unread():
                get_logger().warning("warning: %s", line)

    def best(self, model: nn.Module, test: Evaluation) -> None:
        write = self.directory.write
        write("best.pt", lambda file: torch.save(model.state_dict(), file))
        per_user: dict[str, Any] = {"users": test.users, **test.per_user}
        write("per_user.npz", lambda file: np.savez_compressed(file, **per_user))
        if self.config["save_recommended_topk"]:
            write("topk.npz", lambda file: np.savez_compressed(file, users=test.users, topk=test.topk))

    def checkpoint(self, trainer: Trainer, last: bool) -> None:
        if last or time.monotonic() - self.saved_at >= self.interval:
            state = trainer.state_dict()
            self.directory.write("checkpoint.pt", lambda file: torch.save(state, file))
            self.saved_at = time.monotonic()


_SECONDS = {"seconds_train": "training", "seconds_eval": "evaluation"}


def run_path(config: Config, dataset: RecDataset) -> Path:
    """Where the run of this configuration lies: its name is a hash of model, data and every key that changes numbers."""
    identity = {**config.identity(), "data": dataset.fingerprint}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Path(config["results_dir"]) / config["dataset"] / config["model"] / f"seed{config['seed']}-{digest[:10]}"


def open_dataset(config: Config) -> RecDataset:
    """The configured data set, read and checked; the demo is generated first where it is not there."""
    if config["dataset"] == "demo":
        ensure_demo(Path(config["data_path"]) / "demo")
    return RecDataset(config)


def run(config: Config, resume: bool = False, restart: bool = False) -> dict[str, Any]:
    """Train one configuration, or return the result of a run of it that is finished.

    resume: go on from the checkpoint of a run that was stopped. restart: throw away what is there. Without either, an
    unfinished run is an error, so that nothing is lost by accident. Returns result.json's content and 'directory'.
    """
    logger = get_logger()
    dataset = open_dataset(config)
    directory = RunDirectory(run_path(config, dataset))
    finished = directory.result()
    if finished and not restart:
        logger.info("finished earlier, nothing to train (--restart trains again): %s", directory.path)
        return {**finished, "directory": str(directory.path)}

    with _traceback_kept(directory):
        result = _train(config, dataset, directory, resume, restart)
    return {**result, "directory": str(directory.path)}


def _train(config: Config, dataset: RecDataset, directory: RunDirectory, resume: bool, restart: bool) -> dict[str, Any]:
    """Train and write everything; returns what result.json holds."""
    logger = get_logger()
    _reset_peak_memory(config["device"])
    init_seed(config["seed"])
    train, valid, test, trainer = assemble(config, dataset)
    with directory.lock():
        if restart:
            directory.clear()
        checkpoint = directory.file("checkpoint.pt")
        if checkpoint.exists() and not resume:
            raise RunError(f"{directory.path} was stopped before its end. Go on with --resume, or start over with --restart")
        with log_to(directory.file("train.log")):
            logger.info("%s on %s", config["model"], dataset.summary())
            for note in dataset.notes:
                logger.info("  %s", note)
            logger.info("device %s, %d CPU threads, seed %d", config["device"], torch.get_num_threads(), config["seed"])
            logger.info("%s", directory.path)
            health = Health(config, trainer, test)
            health.before()
            if checkpoint.exists():
                _take_up(trainer, directory)
                logger.info("resumed after epoch %d", trainer.progress.epoch)
            directory.cut_metrics(trainer.progress.epoch + 1)
            directory.write_json("config.json", config.plain())
            directory.write_json("environment.json", _environment(config, dataset))
            trainer.fit(train, valid, test, _Recorder(config, directory))
            rows = directory.metrics()
            health.after(rows)
            result = _result(config, trainer, rows) | {"warnings": health.warnings}
            directory.write_json("result.json", result)
    return result


def _take_up(trainer: Trainer, directory: RunDirectory) -> None:
    """Go on from the checkpoint; RunError where it cannot be used."""
    try:
        trainer.load_state_dict(directory.load("checkpoint.pt"))
        rows = directory.metrics()
        if len(rows) <= trainer.progress.epoch:
            raise ValueError(f"metrics.jsonl has {len(rows)} epochs, the checkpoint {trainer.progress.epoch + 1}")
    except Exception as error:  # torch.load raises almost anything for a file of something else
        path = directory.file("checkpoint.pt")
        raise RunError(f"{path} cannot be used: {first_line(error)}. Start over with --restart") from error


@contextmanager
def _traceback_kept(directory: RunDirectory) -> Iterator[None]:
    """While open, what a model's code raises is written into train.log, and the error says so."""
    try:
        yield
    except ModelError as error:
        if error.__cause__ is None:
            raise
        log = directory.file("train.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error.__cause__, file=file)
        raise ModelError(f"{error}; traceback in {log}") from error.__cause__


def assemble(config: Config, dataset: RecDataset) -> tuple[TrainDataLoader, EvalDataLoader, EvalDataLoader, Trainer]:
    """Loaders, model and trainer of a run."""
    check_sizes(config, dataset)
    generator = torch.Generator(device=config["device"]).manual_seed(config["seed"])
    train = TrainDataLoader(config, dataset, generator)
    graphs = Path(config["results_dir"]) / ".graphs"
    with neighbour_search(graphs, config["approximate_knn_above"]) as search:
        model = _build(config, train)
    dataset.notes += search.notes
    trainer = (MirrorGradientTrainer if config["mg"] else Trainer)(config, model, generator)
    return train, EvalDataLoader(config, dataset, "valid"), EvalDataLoader(config, dataset, "test"), trainer


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
        "valid": progress.best_valid,
        "test": progress.best_test,
        "parameters": trainer.parameters,
        "parameters_without_features": trainer.parameters_without_features,
        "seconds_per_epoch": statistics.median(row.get("seconds_train", 0.0) for row in rows),
        "seconds_total": progress.seconds_train + progress.seconds_eval,
        "peak_memory_mb": _peak_memory_mb(config["device"]),
    }


def _reset_peak_memory(device: torch.device) -> None:
    """Let the peak be this run's, not that of an earlier one in the same process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_process_peak()


def _peak_memory_mb(device: torch.device) -> float | None:
    """Of the GPU where there is one, else of the process; None where the system does not tell."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else process_peak_mb()


def _environment(config: Config, dataset: RecDataset) -> dict[str, Any]:
    """What a figure can depend on beside the configuration."""
    device = config["device"]
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "faiss": installed_version("faiss-cpu"),
        "git": git_commit(),
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "data": dataset.fingerprint,
        "data_files": dict(dataset.digests),
        "feature_widths": dataset.feature_widths() if dataset.modalities else {},
        "command": sys.argv,
    }


def git_commit() -> str | None:
    """The commit this code was run from, '-dirty' with changes; None outside a checkout or without git."""
    if not shutil.which("git"):
        return None
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=SRC, capture_output=True, text=True, check=False)
    return git.stdout.strip() or None


def _summary_writer(path: Path):
    board = optional("torch.utils.tensorboard", "tensorboard", "tracking", "tensorboard: true needs")
    return board.SummaryWriter(path / "tensorboard")
