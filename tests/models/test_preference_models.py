"""DRAGON, MENTOR, COHESION and GUME: what the figures of the reference do not reach."""

import copy
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from mambarec.models.gume import enhanced_adjacency, shared_neighbours

from mambarec.base.errors import ConfigError
from mambarec.data.dataloader import EvalDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.running.run import assemble, load_model_class
from mambarec.running.trained import load_trained
from mambarec.training.trainer import init_seed

REMEMBERING = ["DRAGON", "MENTOR", "COHESION"]


@pytest.fixture
def build(make_config, make_loader):
    """build(name, **overrides) -> (a batch, model) on the toy data."""

    def make(name, **overrides):
        torch.manual_seed(0)
        config = make_config(name, **overrides)
        loader = make_loader(config)
        return next(iter(loader)), load_model_class(name)(config, loader)

    return make


@pytest.fixture
def third_modality(toy):
    """A setting that declares a third modality, whose file it makes."""
    np.save(toy / "audio_feat.npy", np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32))
    return {"audio_feature_file": "audio_feat.npy"}


@pytest.mark.parametrize("name", [*REMEMBERING, "GUME"])
def test_a_third_modality_is_one_line(name, third_modality, make_run):
    trained = load_trained(make_run(name, **third_modality))
    assert list(trained.model.features) == ["visual", "text", "audio"]
    users, items = trained.model.representations()
    width = {"DRAGON": 24, "MENTOR": 24, "COHESION": 32, "GUME": 8}[name]
    assert users.shape == (48, width) and items.shape == (64, width)


