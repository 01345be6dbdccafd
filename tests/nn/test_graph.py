"""Sparse graphs against dense matrices and naive loops."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambarec.nn.graph import (
    SparseGraph,
    knn_graph,
    normalized_adjacency,
    normalized_interactions,
    propagate_mean,
    strongest,
)

INTERACTIONS = np.array([[1, 1, 0], [0, 1, 0]])  # users have 2 and 1 items; items 1, 2 and 0 users


def random_sparse(n, m, density, seed):
    return sp.random(n, m, density, format="coo", random_state=np.random.default_rng(seed))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 8), m=st.integers(1, 8), width=st.integers(1, 4), density=st.floats(0, 1), seed=st.integers(0, 2**31 - 1)
)
def test_product_and_gradient_equal_the_dense_ones(n, m, width, density, seed):
    matrix = random_sparse(n, m, density, seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(m, width, generator=generator, requires_grad=True)
    weights = torch.randn(n, width, generator=generator)
    product = SparseGraph(matrix)(x)
    (product * weights).sum().backward()
    dense = torch.from_numpy(matrix.toarray()).float()
    torch.testing.assert_close(product, dense @ x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x.grad, dense.T @ weights, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
def test_graph_takes_any_sparse_form(form):
    matrix = random_sparse(5, 4, 0.4, seed=1)
    x = torch.randn(4, 3)
    torch.testing.assert_close(SparseGraph(matrix.asformat(form))(x), torch.from_numpy(matrix.toarray()).float() @ x)


def test_graph_is_not_part_of_a_state_dict():
    graph = SparseGraph(random_sparse(5, 4, 0.4, seed=1))
    assert list(graph.state_dict()) == []
    assert list(graph.parameters()) == []
    assert len(list(graph.buffers())) > 0  # but moves with .to(device)


def test_normalized_interactions_equal_hand_worked_fractions():
    expected = [[1 / math.sqrt(2), 1 / 2, 0], [0, 1 / math.sqrt(2), 0]]
    np.testing.assert_allclose(normalized_interactions(sp.coo_matrix(INTERACTIONS)).toarray(), expected, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(n_users=st.integers(1, 6), n_items=st.integers(1, 6), density=st.floats(0, 1), seed=st.integers(0, 2**31 - 1))
def test_normalized_adjacency_equals_a_naive_loop(n_users, n_items, density, seed):
    interactions = (np.random.default_rng(seed).random((n_users, n_items)) < density).astype(float)
    n = n_users + n_items
    adjacency, expected = np.zeros((n, n)), np.zeros((n, n))
    adjacency[:n_users, n_users:] = interactions
    adjacency[n_users:, :n_users] = interactions.T
    for i in range(n):
        for j in range(n):
            if adjacency[i, j]:
                expected[i, j] = 1 / math.sqrt((adjacency[i].sum() + 1e-7) * (adjacency[j].sum() + 1e-7))
    graph = normalized_adjacency(sp.coo_matrix(interactions))
    assert isinstance(graph, sp.csr_matrix)
    np.testing.assert_allclose(graph.toarray(), expected, atol=1e-12)
    block = normalized_interactions(sp.coo_matrix(interactions)).toarray()
    np.testing.assert_allclose(block, expected[:n_users, n_users:], atol=1e-12)


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_propagation_is_the_mean_of_the_layers(n_layers):
    matrix = random_sparse(7, 7, 0.4, seed=2)
    layer = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    layers, dense = [layer], torch.from_numpy(matrix.toarray()).float()
    for _ in range(n_layers):
        layers.append(dense @ layers[-1])
    result = propagate_mean(SparseGraph(matrix), layer, n_layers)
    torch.testing.assert_close(result, torch.stack(layers).mean(0), atol=1e-5, rtol=1e-5)


def naive_knn(features: np.ndarray, k: int) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1)
    unit = [row / length if length else row for row, length in zip(features, lengths, strict=True)]
    kept = np.zeros((len(unit), len(unit)))
    for i, row in enumerate(unit):
        similarities = [float(row @ other) for other in unit]
        for j in sorted(range(len(unit)), key=lambda j: -similarities[j])[:k]:
            kept[i, j] = similarities[j]
    weights, degrees = np.zeros_like(kept), kept.sum(1)
    for i, j in zip(*kept.nonzero(), strict=True):
        if degrees[i] > 0 and degrees[j] > 0:
            weights[i, j] = kept[i, j] / math.sqrt(degrees[i] * degrees[j])
    return weights


@pytest.mark.parametrize("k", [1, 3, 10, 25])
@pytest.mark.parametrize("zero_rows", [[], [4, 11]])
def test_knn_graph_equals_a_naive_one(k, zero_rows):
    features = np.random.default_rng(3).normal(size=(20, 5)) + 0.5  # k = 25 is more than there are
    features[zero_rows] = 0
    graph = knn_graph(torch.from_numpy(features).float(), k)
    assert isinstance(graph, sp.csr_matrix)
    np.testing.assert_allclose(graph.toarray(), naive_knn(features, k), atol=1e-5, rtol=1e-5)


def test_an_item_without_features_has_weight_zero_and_not_nan():
    graph = knn_graph(torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]), k=2).toarray()
    assert np.isfinite(graph).all()
    assert not graph[1].any()
    assert not graph[:, 1].any()


def test_an_item_whose_similarities_sum_below_zero_has_weight_zero():
    # with every item kept, the rows of similarities sum to -0.40, -0.08, 0.40, 0.08, 0.20
    features = torch.tensor([[0.6, 0.8], [0.6, -0.8], [-1.0, 0.0], [-0.6, 0.8], [0.0, -1.0]])
    weights = knn_graph(features, k=5).toarray()
    assert np.isfinite(weights).all()
    assert weights.any(axis=1).tolist() == [False, False, True, True, True]
    assert weights.any(axis=0).tolist() == [False, False, True, True, True]
    assert weights[2, 4] == 0  # at right angles
    assert weights[2, 3] == pytest.approx(0.6 / math.sqrt(0.4 * 0.08), rel=1e-5)


def test_knn_graph_of_two_equal_items_equals_hand_worked_fractions():
    # k = 2: rows 0 and 1 keep each other (degree 2), row 2 keeps itself and one at right angles (degree 1)
    graph = knn_graph(torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), k=2).toarray()
    np.testing.assert_allclose(graph, [[1 / 2, 1 / 2, 0], [1 / 2, 1 / 2, 0], [0, 0, 1]], atol=1e-6)


def test_the_strongest_of_graphs_takes_the_larger_entry_and_keeps_that_of_one_graph_alone():
    left = sp.csr_matrix(np.array([[0.5, -0.2, 0.0], [0.0, 0.1, 0.0]]))
    right = sp.csr_matrix(np.array([[0.3, 0.0, -0.4], [0.0, 0.6, 0.0]]))
    expected = [[0.5, -0.2, -0.4], [0.0, 0.6, 0.0]]
    assert strongest([left, right]).toarray().tolist() == expected
    assert strongest([right, left, left]).toarray().tolist() == expected
    assert (strongest([left]) != left).nnz == 0
