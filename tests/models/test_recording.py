"""Steps replayed from a recording are the steps: without a GPU, by a `capture` that notes the operations of a step on the CPU.

As with CUDA's, a replay makes the same operations on the same memory, and nothing of the step's Python runs again.
tests/models/test_cuda.py does it with CUDA.
"""

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mambarec.base.errors import ModelError
from mambarec.base.logger import get_logger
from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.running.run import assemble
from mambarec.training import recording
from mambarec.training.recording import WARM_UP, RecordedSteps
from mambarec.training.trainer import Trainer, init_seed

STEADY = {  # on the CPU a GPU's generator is one of the host
    "MambaRec": {"dropout": 0.0},
    "LGMRec": {"keep_rate": 1.0, "gumbel_noise": False},
    "MENTOR": {"dropout": 0.0, "noise": 0.0},
    "GUME": {"noise": 0.0},
    "BM3": {"dropout": 0.0},
    "PGL": {"dropout": 0.0},
    "SMORE": {"dropout_rate": 0.0},
}


class Operations(TorchDispatchMode):
    """While open, notes what is done to tensors; `again` does the same to the same ones."""

    def __init__(self):
        super().__init__()
        self.noted = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        is_view = any(part.alias_info and not part.alias_info.is_write for part in operation._schema.returns)
        if not is_view:
            self.noted.append((operation, arguments, options or {}, result))
        return result

    @torch.no_grad()
    def again(self):
        for operation, arguments, options, before in self.noted:
            result = operation(*arguments, **options)
            for old, new in zip(tree_leaves(before), tree_leaves(result), strict=True):
                if isinstance(new, torch.Tensor) and old is not new:
                    old.copy_(new)


@pytest.fixture
def on_cpu(monkeypatch):
    """on_cpu(tensors): from here on steps are recorded on the CPU, where noting them changes none of `tensors()`."""

    def use(tensors=list):
        def capture(stream, step, batch):
            before = [(tensor, tensor.detach().clone()) for tensor in tensors()]
            with Operations() as operations:
                loss = step(batch)
            with torch.no_grad():
                for tensor, values in before:
                    tensor.copy_(values)

            def replay(other):
                batch.copy_(other)
                operations.again()
                return loss

            return replay

        monkeypatch.setattr(recording, "capture", capture)

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(recording, "run_on", lambda stream, step, batch: step(batch))
    return use


@pytest.mark.parametrize("name", [name for name in available_models() if Config(name, "demo")["req_training"]])
def test_an_epoch_of_recorded_steps_is_the_epoch(name, make_config, whole_batches, on_cpu):
    def trained(records: bool):
        config = make_config(name, **STEADY.get(name, {}))
        init_seed(config["seed"])
        train, _, _, trainer = assemble(config, RecDataset(config))
        whole_batches(trainer.model)
        trainer.records = records
        states = trainer.optimizer.state
        on_cpu(lambda: [*trainer.model.state_dict().values(), *(t for state in states.values() for t in state.values())])
        losses = [trainer._train_epoch(train, epoch) for epoch in range(2)]
        assert len(train) > WARM_UP + 2
        assert trainer.records == records
        return losses, trainer.model.state_dict()

    torch.testing.assert_close(trained(records=True), trained(records=False), atol=0, rtol=0)


def test_python_runs_for_the_warm_up_the_recording_and_other_shapes_alone(on_cpu):
    on_cpu()
    calls = []

    def step(batch):
        calls.append(tuple(batch.shape))
        return batch.sum()

    steps = RecordedSteps(step, None)
    losses = [float(steps(torch.full((3, n), n))) for n in (4, 4, 4, 4, 4, 2, 4)]
    assert losses == [48, 48, 48, 48, 48, 12, 48]
    assert calls == [(3, 4)] * (WARM_UP + 1) + [(3, 2)]


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(1)])
def test_a_step_that_draws_on_the_host_is_not_replayed(draw, on_cpu):
    on_cpu()
    calls = []

    init_seed(1)

    def step(batch):
        calls.append(draw())
        return batch.sum()

    steps = RecordedSteps(step, None)
    for _ in range(6):
        steps(torch.ones(3, 4))
    assert "draws random numbers" in steps.refusal
    assert len(calls) == 6 + 1  # once more to find out
    init_seed(1)
    again = [draw() for _ in range(6)]
    assert [*calls[:WARM_UP], *calls[WARM_UP + 1 :]] == again  # and nothing is drawn for that


def test_a_step_that_cannot_be_recorded_runs_as_it_is(on_cpu, monkeypatch):
    on_cpu()

    def refused(stream, step, batch):
        try:
            raise ModelError("BPR.calculate_loss raised an error (bpr.py, line 1)\nand more")
        finally:  # as the end of a broken recording does
            raise RuntimeError("a previous error during capture")

    monkeypatch.setattr(recording, "capture", refused)
    steps = RecordedSteps(lambda batch: batch.sum(), None)
    assert [float(steps(torch.full((3, 2), n))) for n in range(5)] == [0, 6, 12, 18, 24]
    assert steps.refusal == "BPR.calculate_loss raised an error (bpr.py, line 1)"


@pytest.fixture
def logged():
    """logged() -> the text that the project's logger was given."""
    lines, logger = [], get_logger()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    yield lambda: "\n".join(lines)
    logger.removeHandler(handler)


def test_a_trainer_gives_up_recording_once_and_says_so(make_config, on_cpu, monkeypatch, logged):
    config = make_config("BPR")
    train, _, _, trainer = assemble(config, RecDataset(config))
    trainer.records = True
    on_cpu()
    calculate_loss = trainer.model.calculate_loss
    monkeypatch.setattr(trainer.model, "calculate_loss", lambda batch: calculate_loss(batch) + 0 * random.random())
    trainer._train_epoch(train, 0)
    trainer._train_epoch(train, 1)
    assert not trainer.records
    assert logged().count("cuda_graphs has no effect: a step draws random numbers on the host") == 1


@pytest.mark.parametrize(
    ("overrides", "device", "reason"),
    [
        ({}, "cpu", "this run is on the CPU"),
        ({"mg": True}, "cuda", "mirror gradient"),
        ({"learner": "adagrad"}, "cuda", "adagrad"),
    ],
)
def test_where_nothing_can_be_recorded_the_log_says_why(overrides, device, reason, make_config, logged):
    config = make_config("BPR", cuda_graphs=True, **overrides)
    trainer = SimpleNamespace(config=config, device=torch.device(device), is_sampled=False)
    assert not Trainer._can_record(trainer)
    assert reason in logged()