@pytest.mark.parametrize("name", REMEMBERING)
def test_the_vectors_of_the_last_step_are_scored_and_saved(name, build, make_run):
    batch, model = build(name, evaluate_on="last_forward")
    model.train()
    model.pre_epoch_processing()
    model.calculate_loss(batch)
    with torch.no_grad():
        used = model.vectors()
        for parameter in model.parameters():
            parameter.add_(1.0)
    for vectors, expected in zip(model.eval().representations(), used, strict=True):
        torch.testing.assert_close(vectors, expected)

    directory = make_run(name, evaluate_on="last_forward")
    trained = load_trained(directory)
    found = TopKEvaluator(trained.config).evaluate(trained.model, EvalDataLoader(trained.config, trained.dataset, "test"))
    assert found.metrics == json.loads((directory / "result.json").read_text())["test"]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("DRAGON", {"user_graph_k": 60, "user_graph_pad": "resample", "evaluate_on": "last_forward"}),
        ("MENTOR", {"feature_mask": "trained"}),
        ("GUME", {}),
        ("COHESION", {"dropout": 0.3, "user_graph_k": 60, "user_graph_pad": "resample"}),
    ],
)
def test_a_training_that_is_taken_up_goes_on_to_the_bit(name, overrides, make_config):
    config = make_config(name, **overrides)

    def fresh():
        init_seed(config["seed"])
        train, _, _, trainer = assemble(config, RecDataset(config))
        return train, trainer

    train, trainer = fresh()
    trainer._train_epoch(train, 0)
    state = copy.deepcopy(trainer.state_dict())
    losses = [trainer._train_epoch(train, 1)]
    other_train, other = fresh()
    other.load_state_dict(state)
    losses.append(other._train_epoch(other_train, 1))
    assert losses[0] == losses[1]
    for one, two in zip(trainer.model.eval().representations(), other.model.eval().representations(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("modalities", [["text"], ["visual", "text"], ["visual", "text", "audio"]])
def test_alignment_equals_that_of_the_views_side_by_side(modalities, third_modality, build):
    _, model = build("MENTOR", **third_modality, modalities=modalities)
    plain, fused = torch.randn(112, 8 * (1 + len(modalities))), torch.randn(112, 8 * len(modalities)) + 0.3
    views = [block.repeat(1, len(modalities)) for block in plain.split(8, 1)]  # ids, then each modality
    views += [fused] if len(modalities) > 1 else []
    expected = sum((a.var() - b.var()).abs() + (a.mean() - b.mean()).abs() for i, a in enumerate(views) for b in views[i + 1 :])
    torch.testing.assert_close(model.alignment(plain, fused), expected)


@pytest.mark.parametrize("feature_mask", ["constant", "trained"])
def test_masked_features_train_only_if_they_are_asked_to(feature_mask, build):
    _, model = build("MENTOR", feature_mask=feature_mask, dropout=0.5)
    vectors = torch.randn(112, 16, requires_grad=True)
    loss = model.masked(vectors)
    assert 0 < loss < 2
    assert loss.requires_grad == (feature_mask == "trained")
    if feature_mask == "trained":
        loss.backward()
        assert vectors.grad.any() and model.predict.weight.grad.any()
    with pytest.raises(ConfigError, match="feature_mask='no'; expected one of constant, trained"):
        build("MENTOR", feature_mask="no")


def test_without_its_weight_the_contrast_is_not_made(build, monkeypatch):
    batch, model = build("MENTOR", mask_weight_g=0.0)
    monkeypatch.setattr(model, "contrast", None)
    assert model.calculate_loss(batch).isfinite()


def test_the_net_of_the_ids_trains_only_if_it_is_asked_to(build):
    for train_id in (False, True):
        batch, model = build("COHESION", train_id=train_id)
        before = model.vectors()
        model.calculate_loss(batch).backward()
        assert (model.id_net.preference.grad is not None) == train_id
        assert model.item_ids.grad.any()
        _, other = build("COHESION", train_id=not train_id)
        torch.testing.assert_close(other.vectors(), before)  # the same forward


def test_an_epoch_of_cohesion_keeps_a_share_of_the_pairs(build):
    _, model = build("COHESION", dropout=0.3)
    before = model.eval().representations()
    model.pre_epoch_processing()
    pairs = model.train_adjacency(torch.eye(112))[:48, 48:] > 0
    assert pairs.sum() == int(0.7 * model.interactions.nnz)
    torch.testing.assert_close(model.representations(), before)  # evaluation has all of them
    assert not torch.equal(model.train().vectors()[0], before[0])


def test_layers_are_weighed_by_their_cosine_with_the_first(build):
    _, model = build("COHESION", num_layer=2)
    first = F.normalize(torch.randn(112, 8))
    dense = model.adjacency(torch.eye(112))
    total = layer = first
    for _ in range(2):
        layer = dense @ layer
        layer = F.cosine_similarity(layer, first)[:, None] * layer
        total = total + layer
    torch.testing.assert_close(model.propagate([first]), total)


@pytest.mark.parametrize("name", ["MENTOR", "COHESION", "PGL", "FREEDOM"])
def test_a_share_out_of_range_is_refused(name, build):
    with pytest.raises(ConfigError, match="expected a number not below 0 and below 1"):
        build(name, dropout=1.0)


def test_items_are_joined_that_are_near_in_every_modality():
    rng = np.random.default_rng(2)
    tables = {name: rng.normal(size=(20, 6)).astype(np.float32) for name in ("visual", "text")}
    near = []
    for table in tables.values():
        unit = table / np.linalg.norm(table, axis=1, keepdims=True)
        near.append([set(np.argsort(-(unit @ row))[:7]) for row in unit])
    expected = np.array([[float(j != i and all(j in sets[i] for sets in near)) for j in range(20)] for i in range(20)])
    found = shared_neighbours({name: torch.from_numpy(table) for name, table in tables.items()}, 7)
    assert (found.toarray() == expected).all() and found.nnz == expected.sum() > 0
    assert (expected != expected.T).any()


def test_item_edges_count_in_the_degrees_of_their_rows():
    pairs = sp.csr_matrix([[1.0, 1, 0], [0, 1, 0]])
    edges = sp.csr_matrix([[0.0, 1, 1], [0, 0, 0], [0, 0, 0]])
    graph = enhanced_adjacency(pairs, edges).toarray()
    degrees = [2, 1, 3, 2, 0]  # two users, three items: item 0 has a user and two edges, item 2 nothing of its own
    assert graph[0, 2] == pytest.approx(1 / np.sqrt(degrees[0] * degrees[2]))
    assert graph[2, 3] == pytest.approx(1 / np.sqrt(degrees[2] * degrees[3]))
    assert graph[3, 2] == 0 and not graph[4].any() and not graph[:, 4].any()


def test_a_user_who_is_twice_in_a_batch_has_one_noise(build, whole_batches):
    """So that the loss does not depend on how a device takes a batch."""
    batch, model = build("GUME")
    assert len(batch[0].unique()) < batch.shape[1]
    model.draw = lambda number: torch.rand(48, 8, generator=torch.Generator().manual_seed(number))
    loss = model.calculate_loss(batch)
    whole_batches(model)
    torch.testing.assert_close(model.calculate_loss(batch), loss)


def test_the_users_interests_are_averaged_over_modalities_before_or_after_the_graph(build):
    _, model = build("GUME")
    views = model.views()
    dense, layers = model.encoder.adjacency(torch.eye(112)), []
    for modality, table in model.user_tables.items():
        layer = torch.cat((table, views.modal[modality][48:]))
        for _ in range(4):
            layers.append(layer)
            layer = dense @ layer
    torch.testing.assert_close(model.extended(views), sum(layers) / len(layers), atol=1e-6, rtol=1e-5)


def test_features_that_stay_fixed_are_no_parameters(build):
    names = {name for name, _ in build("GUME", train_features=False)[1].named_parameters()}
    assert not any(name.startswith("feature_tables") for name in names)
    assert any(name.startswith("feature_tables") for name, _ in build("GUME")[1].named_parameters())
