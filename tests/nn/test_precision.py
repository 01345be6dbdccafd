"""precision: bf16: which parts of a training step are short, which stay long, and that every model trains under it."""

import pytest
import torch

from mambarec.base.errors import ConfigError
from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.nn.alignment import info_nce, mmd
from mambarec.nn.precision import in_float32
from mambarec.running.run import load_model_class
from mambarec.training.trainer import Trainer, init_seed


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


def test_inside_the_decorator_nothing_is_short():
    @in_float32
    def product(a, b, *, transpose):
        return a @ (b.T if transpose else b)

    short, long, double = torch.ones(2, 2, dtype=torch.bfloat16), torch.ones(2, 2), torch.ones(2, 2, dtype=torch.float64)
    with autocast():
        assert (long @ long).dtype == torch.bfloat16
        assert product(short, long, transpose=True).dtype == torch.float32
        assert product(double, double, transpose=False).dtype == torch.float64
    assert product(short, short, transpose=True).dtype == torch.bfloat16  # without autocast the caller decides


def test_distances_between_modalities_are_computed_in_float32():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 8, generator=generator) for _ in range(2))
    for distance in (lambda: mmd(x, y, 1.5), lambda: info_nce(x, y, 0.2)):
        with autocast():
            value = distance()
        assert torch.equal(value, distance())


@pytest.mark.parametrize("name", [name for name in available_models() if Config(name, "demo")["req_training"]])
def test_every_model_takes_a_step_in_bf16_that_is_near_the_one_in_fp32(name, make_config, make_loader):
    def step(precision):
        config = make_config(name, precision=precision)
        loader = make_loader(config)
        init_seed(config["seed"])
        trainer = Trainer(config, load_model_class(name)(config, loader), loader.generator)
        trainer.model.pre_epoch_processing()
        loss = float(trainer._train_step(next(iter(loader)), 0))
        assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
        return loss, torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])

    loss, gradient = step("fp32")
    short_loss, short_gradient = step("bf16")
    assert short_loss == pytest.approx(loss, rel=0.02)
    assert torch.cosine_similarity(short_gradient, gradient, dim=0) > 0.98
    if name not in ("BPR", "LightGCN"):  # which have no dense product
        assert not torch.equal(short_gradient, gradient)


def test_another_precision_is_refused(make_config):
    with pytest.raises(ConfigError, match="precision='fp16'; expected one of fp32, bf16"):
        make_config("BPR", precision="fp16")
