"""PGL's principal graphs: the one that is drawn, and the one of the largest singular values."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from mambarec.models.pgl import KEPT, PGL, SMALLEST, principal_block

from mambarec.base.errors import ConfigError
from mambarec.nn.graph import normalized_adjacency, normalized_interactions


@pytest.fixture
def build(make_config, make_loader):
    """build(**overrides) -> model."""

    def make(**overrides):
        torch.manual_seed(0)
        config = make_config("PGL", **overrides)
        return PGL(config, make_loader(config))

    return make


def dense(graph):
    return graph(torch.eye(graph.shape[1])).numpy()


def random_pairs(n_users, n_items, share, seed=0):
    return sp.csr_matrix(np.random.default_rng(seed).random((n_users, n_items)) < share, dtype=np.float64)


def principal_by_the_definition(interactions, dim):
    """The graph (U+I, U+I) from the singular triplets of the whole adjacency, small entries 0."""
    left, values, right = np.linalg.svd(normalized_adjacency(interactions).toarray())
    left, values, right = left[:, :dim], values[:dim], right[:dim]
    q = int(0.25 * dim)
    graph = (left[:, :q] * (values[:q] * values[dim - q :])) @ right[:q]
    return np.where(np.abs(graph) < 1e-3, 0, graph)


@pytest.mark.parametrize(("n_users", "n_items", "share", "dim"), [(60, 40, 0.2, 16), (200, 300, 0.03, 64), (24, 32, 0.4, 48)])
def test_the_block_gives_the_graph_of_the_whole_adjacency(n_users, n_items, share, dim):
    interactions = random_pairs(n_users, n_items, share)
    expected = principal_by_the_definition(interactions, dim)
    block = principal_block(normalized_interactions(interactions), dim, rows_at_once=16)
    graph = sp.bmat([[None, block], [block.T, None]]).toarray()
    np.testing.assert_allclose(graph, expected, atol=1e-8)


def test_small_entries_are_left_out():
    block = principal_block(normalized_interactions(random_pairs(300, 200, 0.03)), 16)
    assert 0 < block.nnz < 300 * 200
    assert np.abs(block.data).min() >= SMALLEST


@pytest.mark.parametrize("dim", [2, 7, 12, 20])
def test_a_width_that_parts_a_pair_of_singular_vectors_is_refused(dim):
    with pytest.raises(ValueError, match=f"embedding_size={dim}: mode: global needs a multiple of 8"):
        principal_block(normalized_interactions(random_pairs(60, 40, 0.2)), dim)


def test_a_width_beyond_the_graph_is_refused():
    with pytest.raises(ValueError, match=r"embedding_size=24.* takes at most 20, twice"):
        principal_block(normalized_interactions(random_pairs(10, 40, 0.5)), 24)


def test_an_epoch_draws_its_pairs_anew_and_normalises_them(build):
    model, seen = build(), []
    for _ in range(2):
        model.pre_epoch_processing()
        matrix = dense(model.train_adjacency)
        pairs = matrix[: model.n_users, model.n_users :] > 0
        assert pairs.sum() == int(KEPT * model.interactions.nnz)
        expected = normalized_adjacency(sp.csr_matrix(pairs, dtype=np.float64)).toarray()
        np.testing.assert_allclose(matrix, expected, atol=1e-6)
        seen.append(pairs)
    assert (seen[0] != seen[1]).any()


@pytest.mark.parametrize("mode", ["local", "global"])
def test_evaluation_uses_every_training_pair(mode, build):
    model = build(mode=mode)
    model.pre_epoch_processing()
    trained = model.train().representations()[0]
    scored = model.eval().representations()[0]
    assert not torch.allclose(trained, scored)
    model.train_adjacency = model.adjacency
    assert torch.equal(model.train().representations()[0], scored)


def test_the_contrast_compares_two_draws_of_dropout(build):
    model, rows = build(dropout=0.5).train(), torch.randn(6, 16)
    assert model.contrast(rows) != model.contrast(rows)
    model.eval()
    assert model.contrast(rows) == model.contrast(rows)


def test_a_draw_leaves_out_its_share_of_the_coordinates(build):
    rows = build(dropout=0.3).train().dropped(torch.ones(1000, 16))
    assert set(rows.unique().tolist()) == {0.0, 1.0}
    assert 1 - rows.mean() == pytest.approx(0.3, abs=0.02)  # five standard deviations


def test_another_mode_is_refused(build):
    with pytest.raises(ConfigError, match="mode='both'; expected one of local, global"):
        build(mode="both")
