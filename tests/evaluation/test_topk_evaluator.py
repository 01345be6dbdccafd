"""Full ranking against a naive evaluation in plain Python, and what it refuses."""

from math import log2

import numpy as np
import pytest
import torch
from torch import nn

from mambarec.base.errors import RunError
from mambarec.data.dataloader import EvalDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.topk_evaluator import TopKEvaluator, best_items, representations_once

SETTINGS = {"metrics": ["Recall", "NDCG", "Precision", "MAP", "HitRate", "MRR"], "topk": [5, 1, 20], "eval_batch_size": 7}


class Scores(nn.Module):
    """Gives the scores of a table (U, I), and notes the mode it was called in."""

    def __init__(self, table):
        super().__init__()
        self.table, self.modes = table, []

    def full_sort_predict(self, interaction):
        self.modes.append(self.training)
        return self.table[interaction[0]].clone()


class Vectors(nn.Module):
    """Scores by inner products, and counts how often its representations are computed."""

    def __init__(self, n_users, n_items):
        super().__init__()
        self.users, self.items, self.calls = torch.randn(n_users, 4), torch.randn(n_items, 4), 0

    def representations(self):
        self.calls += 1
        return self.users, self.items

    def full_sort_predict(self, interaction):
        users, items = self.representations()
        return users[interaction[0]] @ items.T


@pytest.fixture
def evaluate(make_config):
    """evaluate(model, split, **overrides) -> Evaluation on the toy data."""

    def run(model, split="test", **overrides):
        config = make_config("BPR", **{"valid_metric": "Recall@20", **SETTINGS, **overrides})
        return TopKEvaluator(config).evaluate(model, EvalDataLoader(config, RecDataset(config), split))

    return run


@pytest.fixture
def sets(make_config):
    """split -> user -> set of items, of the toy data."""
    dataset = RecDataset(make_config("BPR"))
    grouped = {split: {} for split in ("train", "valid", "test")}
    for split, users in grouped.items():
        for user, item in zip(dataset.users[split].tolist(), dataset.items[split].tolist(), strict=True):
            users.setdefault(user, set()).add(item)
    return grouped


def random_scores(seed=0):
    return torch.rand(48, 64, generator=torch.Generator().manual_seed(seed))


def naive_list(scores: torch.Tensor, hidden: set[int], k: int) -> list[int]:
    allowed = [item for item in range(len(scores)) if item not in hidden]
    return sorted(allowed, key=lambda item: -float(scores[item]))[:k]


