"""What a run writes while it trains: the log, the metrics of each epoch, checkpoints, and the model of the best epoch."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mambarec.base.extras import optional
from mambarec.base.logger import get_logger
from mambarec.base.stopping import stop
from mambarec.base.words import option
from mambarec.config.configurator import Config
from mambarec.evaluation.topk_evaluator import Evaluation
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import finished_results, paces
from mambarec.running.pruning import PRUNED, Judgement, Pruned
from mambarec.running.watching import Status, Watch
from mambarec.training.trainer import Trainer

_SHOW_SECONDS = 1.0


class Recorder:
    """Writes what a trainer reports into the run's directory, to the console and to who watches; saves before a stop."""

    def __init__(
        self, config: Config, directory: RunDirectory, trainer: Trainer, watch: Watch, judgement: Judgement | None = None
    ):
        self.config, self.directory, self.trainer, self.watch = config, directory, trainer, watch
        self.judgement, self.is_hopeless = judgement, False
        self.metric = config["valid_metric"].lower()
        self.interval = config["checkpoint_seconds"]
        self.saved_at = self.shown_at = time.monotonic()
        self.saved = self.finished = trainer.progress.epoch + 1  # epochs
        self.loss: float | None = None
        self.value: float | None = None
        known = paces(finished_results(directory.path.parent))
        self.pace = statistics.mean(known) if known else None  # seconds an epoch; of this run as soon as it has one
        self.steps = 0
        self.stop_told = self.reported_unread = False
        self.tensorboard = _summary_writer(directory.path) if config["tensorboard"] else None

    def step(self, done: int, steps: int) -> None:
        self.steps = steps
        if stop.signal:
            self._tell_of_stop()
        if done == 1 or time.monotonic() - self.shown_at >= _SHOW_SECONDS:
            self._show(done)

    def epoch(self, row: dict[str, Any]) -> None:
        self.directory.add_metrics(row)
        self.finished = row["epoch"] + 1
        self.loss, self.value = row.get("loss"), row["valid"][self.metric] if "valid" in row else self.value
        self.is_hopeless = self.judgement is not None and self.judgement.ends(row)
        get_logger().info("  ".join(self._line(row)))
        if self.tensorboard:
            for name, value in {"loss": row.get("loss"), **row.get("valid", {})}.items():
                if value is not None:
                    self.tensorboard.add_scalar(name, value, self.finished)
            self.tensorboard.flush()
        if not self.reported_unread:
            self.reported_unread = True
            for line in self.config.unread():
                get_logger().warning("warning: %s", line)
            if unset := self.config.unset():
                name = self.config["model"]
                get_logger().warning("warning: %s read these keys, which nothing sets, as None: %s", name, ", ".join(unset))

    def _line(self, row: dict[str, Any]) -> Iterator[str]:
        cap = self.trainer.cap
        yield f"epoch {self.finished:>{len(str(cap))}}/{cap}"
        if "loss" in row:
            yield f"loss {row['loss']:.5f}"
        if "valid" in row:
            yield f"validation {row['valid'][self.metric]:.5f} (best {self.trainer.progress.best_value:.5f})"
        status = self.status(0)
        yield f"patience {status.patience}"
        yield f"{row.get('seconds_train', 0.0) + row.get('seconds_eval', 0.0):.2f} s"
        if status.seconds_left:
            yield f"at most {status.time_left}"

    def best(self, model: nn.Module, test: Evaluation) -> None:
        per_user: dict[str, Any] = {"users": test.users, **test.per_user}
        files: dict[str, Callable[[Any], None]] = {
            "best.pt": lambda file: torch.save(model.state_dict(), file),
            "per_user.npz": lambda file: np.savez_compressed(file, **per_user),
        }
        if self.config["save_recommended_topk"]:
            files["topk.npz"] = lambda file: np.savez_compressed(file, users=test.users, topk=test.topk)
        else:  # an earlier part of this run, or a shorter one, may have kept those of another epoch
            self.directory.remove("topk.npz")
        self.directory.write_all(files)

    def checkpoint(self, trainer: Trainer, last: bool) -> None:
        pruned = self.is_hopeless and not last and not trainer.has_ended
        if last or pruned or stop.signal or time.monotonic() - self.saved_at >= self.interval:
            self.directory.save_checkpoint(trainer.state_dict())
            self.saved, self.saved_at = self.finished, time.monotonic()
        self._show(0)
        if pruned:
            raise pruned_end(self.directory, self.finished, self.judgement)
        if stop.signal and not last:
            get_logger().info("stopped by the user after epoch %d", self.finished)
            stop.end()

    def _tell_of_stop(self) -> None:
        if not self.stop_told:
            self.stop_told = True
            running = min(self.finished + 1, self.trainer.cap)
            get_logger().info("stopping: epoch %d is trained to its end and saved first. Ctrl-C again stops at once", running)

    def status(self, step: int) -> Status:
        progress, cap = self.trainer.progress, self.trainer.cap
        if self.finished:
            self.pace = (progress.seconds_train + progress.seconds_eval) / self.finished
        return Status(
            epoch=min(self.finished + 1, cap),
            cap=cap,
            step=step,
            steps=self.steps,
            saved=self.saved,
            metric=self.metric,
            loss=self.loss,
            value=self.value,
            best=progress.best_value if progress.best_epoch >= 0 else None,
            patience=self.config["stopping_step"] - progress.without_improvement,
            seconds_left=None if self.pace is None else self.pace * (cap - self.finished),
        )

    def _show(self, step: int) -> None:
        self.shown_at = time.monotonic()
        self.watch(self.status(step))

    def is_unsaved(self) -> bool:
        """Whether a stop would lose an epoch that is finished."""
        return self.finished > self.saved

    def last_words(self, resume: bool, restart: bool) -> str:
        """What a stop leaves, and how to go on."""
        if self.directory.is_finished:
            return f"stopped after the end of the training. Its result is saved: {self.directory.path}"
        if not self.saved:
            return f"stopped before an epoch was saved: {self.directory.path}. The same command starts anew"
        saved = f"epoch {self.saved} of at most {self.trainer.cap} is saved: {self.directory.path}"
        how = f" without {option('restart', True)} and" if restart else ""
        return f"stopped: {saved}. The same command{how}{'' if resume else ' with --resume'} goes on after it"


def pruned_end(directory: RunDirectory, epochs: int, judgement: Judgement | None) -> Pruned:
    """What ends a run that is pruned; its directory says so."""
    end = Pruned(epochs, judgement.pruner if judgement else "")
    directory.write_json(PRUNED, {"epochs": end.epochs, "pruner": end.pruner})
    return end


def _summary_writer(path: Path):
    board = optional("torch.utils.tensorboard", "tensorboard", "tracking", "tensorboard: true needs")
    return board.SummaryWriter(path / "tensorboard")
