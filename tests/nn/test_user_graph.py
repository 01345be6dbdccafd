"""The user-user graph: against a naive one, its ties and short lists, and what extends these."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mambarec.nn.graph import most_shared
from mambarec.nn.user_graph import UserGraph

N_USERS, N_ITEMS = 30, 20


@pytest.fixture
def interactions():
    """Pairs of 30 users; user 7 has no pair, user 12 shares nothing with anyone."""
    matrix = np.random.default_rng(1).random((N_USERS, N_ITEMS)) < 0.12
    matrix[[7, 12]] = False
    matrix[:, 5] = False
    matrix[12, 5] = True
    return sp.csr_matrix(matrix, dtype=np.float64)


def naive(matrix: np.ndarray, k: int) -> list[list[tuple[int, int]]]:
    """For each row, (other row, how many columns they share), most first, ties by number."""
    lists = []
    for row in range(len(matrix)):
        shared = [(other, int((matrix[row] * matrix[other]).sum())) for other in range(len(matrix)) if other != row]
        lists.append(sorted((pair for pair in shared if pair[1]), key=lambda pair: (-pair[1], pair[0]))[:k])
    return lists


def weights(graph: UserGraph) -> np.ndarray:
    """The matrix (U, U) that a graph adds."""
    return graph(torch.eye(N_USERS)).numpy() - np.eye(N_USERS)


@pytest.mark.parametrize("k", [1, 4, 100])
@pytest.mark.parametrize("block", [7, 1024])
def test_rows_that_share_most_equal_a_naive_search(interactions, k, block):
    offsets, neighbours, counts = most_shared(interactions, k, block)
    for row, expected in enumerate(naive(interactions.toarray(), k)):
        part = slice(offsets[row], offsets[row + 1])
        assert list(zip(neighbours[part], counts[part], strict=True)) == expected


@pytest.mark.parametrize("k", [1, 4, 100])
def test_weights_are_the_softmax_of_the_kept_counts(interactions, k):
    expected = np.zeros((N_USERS, N_USERS))
    for user, kept in enumerate(naive(interactions.toarray(), k)):
        total = sum(np.exp(count) for _, count in kept)
        for other, count in kept:
            expected[user, other] = np.exp(count) / total
    np.testing.assert_allclose(weights(UserGraph(interactions, k, "none").eval()), expected, atol=1e-6)
    assert not expected[[7, 12]].any()


def test_nobody_shares_anything():
    graph = UserGraph(sp.identity(N_USERS, format="csr"), 4, "resample")
    graph.resample(torch.device("cpu"))
    assert not weights(graph).any()


@pytest.mark.parametrize("places", [2**24, 10])  # all lists at a time, and one
def test_an_extended_list_repeats_its_entries_up_to_k(interactions, places, monkeypatch):
    monkeypatch.setattr("mambarec.nn.user_graph._PLACES", places)
    torch.manual_seed(0)
    k = 6
    graph, lists = UserGraph(interactions, k, "resample"), naive(interactions.toarray(), k)
    before = weights(graph.eval())
    graph.resample(torch.device("cpu"))
    after = weights(graph.train())
    assert (weights(graph.eval()) == before).all()  # evaluation has the lists as they are
    extended = 0
    for user, kept in enumerate(lists):
        others = [other for other, _ in kept]
        if 1 < len(kept) < k:  # weights are in proportion to repeats times exp(count)
            repeats = after[user, others] / np.exp([count for _, count in kept])
            repeats = repeats / repeats.sum() * k
            np.testing.assert_allclose(repeats, repeats.round(), atol=1e-4)
            assert repeats.min() > 0.5
            extended += 1
        else:
            np.testing.assert_allclose(after[user], before[user], atol=1e-7)
    assert extended > 3


def test_entries_are_drawn_from_the_growing_list():
    """Of a list of two that grows to four, the first then stands there one, two or three times, each as likely."""
    torch.manual_seed(0)
    users = 3_000
    pairs = sp.csr_matrix(np.tile(np.eye(users // 3, dtype=np.float64), (3, 1)))  # each item has three users
    graph = UserGraph(pairs, 4, "resample")
    graph.resample(torch.device("cpu"))
    repeats = graph.train_graph._forward_values.view(users, 2) * 4
    share = [float((repeats[:, 0].round() == n).double().mean()) for n in (1, 2, 3)]
    assert share == pytest.approx([1 / 3] * 3, abs=0.045)  # five standard deviations


def test_short_lists_that_stay_draw_nothing(interactions):
    state = torch.get_rng_state()
    UserGraph(interactions, 6, "none").resample(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