def naive_metrics(recommended: list[int], relevant: set[int], k: int) -> dict[str, float]:
    hit_ranks = [rank for rank, item in enumerate(recommended[:k], start=1) if item in relevant]
    reachable = min(k, len(relevant))
    return {
        "recall": len(hit_ranks) / len(relevant),
        "precision": len(hit_ranks) / k,
        "hitrate": float(bool(hit_ranks)),
        "mrr": 1 / hit_ranks[0] if hit_ranks else 0.0,
        "map": sum(found / rank for found, rank in enumerate(hit_ranks, start=1)) / reachable,
        "ndcg": sum(1 / log2(rank + 1) for rank in hit_ranks) / sum(1 / log2(rank + 1) for rank in range(1, reachable + 1)),
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_equals_a_naive_one(evaluate, sets, split, seed):
    table = random_scores(seed)
    evaluation = evaluate(Scores(table), split)
    assert evaluation.users.tolist() == sorted(sets[split])
    lists = [naive_list(table[user], sets["train"][user], 20) for user in evaluation.users.tolist()]
    assert evaluation.topk.tolist() == lists
    for k in SETTINGS["topk"]:
        rows = [naive_metrics(row, sets[split][user], k) for user, row in zip(sorted(sets[split]), lists, strict=True)]
        for name in rows[0]:
            values = [row[name] for row in rows]
            assert evaluation.per_user[f"{name}@{k}"].tolist() == pytest.approx(values, abs=1e-12)
            assert evaluation.metrics[f"{name}@{k}"] == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert len(evaluation.metrics) == len(evaluation.per_user) == 18


def test_only_the_configured_metrics_and_cut_offs_are_computed(evaluate):
    evaluation = evaluate(Scores(random_scores()), metrics=["NDCG", "recall"], topk=[20, 3, 3])
    assert set(evaluation.metrics) == set(evaluation.per_user) == {"ndcg@3", "ndcg@20", "recall@3", "recall@20"}


def test_the_batch_size_does_not_change_the_result(evaluate):
    results = [evaluate(Scores(random_scores()), eval_batch_size=size) for size in (1, 13, 1000)]
    for other in results[1:]:
        assert other.metrics == results[0].metrics
        assert np.array_equal(other.topk, results[0].topk)


def test_a_model_that_knows_the_answers_scores_one(evaluate, sets):
    table = random_scores()
    for user, items in sets["test"].items():
        table[user, list(items)] += 10
    evaluation = evaluate(Scores(table), topk=[1, 20])
    assert [evaluation.metrics[f"{name}@20"] for name in ("recall", "ndcg", "map", "hitrate", "mrr")] == [1.0] * 5


def test_training_items_are_never_recommended(evaluate, sets):
    table = random_scores()
    for user, items in sets["train"].items():
        table[user, list(items)] += 10
    evaluation = evaluate(Scores(table))
    for user, row in zip(evaluation.users.tolist(), evaluation.topk.tolist(), strict=True):
        assert not sets["train"][user].intersection(row)


@pytest.mark.parametrize("k", [60, 64, 100])
def test_places_without_an_item_left_hold_minus_one_and_are_no_hits(evaluate, sets, k):
    table = random_scores()
    evaluation = evaluate(Scores(table), topk=[20, k])
    assert evaluation.topk.shape == (48, k)
    assert evaluation.topk.dtype == np.int32
    for user, row in zip(evaluation.users.tolist(), evaluation.topk.tolist(), strict=True):
        expected = naive_list(table[user], sets["train"][user], k)
        assert row == expected + [-1] * (k - len(expected))
    n_left = [64 - len(sets["train"][user]) for user in evaluation.users.tolist()]
    assert min(n_left) < k
    hits = [len(sets["test"][user].intersection(row)) for user, row in zip(sorted(sets["test"]), evaluation.topk, strict=True)]
    assert evaluation.per_user[f"precision@{k}"].tolist() == pytest.approx([n / k for n in hits])


def test_scores_that_are_not_a_number_are_an_error(evaluate, sets):
    table = random_scores()
    item = next(item for item in range(64) if item not in sets["train"][11])
    table[11, item] = torch.nan
    with pytest.raises(RunError, match=r"NaN.*learning_rate"):
        evaluate(Scores(table))


@pytest.mark.parametrize(("shape", "found"), [((48, 63), r"\(7, 63\)"), ((48, 65), r"\(7, 65\)"), ((48,), r"\(7,\)")])
def test_scores_of_the_wrong_shape_are_an_error(evaluate, shape, found):
    with pytest.raises(RunError, match=rf"shape {found}; expected \(7, 64\)"):
        evaluate(Scores(torch.rand(shape)))


def test_representations_are_computed_once_per_evaluation(evaluate):
    torch.manual_seed(0)
    model = Vectors(48, 64)
    expected = evaluate(Scores(model.users @ model.items.T))
    for calls in (1, 2):
        evaluation = evaluate(model)  # 48 users, 7 a batch
        assert model.calls == calls
        assert np.array_equal(evaluation.topk, expected.topk)


def test_representations_are_computed_anew_after_an_evaluation(evaluate):
    torch.manual_seed(0)
    model = Vectors(48, 64)
    before = evaluate(model).topk
    model.items = -model.items
    after = evaluate(model).topk
    assert not np.array_equal(after, before)
    assert torch.equal(model.representations()[1], model.items)


def test_representations_that_are_kept_outside_stay_kept_through_evaluations(evaluate):
    model = Vectors(48, 64)
    with representations_once(model):
        for _ in range(3):
            evaluate(model)
        assert model.calls == 1
    model.representations()
    assert model.calls == 2


def test_representations_are_given_back_after_an_error(evaluate):
    model = Vectors(48, 63)
    with pytest.raises(RunError):
        evaluate(model)
    model.items = torch.randn(64, 4)
    assert torch.equal(model.representations()[1], model.items)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_evaluated_in_evaluation_mode_and_put_back(evaluate, training):
    model = Scores(random_scores()).train(training)
    evaluate(model)
    assert set(model.modes) == {False}
    assert model.training == training


def test_evaluation_leaves_no_gradient(evaluate):
    model = Vectors(48, 64)
    model.users.requires_grad_()
    evaluate(model)
    assert model.users.grad is None
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("n_items", [5, 60, 200, 207, 1003])
@pytest.mark.parametrize("masked", [0.0, 0.5, 0.995])
def test_the_best_items_are_those_of_a_sort(n_items, masked):
    scores = torch.randn(30, n_items, generator=torch.Generator().manual_seed(n_items))
    scores[torch.rand(scores.shape, generator=torch.Generator().manual_seed(1)) < masked] = -torch.inf
    values, items = best_items(scores, 10)
    expected, order = (part[:, :10] for part in scores.sort(descending=True))
    assert torch.equal(values, expected)
    assert torch.equal(items, order.masked_fill(expected == -torch.inf, -1))


@pytest.mark.parametrize("column", [0, 500, 1002])
def test_one_score_that_is_not_a_number_is_an_error_wherever_it_stands(column):
    scores = torch.zeros(3, 1003)
    scores[1, column] = torch.nan
    with pytest.raises(RunError, match="NaN"):
        best_items(scores, 10)
