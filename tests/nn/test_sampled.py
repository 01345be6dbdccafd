"""Sampled layers: in expectation the full ones, within their bounds, and the same for the same generator."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambarec.nn.graph import SparseGraph, normalized_adjacency, propagate_mean
from mambarec.nn.sampled import (
    Batch,
    NeighbourSampler,
    Rows,
    SampledPropagation,
    Sampling,
    _chances,
    _systematic,
    in_blocks,
    on_device,
    project_rows,
    sampling_of,
    take_rows,
)

N_USERS, N_ITEMS = 30, 20
ALL = 10**9


@pytest.fixture(scope="module")
def graph():
    """Users of one to twenty items, so that some rows are cut and some are not."""
    rng = np.random.default_rng(0)
    pairs = rng.random((N_USERS, N_ITEMS)) < np.linspace(0.05, 1.0, N_USERS)[:, None]
    return SparseGraph(normalized_adjacency(sp.csr_matrix(pairs)))


def dense(graph: SparseGraph) -> np.ndarray:
    return graph(torch.eye(graph.shape[1])).numpy()


def spread(layer, width: int) -> np.ndarray:
    """The matrix (N, width) of a drawn layer."""
    whole = np.zeros((layer.graph.shape[0], width))
    whole[:, layer.columns] = dense(layer.graph)
    return whole


@pytest.mark.parametrize("fanout, size", [(2, ALL), (ALL, 7), (3, 9)])
def test_the_expectation_of_a_layer_is_the_full_layer(graph, fanout, size):
    sampler, generator, rows = NeighbourSampler(graph), np.random.default_rng(1), np.array([0, 9, 20, 29, 35, 41])
    draws = np.stack([spread(sampler.layer(rows, fanout, size, generator), 50) for _ in range(2000)])
    expected, error = dense(graph)[rows], draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - expected) <= 4.5 * error + 1e-6).all()
    assert (error > 1e-4).any()  # something was left out


def test_the_expectation_of_several_layers_is_that_of_all(graph):
    sampler, generator = NeighbourSampler(graph), np.random.default_rng(2)
    batch = Batch(np.array([3, 25]), np.array([40 - N_USERS]), 1, torch.zeros(3, 1, dtype=torch.int64))
    table = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    draws = []
    for _ in range(2000):
        drawn = SampledPropagation.draw(batch, sampler, N_USERS, 3, Sampling([3], 12), generator)
        draws.append(drawn.read(table[:N_USERS], table[N_USERS:]).propagated.numpy())
    values = np.stack(draws)
    error = values.std(0) / np.sqrt(len(values))
    assert (np.abs(values.mean(0) - propagate_mean(graph, table, 3)[[3, 25, 40]].numpy()) <= 4.5 * error).all()


def test_a_batch_reads_its_own_embeddings_and_those_that_are_asked_for(graph):
    users, items = torch.randn(N_USERS, 4), torch.randn(50 - N_USERS, 4)
    batch = Batch(np.array([5, 2]), np.array([9, 0]), 1, torch.zeros(3, 2, dtype=torch.int64))
    extra = [np.array([7, 0, 3]), np.array([], dtype=np.int64)]
    drawn = SampledPropagation.draw(
        batch, NeighbourSampler(graph), N_USERS, 2, Sampling([2], 3), np.random.default_rng(0), extra
    )
    read = drawn.read(users, items)
    assert torch.equal(read.embedded, torch.cat((users[[5, 2]], items[[9, 0]])))
    assert [part.tolist() for part in read.extra] == [items[[7, 0, 3]].tolist(), []]


def test_fanouts_that_take_every_neighbour_give_the_full_layer(graph):
    layer = NeighbourSampler(graph).layer(np.arange(50), ALL, ALL, np.random.default_rng(0))
    np.testing.assert_allclose(spread(layer, 50), dense(graph), rtol=1e-6)


@given(st.integers(1, 25), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_layer_keeps_to_its_bounds(graph, fanout, size, seed):
    rows = np.arange(0, 50, 3)
    layer = NeighbourSampler(graph).layer(rows, fanout, size, np.random.default_rng(seed))
    assert len(layer.columns) <= size and (np.diff(layer.columns) > 0).all()
    kept = (spread(layer, 50) != 0).sum(1)
    assert (kept <= np.minimum(fanout, (dense(graph)[rows] != 0).sum(1))).all()


def test_the_same_generator_draws_the_same(graph):
    first, second = (
        NeighbourSampler(graph).layers(np.arange(9), 2, Sampling([2], 1), 10, np.random.default_rng(5)) for _ in "ab"
    )
    other = NeighbourSampler(graph).layers(np.arange(9), 2, Sampling([2], 1), 10, np.random.default_rng(6))
    assert all(np.array_equal(spread(a, 50), spread(b, 50)) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(spread(a, 50), spread(b, 50)) for a, b in zip(first, other, strict=True))


def test_rows_without_neighbours_give_zero():
    sampler = NeighbourSampler(SparseGraph(sp.csr_matrix((3, 4))))
    layer = sampler.layer(np.array([0, 2]), 5, 5, np.random.default_rng(0))
    assert layer.graph(torch.ones(len(layer.columns), 2)).tolist() == [[0, 0], [0, 0]]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30), st.integers(1, 29), st.floats(0, 0.999))
@settings(deadline=None)
def test_chances_add_up_and_a_draw_has_as_many(weights, size, uniform):
    weights = np.array(weights)
    size = min(size, int((weights > 1e-6).sum()))
    weights = np.where(weights > 1e-6, weights, 0)
    chances = _chances(weights, size)
    assert chances.sum() == pytest.approx(size) and chances.max(initial=0) <= 1 and (chances[weights == 0] == 0).all()
    assert abs(_systematic(chances, uniform).sum() - size) <= 1


def test_a_batch_in_the_numbers_of_its_distinct_ids():
    interaction = torch.tensor([[7, 3, 7], [5, 9, 5], [9, 2, 4]])
    batch = Batch.of(interaction)
    assert batch.users.tolist() == [3, 7] and batch.items.tolist() == [5, 9, 2, 4] and batch.n_positives == 2
    assert torch.equal(torch.from_numpy(batch.users)[batch.interaction[0]], interaction[0])
    assert torch.equal(torch.from_numpy(batch.items)[batch.interaction[1:]], interaction[1:])


def test_the_gradient_of_taken_rows_is_sparse_and_right():
    table, rows = torch.randn(6, 3, requires_grad=True), torch.tensor([1, 4])
    take_rows(table, rows).square().sum().backward()
    assert table.grad.is_sparse and table.grad._indices().tolist() == [[1, 4]]
    expected = torch.zeros(6, 3)
    expected[rows] = 2 * table.detach()[rows]
    assert torch.equal(table.grad.to_dense(), expected)


def test_fixed_rows_of_half_the_length_arrive_as_float32():
    table = torch.randn(6, 3).half()
    assert torch.equal(take_rows(table, torch.tensor([5, 0])), table[[5, 0]].float())


@pytest.mark.parametrize("n", [0, 1, 300])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_projected_rows_are_those_of_the_layer(n, kind):
    table, layer = torch.randn(400, 20).to(kind), torch.nn.Linear(20, 5, bias=False)
    rows, direction = torch.randperm(400)[:n], torch.randn(n, 5)
    found, expected = project_rows(layer, table, rows), layer(table[rows].float())
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(result, layer.weight, direction)[0] for result in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_a_trained_table_has_a_gradient_of_the_rows_that_are_projected():
    table, layer = torch.nn.Parameter(torch.randn(9, 4)), torch.nn.Linear(4, 2, bias=False)
    project_rows(layer, table, torch.tensor([7, 2])).sum().backward()
    assert table.grad.is_sparse and table.grad._indices().tolist() == [[7, 2]]
    torch.testing.assert_close(table.grad._values(), layer.weight.sum(0).expand(2, 4))


def test_blocks_give_what_the_whole_gives():
    table = torch.randn(20_000, 3)
    assert torch.equal(in_blocks(lambda rows: table[rows] * 2, len(table)), table * 2)
    into = table.clone()
    assert in_blocks(lambda rows: into[rows] * 2, len(table), into) is into and torch.equal(into, table * 2)


def test_a_sample_moves_with_all_its_parts(graph):
    rows, places = Rows.of(N_USERS, np.array([1, 2, 40]))
    there = on_device({"rows": rows, "list": [places, graph], "n": 3}, torch.device("meta"))
    assert isinstance(there["rows"], Rows) and there["rows"].users.is_meta and there["n"] == 3
    assert there["list"][0].is_meta and all(part.is_meta for part in there["list"][1].buffers())


@pytest.mark.parametrize("key, value", [("fanouts", [3]), ("layer_size", 2)])
def test_settings_of_a_draw_need_a_draw(key, value):
    settings = {"propagation": "full", "fanouts": None, "layer_size": None}
    assert sampling_of(settings) is None
    with pytest.raises(ValueError, match=f"{key}=.* has no effect"):
        sampling_of({**settings, key: value})


def test_the_last_fanout_serves_the_layers_beyond():
    sampling = sampling_of({"propagation": "sampled", "fanouts": [8, 3], "layer_size": None})
    assert [sampling.fanout(layer) for layer in range(4)] == [8, 3, 3, 3]
