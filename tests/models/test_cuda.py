"""Every model on a GPU, beside the CPU; skipped where there is none."""

import pytest
import torch

from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.running.run import assemble
from mambarec.training.trainer import init_seed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STEADY = {  # what is drawn at random in a step, which no two devices draw alike
    "MambaRec": {"dropout": 0.0},
    "FREEDOM": {"dropout": 0.0},
    "LGMRec": {"keep_rate": 1.0, "gumbel_noise": False},
    "MENTOR": {"dropout": 0.0, "noise": 0.0},
    "GUME": {"noise": 0.0},
    "BM3": {"dropout": 0.0},
    "PGL": {"dropout": 0.0},
    "SMORE": {"dropout_rate": 0.0},
}


@pytest.fixture(params=[name for name in available_models() if Config(name, "demo")["req_training"]])
def name(request):
    return request.param


@pytest.fixture
def place(make_config):
    """place(model, on_gpu, **overrides) -> train loader, test loader and trainer there, with the same parameters on both."""

    def assembled(model: str, on_gpu: bool, **overrides):
        config = make_config(model, use_gpu=on_gpu, **overrides)
        init_seed(config["seed"])
        train, _, test, trainer = assemble(config, RecDataset(config))
        trainer.model.train()
        trainer.model.pre_epoch_processing()
        return train, test, trainer

    return assembled


def test_loss_gradients_and_scores_are_those_of_the_cpu(name, place):
    sides = [place(name, on_gpu, **STEADY.get(name, {})) for on_gpu in (False, True)]
    sides[1][2].model.load_state_dict(sides[0][2].model.state_dict())
    batch = next(iter(sides[0][0]))
    results = []
    for _, _, trainer in sides:
        model = trainer.model
        loss = sum(part.sum() for part in _parts(model.calculate_loss(batch.to(trainer.device))))
        loss.backward()
        gradients = {key: p.grad.cpu() for key, p in model.named_parameters() if p.grad is not None}
        results.append((loss.detach().cpu(), _scores(trainer), gradients))
    (loss, scores, gradients), (gpu_loss, gpu_scores, gpu_gradients) = results
    torch.testing.assert_close(gpu_loss, loss, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gpu_scores, scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gpu_gradients, gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_step_waits_for_nothing(name, place):
    """No transfer between host and device inside a step, which would stop the one for the other."""
    train, _, trainer = place(name, on_gpu=True)
    batches = iter(train)
    trainer._train_step(next(batches), 0)  # libraries set themselves up in the first
    try:
        torch.cuda.set_sync_debug_mode("error")
        trainer._train_step(next(batches), 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_an_epoch_of_recorded_steps_is_the_epoch(name, place):
    losses, scores = [], []
    for cuda_graphs in (False, True):
        train, _, trainer = place(name, on_gpu=True, cuda_graphs=cuda_graphs, **STEADY.get(name, {}))
        losses.append([trainer._train_epoch(train, epoch) for epoch in range(2)])
        scores.append(_scores(trainer))  # not the parameters: where a gradient is exactly 0, Adam makes steps of its rounding
        assert trainer.records == cuda_graphs  # the recording was not refused
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    torch.testing.assert_close(*scores, atol=1e-3, rtol=1e-3)


def test_a_run_ends_with_metrics(name, make_run):
    assert (make_run(name, use_gpu=True) / "result.json").exists()


def _scores(trainer) -> torch.Tensor:
    model = trainer.model.eval()
    users = torch.arange(model.n_users, device=trainer.device)
    with torch.no_grad():
        return model.full_sort_predict([users, users.new_zeros(2, 0)]).cpu()


def _parts(losses) -> tuple[torch.Tensor, ...]:
    return losses if isinstance(losses, tuple) else (losses,)
