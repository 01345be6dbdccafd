"""FREEDOM's thinned graph."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from mambarec.models.freedom import FREEDOM

from mambarec.nn.graph import draw, normalized_adjacency


@pytest.fixture
def model(make_config, make_loader):
    torch.manual_seed(0)
    config = make_config("FREEDOM", dropout=0.8)
    return FREEDOM(config, make_loader(config))


def train_matrix(model):
    """The normalised matrix of the epoch's graph, dense (U+I, U+I)."""
    return model.train_adjacency(torch.eye(model.n_users + model.n_items)).numpy()


def test_a_draw_has_the_probabilities_of_one_without_replacement():
    torch.manual_seed(0)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0]) / 10
    pairs = torch.stack([draw(weights, 2) for _ in range(20_000)])  # (20000, 2), first and second
    for first in range(4):
        for second in set(range(4)) - {first}:
            expected = weights[first] * weights[second] / (1 - weights[first])
            found = ((pairs[:, 0] == first) & (pairs[:, 1] == second)).double().mean()
            assert found == pytest.approx(float(expected), abs=0.015)  # five standard deviations


def test_an_epoch_keeps_a_share_of_the_pairs_and_normalises_what_is_left(model):
    model.pre_epoch_processing()
    matrix = train_matrix(model)
    pairs = matrix[: model.n_users, model.n_users :] > 0
    assert pairs.sum() == round(0.2 * model.interactions.nnz)
    assert (model.interactions.toarray()[pairs] == 1).all()
    expected = normalized_adjacency(sp.csr_matrix(pairs, dtype=np.float64)).toarray()
    np.testing.assert_allclose(matrix, expected, atol=1e-6)


def test_the_graph_of_an_epoch_follows_the_global_generator_alone(model):
    state = torch.get_rng_state()
    graphs = []
    for _ in range(2):
        model.pre_epoch_processing()
        graphs.append(train_matrix(model))
    torch.set_rng_state(state)
    model.pre_epoch_processing()
    assert (train_matrix(model) == graphs[0]).all()
    assert (graphs[0] != graphs[1]).any()


def test_evaluation_uses_every_training_pair(model):
    model.eval()
    before = model.representations()
    model.pre_epoch_processing()
    for one, other in zip(before, model.representations(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(model.train().representations()[0], before[0])
