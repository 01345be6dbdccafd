"""Training of one model: epochs, validation, early stopping, and the state that a checkpoint needs."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mambarec.base.contract import contract
from mambarec.base.errors import ConfigError, ModelError
from mambarec.base.logger import get_logger
from mambarec.base.memory import release_freed_memory
from mambarec.base.places import MODELS
from mambarec.base.processes import current_processes
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader, TrainDataLoader
from mambarec.evaluation.topk_evaluator import Evaluation, TopKEvaluator
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.sampled import on_device
from mambarec.training.adam import Adam, LazyAdam
from mambarec.training.attributes import Attributes
from mambarec.training.generators import host_generators, restore_host_generators
from mambarec.training.prefetching import prefetched
from mambarec.training.recording import RecordedSteps
from mambarec.training.saved import check_saved

_OPTIMISERS = {
    "adam": Adam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


class Recorder(Protocol):
    """Where a trainer writes what happens; running.recorder has the one that writes a run directory."""

    def step(self, done: int, steps: int) -> None:
        """So many steps of the epoch that runs are done."""

    def epoch(self, row: dict[str, Any]) -> None:
        """One epoch is over: its number, loss, validation metrics and times."""

    def best(self, model: nn.Module, test: Evaluation) -> None:
        """Validation improved: the model, and its evaluation on test."""

    def checkpoint(self, trainer: "Trainer", last: bool) -> None:
        """The trainer can be saved here, or the process be ended; `last` when training ends."""


class Drawn(NamedTuple):
    """What a model has drawn for its part of a batch, and the share of the batch that this part is."""

    sample: Any
    share: float = 1.0


@dataclass
class Progress:
    """How far training has come. best_value is the unrounded validation metric of best_epoch. Epochs count from 0."""

    epoch: int = -1  # the last one finished
    best_epoch: int = -1
    best_value: float = -math.inf
    best_valid: dict[str, float] = field(default_factory=dict)
    best_test: dict[str, float] = field(default_factory=dict)
    without_improvement: int = 0
    seconds_train: float = 0.0
    seconds_eval: float = 0.0


class Trainer:
    """Trains with early stopping on validation; test is scored whenever validation improves, and chooses nothing."""

    def __init__(self, config: Config, model: GeneralRecommender, generator: torch.Generator):
        """generator: the one that shuffles and samples; its state is saved and restored with the rest."""
        self.config, self.model, self.generator, self.device = config, model, generator, config["device"]
        self.name = type(model).__name__
        self.parameters, self.parameters_without_features = count_parameters(model)
        self.evaluator = TopKEvaluator(config)
        self.valid_metric = config["valid_metric"].lower()
        self.progress = Progress()
        self._attributes = Attributes(model) if config.model_file.parent != MODELS else None
        self.on_step: Callable[[int, int], None] = lambda done, steps: None
        self.trains: bool = config["req_training"]
        self.is_sampled = getattr(model, "sampling", None) is not None
        if self.is_sampled:
            _check_sampled(config)
        self.records: bool = config["cuda_graphs"] and self.trains and self._can_record()
        if self.trains:
            self.optimizer = self._build_optimizer()
            self._declare_capturable()
            decay, span = config["learning_rate_scheduler"]
            self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda epoch: decay ** (epoch / span))

    def _build_optimizer(self) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if not parameters:
            raise ModelError(f"{self.name} has no parameters to train; set req_training: false if that is meant")
        options: dict[str, Any] = {"lr": self.config["learning_rate"], "weight_decay": self.config["weight_decay"]}
        learner = self.config["learner"].lower()
        if learner in ("adam", "sgd"):
            options["fused"] = True  # one pass over memory; the others have no such form on every device
        if self.is_sampled:
            return LazyAdam(parameters, **options)
        return _OPTIMISERS[learner](parameters, **options)

    def _can_record(self) -> bool:
        """Whether steps can be recorded as a CUDA graph (`cuda_graphs`); the log says why not."""
        learner = self.config["learner"].lower()
        if self.device.type != "cuda":
            reason = "this run is on the CPU"
        elif self.is_sampled:
            reason = "the steps of propagation: sampled differ from one another"
        elif self.config["mg"]:
            reason = "the steps of mirror gradient differ from one another"
        elif learner not in ("adam", "sgd"):
            reason = f"{learner} keeps a state on the host"
        else:
            return True
        get_logger().warning("cuda_graphs has no effect: %s", reason)
        return False

    def _declare_capturable(self) -> None:
        """On a GPU, declare the optimiser capturable, as CUDA graphs ask of Adam. This changes nothing of its fused form."""
        for group in self.optimizer.param_groups:
            if "capturable" in group and self.device.type == "cuda":
                group["capturable"] = True

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        """On which steps are recorded: one, since each has work space of its own."""
        return torch.cuda.Stream(self.device)

    # the main loop

    def fit(self, train: TrainDataLoader, valid: EvalDataLoader, test: EvalDataLoader, recorder: Recorder) -> Progress:
        """Train from where `progress` stands to the end; ModelError when the loss is not finite."""
        progress = self.progress
        self.on_step = recorder.step
        while not self.has_ended:
            row: dict[str, Any] = {"epoch": progress.epoch + 1}
            if self.trains:
                started = time.perf_counter()
                row["loss"] = self._train_epoch(train, row["epoch"])
                self.scheduler.step()
                row["seconds_train"] = time.perf_counter() - started
                progress.seconds_train += row["seconds_train"]
            progress.epoch += 1
            if (progress.epoch + 1) % self.config["eval_step"] == 0 or progress.epoch + 1 == self.cap:
                self._validate(valid, test, recorder, row)
            recorder.epoch(row)
            recorder.checkpoint(self, last=False)
        recorder.checkpoint(self, last=True)
        return progress

    @property
    def cap(self) -> int:
        """The most epochs that this training can have."""
        return self.config.cap

    @property
    def has_converged(self) -> bool:
        """Whether validation has not improved for `stopping_step` evaluations."""
        return self.progress.without_improvement >= self.config["stopping_step"]

    @property
    def has_ended(self) -> bool:
        """Whether no epoch is left: the cap is reached, or validation has not improved for long enough."""
        return self.progress.epoch + 1 >= self.cap or self.has_converged

    def _train_epoch(self, loader: TrainDataLoader, epoch: int) -> float:
        """One pass over the training pairs; returns the mean loss of its steps."""
        self.model.train()
        processes = current_processes()
        if processes.size > 1:  # each draws for its own part of a batch, and all begin an epoch alike
            restore_host_generators(processes.from_first(host_generators()))
        with contract(self.name, "pre_epoch_processing"):
            self.model.pre_epoch_processing()
        losses = torch.zeros(len(loader), device=self.device)
        recorded = RecordedSteps(lambda batch: self._train_step(batch, 0), self._stream) if self.records else None
        batches: Any = prefetched(self._samples(loader, epoch)) if self.is_sampled else loader
        for step, batch in enumerate(batches):
            losses[step] = recorded(batch) if recorded else self._train_step(batch, step)
            self.on_step(step + 1, len(loader))
        if recorded and recorded.refusal:
            get_logger().warning("cuda_graphs has no effect: %s", recorded.refusal)
            self.records = False
        processes.agree(self.model, average=self.is_sampled)
        losses = processes.mean(losses)
        with contract(self.name, "post_epoch_processing"):
            message = self.model.post_epoch_processing()
        if message:
            get_logger().info(message)
        values = losses.cpu()  # the one synchronisation of an epoch
        if not values.isfinite().all():
            step = int((~values.isfinite()).nonzero()[0])
            hint = f"Try a smaller learning_rate (now {self.config['learning_rate']:g}) or clip_grad_norm"
            if epoch == step == 0:
                hint = "No update came before, so it is not the learning_rate. Try fewer layers, or look at the item features"
            raise ModelError(f"{self.name}: the loss is {values[step]} at epoch {epoch + 1}, step {step + 1}. {hint}")
        return float(values.mean())

    def _samples(self, loader: TrainDataLoader, epoch: int) -> Iterator[Drawn]:
        """What is drawn for each batch. Each draw has a generator of its own, so a resumed epoch draws the same."""
        processes = current_processes()
        for step, batch in enumerate(loader):
            part = processes.part(batch)
            generator = np.random.default_rng([self.config["seed"], epoch, step, processes.rank])
            with contract(self.name, "sample"):
                sample = on_device(self.model.sample(part, generator), self.device)
            yield Drawn(sample, part.shape[1] / batch.shape[1])

    def _train_step(self, batch: Any, step: int) -> Tensor:
        """One update of the parameters; returns the detached loss. batch: int64 (3, B), or Drawn for one.

        Of several processes each returns its part's loss times its weight, so that their mean is the batch's.
        """
        weight = 1.0
        if isinstance(batch, Drawn):
            self.model.batch_size = self.config["train_batch_size"] * batch.share
            weight = current_processes().weight(batch.share)
            batch = batch.sample
        loss = self._backward(batch, weight)
        self._update()
        return weight * loss

    def _backward(self, batch: Any, factor: float = 1.0) -> Tensor:
        self.optimizer.zero_grad()
        with contract(self.name, "sampled_loss" if self.is_sampled else "calculate_loss"):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config["precision"] == "bf16"):
                losses = self.model.sampled_loss(batch) if self.is_sampled else self.model.calculate_loss(batch)
            parts = losses if isinstance(losses, tuple) else (losses,)
            loss = torch.stack([part.sum() for part in parts]).sum()  # some return shape (1,)
            (loss if factor == 1.0 else factor * loss).backward()
        return loss.detach()

    def _update(self) -> None:
        if self.is_sampled:
            current_processes().average_gradients(self.model)
        clip = self.config["clip_grad_norm"]
        if clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), **(clip if isinstance(clip, dict) else {"max_norm": clip}))
        self.optimizer.step()

    def _validate(self, valid: EvalDataLoader, test: EvalDataLoader, recorder: Recorder, row: dict[str, Any]) -> None:
        progress = self.progress
        started = time.perf_counter()
        if self.is_sampled:
            release_freed_memory()  # of the steps, since a large catalogue's vectors come now
        row["valid"] = self.evaluator.evaluate(self.model, valid).metrics
        value = row["valid"][self.valid_metric]
        if value > progress.best_value:
            evaluation = self.evaluator.evaluate(self.model, test)
            progress.best_epoch, progress.best_value = progress.epoch, value
            progress.best_valid, progress.best_test = row["valid"], evaluation.metrics
            progress.without_improvement = 0
            recorder.best(self.model, evaluation)
        elif progress.epoch >= self.config["min_epochs"]:
            progress.without_improvement += 1
        row["seconds_eval"] = time.perf_counter() - started
        progress.seconds_eval += row["seconds_eval"]

    # resuming

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the training depends on, readable with torch.load(weights_only=True)."""
        state = {"progress": asdict(self.progress), "model": self.model.state_dict(), "generators": self._generators()}
        if self.trains:
            state |= {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        if self._attributes and (changed := self._attributes.changed()):
            state["attributes"] = changed
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a training where state_dict left it; ValueError where the state is of another training."""
        attributes, rest = None, state
        if self._attributes and isinstance(state, dict) and "attributes" in state:
            attributes, rest = state["attributes"], {key: value for key, value in state.items() if key != "attributes"}
        fresh = {key: value for key, value in self.state_dict().items() if key != "attributes"}
        check_saved(rest, fresh, self.cap - 1)
        if self._attributes and attributes is not None:
            self._attributes.restore(attributes)
        self.progress = Progress(**state["progress"])
        self.model.load_state_dict(state["model"])
        if self.trains:
            self.optimizer.load_state_dict(state["optimizer"])
            self._declare_capturable()
            self.scheduler.load_state_dict(state["scheduler"])
        self._restore_generators(state["generators"])

    def _generators(self) -> dict[str, Any]:
        state = {**host_generators(), "loader": self.generator.get_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _restore_generators(self, state: dict[str, Any]) -> None:
        restore_host_generators(state)
        self.generator.set_state(state["loader"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)


class MirrorGradientTrainer(Trainer):
    """Mirror gradient (Zhong et al., WWW 2024, arXiv 2402.11262): towards flat minima.

    Every `beta` steps the update is two: descent by alpha1 times the gradient, then, at the new point, ascent by alpha2
    times the gradient there.
    """

    def _train_step(self, batch: Any, step: int) -> Tensor:
        if step % self.config["beta"]:
            return super()._train_step(batch, step)
        loss = self._backward(batch.clone(), self.config["alpha1"])
        self._update()
        self._backward(batch, -self.config["alpha2"])
        self._update()
        return loss


def _check_sampled(config: Config) -> None:
    """ConfigError for settings that a sampled step cannot have: it visits few rows, and each process has a part of a batch."""
    size, n_processes = config["train_batch_size"], current_processes().size
    if size < n_processes:
        raise ConfigError(f"train_batch_size={size}: {n_processes} processes share each batch; use at least {n_processes}")
    visits = {
        "learner": config["learner"].lower() != "adam" and "adam, whose lazy form visits the sampled rows alone",
        "weight_decay": config["weight_decay"] and "0: it would move every row",
        "clip_grad_norm": config["clip_grad_norm"] and "null",
        "mg": config["mg"] and "false",
    }
    for key, expected in visits.items():
        if expected:
            raise ConfigError(f"{key}={config[key]}: propagation: sampled needs {expected}")


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Of a model before training: all of them, and those that are not item features as they were given."""
    tables = list(getattr(model, "features", {}).values())

    def is_feature(parameter: Tensor) -> bool:
        return any(parameter.shape == table.shape and torch.equal(parameter, table) for table in tables)

    sizes = [(parameter.numel(), is_feature(parameter)) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, feature in sizes if not feature)


torch.backends.cudnn.allow_tf32 = False  # in every process: fp32 is float32 in convolutions too, as in torch's products


def init_seed(seed: int) -> None:
    """Seed the global generators, which initialisation and dropout draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
