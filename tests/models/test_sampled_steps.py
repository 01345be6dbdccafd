"""Sampled steps: those of the full graph where every neighbour is drawn, and resumable to the bit."""

import numpy as np
import pytest
import torch

from mambarec.base.errors import ConfigError
from mambarec.base.processes import Processes
from mambarec.data.dataloader import EvalDataLoader
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.running.directory import same_result
from mambarec.running.run import assemble, load_model_class, run
from mambarec.training.adam import LazyAdam
from mambarec.training.trainer import Drawn, Trainer, init_seed

NAMES = ("LightGCN", "FREEDOM", "MGCN", "MambaRec")
RUNS = [
    ("LightGCN", {"n_layers": 3}),
    ("FREEDOM", {"dropout": 0.0, "n_mm_layers": 2}),
    ("MGCN", {"n_layers": 2}),
    ("MambaRec", {"dropout": 0.0}),
    ("MambaRec", {"dropout": 0.0, "align_on": "views", "n_layers": 2}),
    ("MambaRec", {"dropout": 0.0, "variant": "released"}),
    ("MambaRec", {"dropout": 0.0, "train_features": False, "modalities": ["text"]}),
]
EVERY = {"propagation": "sampled", "fanouts": [10**6], "layer_size": 10**6}
FEW = {"propagation": "sampled", "fanouts": [3, 2], "layer_size": 1}
# The toy's pairs in one batch: with every neighbour it reaches every item, so that BatchNorm has the rows of the full step.
WHOLE = {"train_batch_size": 10_000, "knn_k": 4, "reduction_factor": 2}


@pytest.fixture
def build(make_config, make_loader):
    def make(name: str, **overrides):
        config = make_config(name)
        config = make_config(name, **{key: value for key, value in overrides.items() if key in config})
        loader = make_loader(config)
        init_seed(config["seed"])
        model = load_model_class(name, None)(config, loader)
        model.train()
        model.pre_epoch_processing()
        return config, loader, model

    return make


def sampled_loss(model, batch, seed: int = 0):
    loss = model.sampled_loss(model.sample(batch, np.random.default_rng(seed)))
    loss.sum().backward()
    return loss


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: one.grad.to_dense() if one.grad.is_sparse else one.grad for name, one in model.named_parameters()}


