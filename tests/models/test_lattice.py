"""LATTICE's learned item graph: when it is built, when it learns, and what it makes of items without features."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from mambarec.models.lattice import LATTICE, user_item_graph

from mambarec.nn import neighbours


@pytest.fixture
def build(make_config, make_loader):
    """build(**overrides) -> model and two of its batches."""

    def make(**overrides):
        torch.manual_seed(0)
        config = make_config("LATTICE", **overrides)
        loader = make_loader(config)
        batches = iter(loader)
        return LATTICE(config, loader), next(batches), next(batches)

    return make


def learns(model, batch):
    """Whether the item graph gets a gradient from a batch."""
    model.zero_grad()
    model.calculate_loss(batch).backward()
    return model.modal_weight.grad is not None


def test_the_item_graph_learns_from_the_first_batch_of_each_epoch(build):
    model, *batches = build()
    for _ in range(2):
        model.pre_epoch_processing()
        assert [learns(model, batch) for batch in (*batches, *batches)] == [True, False, False, False]


def test_with_every_batch_it_learns_from_each(build):
    model, *batches = build(graph_gradient="every_batch")
    assert [learns(model, batch) for batch in (*batches, *batches)] == [True] * 4


def test_a_batch_after_the_first_uses_the_graph_of_the_first_and_evaluation_that_of_the_parameters(build):
    model, first, second = build()
    model.calculate_loss(first)
    before, scored = model.calculate_loss(second), model.representations()[1]
    with torch.no_grad():
        model.projections["text"].weight.normal_()
    assert torch.equal(model.calculate_loss(second), before)
    assert not torch.equal(model.representations()[1], scored)
    model.pre_epoch_processing()
    assert not torch.equal(model.calculate_loss(second), before)


@pytest.mark.parametrize("limit", [None, 20, 1000])
def test_the_learned_graph_is_searched_as_the_raw_ones(limit, build, monkeypatch, tmp_path):
    pytest.importorskip("faiss")
    used = []

    def noted(way):
        return lambda features, k: used.append(way.__name__) or way(features, k)

    for way in (neighbours.exact, neighbours.approximate):
        monkeypatch.setattr(neighbours, way.__name__, noted(way))
    with neighbours.neighbour_search(tmp_path, limit):
        model, batch, _ = build()
    model.calculate_loss(batch)
    model.representations()
    assert used == ["approximate" if limit == 20 else "exact"] * 6  # raw, learned, of the evaluation; two modalities


def test_items_without_features_get_no_learned_edges(toy, build):
    for file in ("image_feat.npy", "text_feat.npy"):
        table = np.load(toy / file)
        table[:3] = 0
        np.save(toy / file, table)
    model, batch, _ = build(lambda_coeff=0.0)
    with torch.no_grad():
        for project in model.projections.values():
            project.bias.zero_()
    weights = model.learned_graph()(torch.eye(model.n_items))  # (I, I)
    assert (weights[:3] == 0).all() and (weights[:, :3] == 0).all()
    assert weights[3:].sum(1).min() > 0
    model.calculate_loss(batch).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_row_whose_cosines_sum_to_less_than_nothing_has_no_edges(build):
    model, batch, _ = build(knn_k=64)  # every item is a neighbour, so opposite items cancel
    with torch.no_grad():
        for modality, table in model.feature_tables.items():
            table[1:] = -table[0]
            model.projections[modality].bias.zero_()
    learned = model.learned_graph()
    assert learned.scale[0] == 0 and (learned.scale[1:] > 0).all()
    model.calculate_loss(batch).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("cf_model", ["lightgcn", "ngcf", "mf"])
def test_each_collaborative_model_trains_all_that_it_has(cf_model, build):
    model, batch, _ = build(cf_model=cf_model, weight_size=[8, 8, 8], mess_dropout=[0.1, 0.1, 0.1])
    assert len(model.ngcf_layers) == (3 if cf_model == "ngcf" else 0)
    model.calculate_loss(batch).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_layers_of_ngcf_must_be_as_wide_as_the_embeddings(build):
    with pytest.raises(ValueError, match=r"weight_size=\[8, 16\].*embedding_size=8"):
        build(cf_model="ngcf", weight_size=[8, 16])
    with pytest.raises(ValueError, match=r"mess_dropout=.*expected 2 values"):
        build(cf_model="ngcf", weight_size=[8, 8], mess_dropout=[0.1])


@pytest.mark.parametrize("norm", ["rows", "symmetric"])
def test_the_user_item_graph_is_normalised_as_the_key_says(norm):
    pairs = np.array([[1, 0, 1], [0, 1, 1]])
    a = np.block([[np.zeros((2, 2)), pairs], [pairs.T, np.zeros((3, 3))]])
    if norm == "rows":
        expected = (a + np.eye(5)) / (a + np.eye(5)).sum(1, keepdims=True)
    else:
        expected = a / np.sqrt(np.outer(a.sum(1), a.sum(1)))
    np.testing.assert_allclose(user_item_graph(sp.coo_matrix(pairs), norm).toarray(), expected, rtol=1e-5)


def test_the_key_changes_what_the_model_propagates(build):
    rows, symmetric = (build(user_item_norm=norm)[0].propagate() for norm in ("rows", "symmetric"))
    assert not torch.allclose(rows, symmetric)
