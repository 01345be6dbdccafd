"""Ranking metrics: hand-worked fractions, a naive loop, and ir-measures where the definitions coincide."""

from fractions import Fraction
from math import log2

import ir_measures
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from mambarec.evaluation.metrics import METRICS

THIRD, SIXTH = 1 / log2(3), 1 / log2(6)  # the gains of the ranks 2 and 5
HAND_WORKED = [
    # hits, n_relevant, metric, its value at the cut-offs 1, 2, ...
    ("01101", 4, "recall", ["0", "1/4", "2/4", "2/4", "3/4"]),
    ("01101", 4, "precision", ["0", "1/2", "2/3", "2/4", "3/5"]),
    ("01101", 4, "map", ["0", "1/4", "7/18", "7/24", "53/120"]),  # precisions 1/2, 2/3, 3/5 over 1, 2, 3, 4, 4
    ("01101", 4, "hitrate", ["0", "1", "1", "1", "1"]),
    ("01101", 4, "mrr", ["0", "1/2", "1/2", "1/2", "1/2"]),
    ("0010", 1, "recall", ["0", "0", "1", "1"]),
    ("0010", 1, "precision", ["0", "0", "1/3", "1/4"]),
    ("0010", 1, "ndcg", ["0", "0", "1/2", "1/2"]),  # 1 / log2(4), over the gain 1 of the first rank
    ("0010", 1, "map", ["0", "0", "1/3", "1/3"]),
    ("0010", 1, "hitrate", ["0", "0", "1", "1"]),
    ("0010", 1, "mrr", ["0", "0", "1/3", "1/3"]),
    ("110", 5, "recall", ["1/5", "2/5", "2/5"]),
    ("110", 5, "map", ["1", "1", "2/3"]),  # three of five could have been in a list of three
]


@st.composite
def rankings(draw):
    """hits (N, K) bool and n_relevant (N,), at least 1 and at least the hits of the row."""
    n_users, length = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    rows = st.lists(st.booleans(), min_size=length, max_size=length)
    hits = torch.tensor(draw(st.lists(rows, min_size=n_users, max_size=n_users)))
    missed = torch.tensor(draw(st.lists(st.integers(0, 12), min_size=n_users, max_size=n_users)))
    return hits, (hits.sum(1) + missed).clamp(min=1)


def naive(metric: str, hits: list[bool], n_relevant: int, k: int) -> float:
    found, dcg, precisions, first = 0, 0.0, 0.0, 0
    for rank, hit in enumerate(hits[:k], start=1):
        if hit:
            found += 1
            dcg += 1 / log2(rank + 1)
            precisions += found / rank
            first = first or rank
    reachable = min(k, n_relevant)
    return {
        "recall": found / n_relevant,
        "precision": found / k,
        "ndcg": dcg / sum(1 / log2(rank + 1) for rank in range(1, reachable + 1)),
        "map": precisions / reachable,
        "hitrate": float(found > 0),
        "mrr": 1 / first if first else 0.0,
    }[metric]


def from_ir_measures(measure, hits: torch.Tensor, n_relevant: torch.Tensor) -> dict[int, float]:
    """user -> value. The recommendations of a user are the documents 0, 1, ...; relevant ones that were missed are m0, m1."""
    qrels, run = [], []
    for user, row in enumerate(hits.tolist()):
        missed = int(n_relevant[user]) - sum(row)
        relevant = [str(k) for k, hit in enumerate(row) if hit] + [f"m{i}" for i in range(missed)]
        qrels += [ir_measures.Qrel(str(user), document, 1) for document in relevant]
        run += [ir_measures.ScoredDoc(str(user), str(k), float(-k)) for k in range(len(row))]
    return {int(value.query_id): value.value for value in ir_measures.iter_calc([measure], qrels, run)}


@pytest.mark.parametrize(("hits", "n_relevant", "metric", "expected"), HAND_WORKED)
def test_metric_equals_hand_worked_fractions(hits, n_relevant, metric, expected):
    values = METRICS[metric](torch.tensor([[hit == "1" for hit in hits]]), torch.tensor([n_relevant]))
    assert values.dtype == torch.float64
    assert values[0].tolist() == pytest.approx([float(Fraction(value)) for value in expected], abs=1e-15)


def test_ndcg_equals_hand_worked_gains():
    hits = torch.tensor([[False, True, True, False, True]])
    found = [0, THIRD, THIRD + 1 / 2, THIRD + 1 / 2, THIRD + 1 / 2 + SIXTH]
    best = [1, 1 + THIRD, 1 + THIRD + 1 / 2, 1 + THIRD + 1 / 2 + 1 / log2(5), 1 + THIRD + 1 / 2 + 1 / log2(5)]
    expected = [one / other for one, other in zip(found, best, strict=True)]
    assert METRICS["ndcg"](hits, torch.tensor([4]))[0].tolist() == pytest.approx(expected, abs=1e-15)


def test_ndcg_and_map_are_one_when_all_hits_come_first():
    hits = torch.tensor([[True, True, True, False, False]])
    for metric in ("ndcg", "map"):
        torch.testing.assert_close(METRICS[metric](hits, torch.tensor([3])), torch.ones(1, 5, dtype=torch.float64))


def test_users_do_not_influence_each_other():
    hits = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])
    n_relevant = torch.tensor([2, 1, 7])
    for name, metric in METRICS.items():
        rows = [metric(hits[i : i + 1], n_relevant[i : i + 1])[0] for i in range(3)]
        torch.testing.assert_close(metric(hits, n_relevant), torch.stack(rows), msg=name)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=30, deadline=None)
@given(case=rankings())
def test_metric_equals_a_naive_loop(metric, case):
    hits, n_relevant = case
    values = METRICS[metric](hits, n_relevant)
    assert values.shape == hits.shape
    for user, row in enumerate(hits.tolist()):
        expected = [naive(metric, row, int(n_relevant[user]), k) for k in range(1, len(row) + 1)]
        assert values[user].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=30, deadline=None)
@given(case=rankings())
def test_metric_lies_between_zero_and_one(metric, case):
    values = METRICS[metric](*case)
    assert (values >= 0).all()
    assert (values <= 1 + 1e-12).all()


@pytest.mark.parametrize(
    ("metric", "measure"), [("recall", R), ("precision", P), ("ndcg", nDCG), ("mrr", RR), ("hitrate", Success), ("map", AP)]
)
@settings(max_examples=15, deadline=None)
@given(case=rankings(), data=st.data())
def test_metric_agrees_with_ir_measures(metric, measure, case, data):
    """AP@k divides by n_relevant and ours by min(k, n_relevant), so MAP is compared where n_relevant <= k only."""
    hits, n_relevant = case
    k = data.draw(st.integers(1, hits.shape[1]))
    values = METRICS[metric](hits, n_relevant)[:, k - 1]
    reference = from_ir_measures(measure @ k, hits, n_relevant)
    assert sorted(reference) == list(range(len(hits)))
    compared = [user for user in reference if metric != "map" or n_relevant[user] <= k]
    assert [float(values[user]) for user in compared] == pytest.approx([reference[user] for user in compared], abs=1e-6)


def test_map_divides_by_what_the_list_can_hold_where_ir_measures_divides_by_all():
    hits, n_relevant = torch.tensor([[True, True]]), torch.tensor([5])
    assert METRICS["map"](hits, n_relevant)[0].tolist() == [1, 1]
    assert from_ir_measures(AP @ 2, hits, n_relevant)[0] == pytest.approx(2 / 5)
