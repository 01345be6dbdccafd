"""Inside an epoch nothing is read from the device, or copied to it, which on a GPU would make the one wait for the other.

Read off the operations of a step on the CPU, so that it is tested without a GPU. What moves a tensor with `.to` is not seen
there; tests/models/test_cuda.py asks CUDA itself.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.running.run import assemble
from mambarec.training.trainer import init_seed

# Operations whose result has a size that only the device knows, or is a number on the host, or comes from there.
WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "is_nonzero", "lift_fresh"),
    *("unique_dim", "unique_consecutive", "_unique", "_unique2", "_to_sparse", "_to_sparse_csr"),
}
READING = ("tolist", "cpu", "numpy")  # methods that are no operation on the CPU
MAKERS = {
    getattr(torch, name)
    for name in "tensor as_tensor zeros ones full empty arange linspace eye rand randn randint randperm".split()
}


class Waits(TorchDispatchMode):
    """While open, notes the operations that would wait."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.found = []
        for name in READING:
            monkeypatch.setattr(torch.Tensor, name, self._noted(name, getattr(torch.Tensor, name)))

    def _noted(self, name, method):
        def noted(*arguments, **options):
            self.found.append(name)
            return method(*arguments, **options)

        return noted

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation.__name__.partition(".")[0]
        indices = arguments[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(part is not None and part.dtype in (torch.bool, torch.uint8) for part in indices)
        of_unknown_size = name == "repeat_interleave" and (options or {}).get("output_size") is None
        if name in WAITING or by_mask or of_unknown_size:
            self.found.append(name)
        return operation(*arguments, **(options or {}))


class MadeOnTheHost(TorchFunctionMode):
    """While open, notes the tensors that are made without a device, which are on the host."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function in MAKERS and "device" not in (options or {}):
            self.found.append(function.__name__)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("name", [name for name in available_models() if Config(name, "demo")["req_training"]])
def test_the_steps_of_an_epoch_wait_for_nothing(name, make_config, whole_batches, monkeypatch):
    config = make_config(name, train_batch_size=64)
    init_seed(config["seed"])
    train, _, _, trainer = assemble(config, RecDataset(config))
    whole_batches(trainer.model)
    trainer.model.train()
    trainer.model.pre_epoch_processing()
    with Waits(monkeypatch) as waits, MadeOnTheHost() as made:
        for step, batch in enumerate(train):
            trainer._train_step(batch, step)
    assert step > 0
    assert waits.found == []
    assert made.found == []


def test_what_is_made_on_the_host_is_found():
    with MadeOnTheHost() as made:
        torch.zeros(2, device="cpu").new_ones(3)
        torch.zeros_like(torch.arange(3))
    assert made.found == ["arange"]


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: x + torch.tensor(1.0),
        lambda x: 1 if x.any() else 0,
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to_sparse(),
    ],
)
def test_what_waits_is_found(wait, monkeypatch):
    with Waits(monkeypatch) as waits:
        wait(torch.randn(5))
    assert waits.found
