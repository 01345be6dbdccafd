"""Edges with computed weights, and means over neighbours, against plain forms."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mambarec.nn.graph import EdgeGraph, NeighbourGraph, neighbour_mean

N, M, D = 7, 5, 3


def plain_dot(rows, columns, left, right):
    return (left[rows] * right[columns]).sum(-1)


def plain_softmax(nodes, scores):
    result = torch.empty_like(scores)
    for node in nodes.unique():
        result[nodes == node] = torch.softmax(scores[nodes == node], 0)
    return result


def plain_weighted_sum(here, there, weights, vectors, size):
    return vectors.new_zeros(size, vectors.shape[1]).index_add(0, here, weights[:, None] * vectors[there])


@pytest.fixture
def edges():
    """A graph with a row and a column without edges, and the ends of its edges in order."""
    generator = np.random.default_rng(0)
    matrix = (generator.random((N, M)) < 0.5).astype(float)
    matrix[2], matrix[:, 3] = 0, 0
    rows, columns = (torch.from_numpy(ends) for ends in np.nonzero(matrix))
    return EdgeGraph(sp.coo_matrix(matrix)), rows, columns


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


def ends(side, rows, columns):
    """This end and the other, the number of nodes here and there."""
    return (rows, columns, N, M) if side == "rows" else (columns, rows, M, N)


def test_dot_products_of_edges(edges):
    graph, rows, columns = edges
    left, right = random(N, D), random(M, D)
    torch.testing.assert_close(graph.dot(left, right), plain_dot(rows, columns, left, right))
    assert gradcheck(graph.dot, (left, right))


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_softmax_sums_to_one_at_each_node(edges, side):
    graph, rows, columns = edges
    here, *_ = ends(side, rows, columns)
    scores = random(len(rows))
    torch.testing.assert_close(graph.softmax(scores, side), plain_softmax(here, scores))
    assert gradcheck(lambda scores: graph.softmax(scores, side), scores)


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_softmax_does_not_overflow(edges, side):
    graph, rows, _ = edges
    weights = graph.softmax(torch.linspace(-1e4, 1e4, len(rows)), side)
    assert weights.isfinite().all()


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_weighted_sum_over_neighbours(edges, side):
    graph, rows, columns = edges
    here, there, size, others = ends(side, rows, columns)
    weights, vectors = random(len(rows)), random(others, D)
    result = graph.weighted_sum(weights, vectors, side)
    torch.testing.assert_close(result, plain_weighted_sum(here, there, weights, vectors, size))
    assert gradcheck(lambda weights, vectors: graph.weighted_sum(weights, vectors, side), (weights, vectors))


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_gradients_of_expanded_and_transposed_tensors(edges, side):
    """A loss may hand back a gradient without memory of its own, and vectors may be a view."""
    graph, rows, columns = edges
    here, there, size, others = ends(side, rows, columns)
    weights, vectors = random(len(rows)), random(D, others)
    graph.weighted_sum(weights, vectors.T, side).sum().backward()
    found = weights.grad.clone(), vectors.grad.clone()
    weights.grad = vectors.grad = None
    plain_weighted_sum(here, there, weights, vectors.T, size).sum().backward()
    torch.testing.assert_close(found, (weights.grad, vectors.grad))
    left, right = random(D, N), random(D, M)
    torch.testing.assert_close(graph.dot(left.T, right.T), plain_dot(rows, columns, left.T, right.T))


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_take_gives_the_node_of_each_edge(edges, side):
    graph, rows, columns = edges
    here, _, size, _ = ends(side, rows, columns)
    table = random(size, 2)
    assert torch.equal(graph.take(table, side), table[here])


def test_edges_are_in_the_order_of_rows_and_repeated_entries_are_one(edges):
    repeated = sp.coo_matrix((np.ones(4), ([1, 0, 0, 1], [0, 2, 1, 0])), shape=(2, 3))
    graph = EdgeGraph(repeated)
    assert graph.take(torch.arange(3.0)[:, None], "columns").flatten().tolist() == [1, 2, 0]


def test_an_edge_graph_adds_nothing_to_the_state_dict(edges):
    assert not edges[0].state_dict()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**16))
def test_neighbour_mean_is_the_mean_over_neighbours(n, m, seed):
    generator = np.random.default_rng(seed)
    matrix, x = (generator.random((n, m)) < 0.4).astype(float), generator.random((m, 2))
    expected = [x[row > 0].mean(axis=0) if row.any() else np.zeros(2) for row in matrix]
    np.testing.assert_allclose(neighbour_mean(sp.coo_matrix(matrix)) @ x, expected, atol=1e-12)


def test_neighbours_make_the_graph_that_their_matrix_makes():
    neighbours = torch.tensor([[3, 0], [4, 2], [0, 1], [0, 4]])  # column 5 is nobody's neighbour
    matrix = torch.zeros(4, 6).scatter(1, neighbours, 1)
    built, expected = NeighbourGraph(neighbours, 6), EdgeGraph(sp.csr_matrix(matrix.numpy()))
    parts, expected_parts = dict(built.named_buffers()), dict(expected.named_buffers())
    assert parts.keys() == expected_parts.keys()
    for name, part in parts.items():
        assert part.tolist() == expected_parts[name].tolist(), name
