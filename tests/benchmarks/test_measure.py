"""The measuring itself: what is timed, and the plain evaluation against the evaluator."""

import pytest
import torch

from benchmarks import epochs
from benchmarks.measure import Times, in_turn
from benchmarks.plain_models import PLAIN
from benchmarks.workloads import Steps, generated_features, plain_evaluation
from mambarec.data.dataloader import EvalDataLoader
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.running.run import load_model_class
from mambarec.training.trainer import init_seed

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_things_are_measured_in_turn_and_the_warm_up_does_not_count():
    calls = []
    times = in_turn({"a": lambda: calls.append("a"), "plain": lambda: calls.append("plain")}, rounds=2, warm_up=1)
    assert calls == ["a", "plain"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "plain": 2}


def test_median_and_spread_of_hand_worked_times():
    assert (Times([1.0, 9.0, 2.0]).median, Times([1.0, 9.0, 2.0]).spread) == (2.0, 4.0)


def test_generated_features_are_the_same_each_time():
    assert generated_features(20, 8).shape == (20, 8)
    assert (generated_features(20, 8) == generated_features(20, 8)).all()


def test_the_plain_evaluation_gives_the_evaluators_metrics(make_config, make_loader):
    config = make_config("BPR", metrics=["Recall", "NDCG", "Precision", "MAP"], topk=[5, 10, 20])
    loader = make_loader(config)
    init_seed(0)
    model = load_model_class("BPR")(config, loader)
    test = EvalDataLoader(config, loader.dataset, "test")
    with torch.no_grad():
        plain = plain_evaluation(*model.representations(), test, cutoffs=(5, 10, 20))
    assert plain == pytest.approx(TopKEvaluator(config).evaluate(model, test).metrics)


@pytest.mark.parametrize("run", ["MambaRec/released", "LightGCN"])
def test_steps_are_made_by_the_fast_form_or_by_the_plain_one(run, toy):
    small = {"embedding_size": 8, "train_batch_size": 32}
    fast, plain = Steps(run, toy, **small), Steps(run, toy, plain=True, **small)
    assert type(plain.trainer.model) is PLAIN[run.partition("/")[0]]
    assert type(fast.trainer.model) is not type(plain.trainer.model)
    for _ in range(len(fast.loader) + 1):  # into a second epoch
        assert plain() == pytest.approx(fast(), rel=0.05)


@pytest.mark.parametrize("use_gpu", [False, pytest.param(True, marks=needs_gpu)])
def test_a_whole_epoch_is_measured(use_gpu, toy):
    rows = epochs.measure("MambaRec/paper", toy, rounds=1, use_gpu=use_gpu, train_batch_size=32)
    assert list(rows) == (["plain", "recorded"] if use_gpu else ["plain"])
    for row in rows.values():
        assert row["epoch"] > 0
        assert row["evaluation"] > 0
        assert len(epochs._line("MambaRec/paper", row)) == len(epochs.HEADER)
        assert 0 < row["busy"] < 1.1 if use_gpu else "busy" not in row