@pytest.mark.parametrize("name, settings", RUNS)
def test_with_every_neighbour_loss_and_gradients_are_those_of_the_full_step(name, settings, build):
    _, loader, full = build(name, **WHOLE, **settings)
    _, _, sampled = build(name, **WHOLE, **settings, **EVERY)
    batch = next(iter(loader))
    expected = full.calculate_loss(batch)
    expected.sum().backward()
    found = sampled_loss(sampled, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    theirs, ours = gradients(full), gradients(sampled)
    assert theirs.keys() == ours.keys()
    for key in theirs:
        error = (ours[key] - theirs[key]).abs().max()
        assert error <= 1e-5 * theirs[key].abs().max() + 1e-7, key  # a bias before BatchNorm has a gradient of 0


@pytest.mark.parametrize("name, settings", RUNS)
def test_the_vectors_of_evaluation_are_those_of_full_propagation(name, settings, build):
    _, _, full = build(name, **WHOLE, **settings)
    _, _, sampled = build(name, **WHOLE, **settings, **FEW)
    full.eval(), sampled.eval()
    with torch.no_grad():
        for ours, theirs in zip(sampled.representations(), full.representations(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_few_neighbours_touch_few_rows(name, build):
    config, loader, model = build(name, **FEW, train_batch_size=4, knn_k=2, reduction_factor=2)
    trainer = Trainer(config, model, loader.generator)
    assert isinstance(trainer.optimizer, LazyAdam)
    before = {key: value.clone() for key, value in model.named_parameters()}
    generator = np.random.default_rng(0)
    trainer._train_step(Drawn(model.sample(next(iter(loader)), generator)), 0)
    tables = [
        key
        for key in before
        if before[key].ndim == 2 and len(before[key]) in (model.n_users, model.n_items) and "embedding" in key
    ]
    assert len(tables) == 2
    for key in tables:
        moved = (model.get_parameter(key) != before[key]).any(1).sum()
        assert 0 < moved < 0.7 * len(before[key])


@pytest.mark.parametrize("name, settings", [("LightGCN", {"reg_weight": 1.0}), ("MGCN", {"reg_weight": 1.0, "cl_loss": 0.0})])
@pytest.mark.parametrize("size, pairs", [(8, 8), (9, 9), (9, 8), (8, 3), (8, 1)])
def test_the_parts_of_a_batch_give_its_loss_and_gradients_together(name, settings, size, pairs, build, monkeypatch):
    config, loader, model = build(name, **EVERY, **settings, train_batch_size=size, knn_k=4)
    trainer = Trainer(config, model, loader.generator)
    monkeypatch.setattr(Trainer, "_update", lambda self: None)
    batch = next(iter(loader))[:, :pairs]

    def step(rank: int, n: int) -> tuple[float, dict[str, torch.Tensor]]:
        monkeypatch.setattr("mambarec.training.trainer.current_processes", lambda: Processes(rank, n))
        loss = trainer._train_step(next(trainer._samples([batch], 0)), 0)
        return float(loss), gradients(model)

    whole, parts = step(0, 1), [step(rank, 2) for rank in range(2)]
    # EmbLoss is a norm, and the norm of a part is only nearly its share of the whole's
    close = {"rel": 1e-5} if name == "MGCN" else {"rel": 2e-2}
    assert sum(loss for loss, _ in parts) / 2 == pytest.approx(whole[0], **close)
    if name == "MGCN":
        for key, expected in whole[1].items():
            found = (parts[0][1][key] + parts[1][1][key]) / 2
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max() + 1e-7, key


def test_a_batch_whose_only_items_have_no_neighbours_has_two_rows_for_batch_norm(build):
    _, loader, model = build("MambaRec", **FEW, train_batch_size=1, knn_k=1, reduction_factor=2)
    modality = next(iter(model.encoder.item_graphs))
    for graph in model.encoder.item_graphs:
        model.samplers[graph].offsets[:] = 0  # as where items lack the modality: no edge
    sample = model.sample(next(iter(loader)), np.random.default_rng(0))
    assert len(sample.items[modality]) == 2 and len(sample.aligned[modality]) == 1
    assert model.sampled_loss(sample).isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_a_sampled_model_learns(name, build):
    config, loader, model = build(name, **FEW, learning_rate=0.01, reduction_factor=2)
    trainer = Trainer(config, model, loader.generator)
    losses = [trainer._train_epoch(loader, epoch) for epoch in range(6)]
    assert losses[-1] < losses[0]
    valid = EvalDataLoader(config, loader.dataset, "valid")
    assert TopKEvaluator(config).evaluate(model, valid).metrics["recall@20"] > 0


@pytest.mark.parametrize(
    "name", ["LightGCN", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "LightGCN")]
)
def test_a_killed_sampled_run_resumes_to_the_bit(name, make_config, tmp_path, monkeypatch):
    settings = {key: value for key, value in {**FEW, "reduction_factor": 2, "epochs": 4}.items() if key in make_config(name)}
    whole = run(make_config(name, **settings, results_dir=str(tmp_path / "whole")))

    class Killed(Exception):
        pass

    def train(self, loader, epoch, train=Trainer._train_epoch):
        if epoch == 2:
            raise Killed
        return train(self, loader, epoch)

    config = make_config(name, **settings, results_dir=str(tmp_path / "cut"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_train_epoch", train)
        run(config)
    resumed = run(config, resume=True)
    assert same_result(whole["directory"], resumed["directory"]) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_full_propagation_keeps_its_name(name, make_config):
    identity = make_config(name).identity()
    assert not {"propagation", "fanouts", "layer_size"} & identity.keys()
    assert make_config(name, propagation="sampled").identity()["propagation"] == "sampled"


def test_features_of_half_the_length_stay_on_disk(make_config, toy):
    table = np.load(toy / "image_feat.npy").astype(np.float16)
    np.save(toy / "image_feat.npy", table)
    config = make_config("MambaRec", **FEW, train_features=False, reduction_factor=2)
    from mambarec.data.dataset import RecDataset

    *_, trainer = assemble(config, RecDataset(config))
    kept = trainer.model.features["visual"]
    assert kept.dtype == torch.float16 and np.array_equal(kept.numpy(), table)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"learner": "sgd"}, "learner=sgd: propagation: sampled needs adam"),
        ({"weight_decay": 0.1}, "weight_decay=0.1: propagation: sampled needs 0"),
        ({"clip_grad_norm": 1.0}, "clip_grad_norm=1.0: propagation: sampled needs null"),
        ({"mg": True}, "mg=True: propagation: sampled needs false"),
        ({"propagation": "half"}, "propagation='half'; expected one of full, sampled"),
        ({"propagation": "full", "fanouts": [3]}, "has no effect with propagation: full"),
    ],
)
def test_settings_that_a_sampled_step_cannot_have(make_config, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(make_config("LightGCN", **{"propagation": "sampled", **settings}))


def test_a_batch_has_a_pair_for_each_process(make_config, monkeypatch):
    monkeypatch.setattr("mambarec.training.trainer.current_processes", lambda: Processes(0, 2))
    with pytest.raises(ConfigError, match="train_batch_size=1: 2 processes share each batch; use at least 2"):
        run(make_config("LightGCN", propagation="sampled", train_batch_size=1))


def test_the_penalty_of_a_part_of_a_batch_is_that_of_the_whole(build):
    """A batch of two equal halves, in one process and in two: each loss is the mean of the halves'."""
    _, loader, model = build("LightGCN", **WHOLE, **EVERY, reg_weight=0.5)
    half = next(iter(loader))[:, :40]
    whole = model.sampled_loss(model.sample(torch.cat((half, half), 1), np.random.default_rng(0)))
    model.batch_size = model.whole_batch // 2  # what a trainer sets in each of two processes
    part = model.sampled_loss(model.sample(half, np.random.default_rng(0)))
    torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-6)
