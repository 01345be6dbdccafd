"""Copies: a copy stands where its original stands, and the ranks are those of a naive count."""

import numpy as np
import pytest
import torch

from benchmarks.copies import median_ranks
from mambarec.running.trained import load_trained


@pytest.mark.parametrize("model", ["LightGCN", "MambaRec"])
def test_a_copy_stands_where_its_original_stands(make_run, model):
    trained = load_trained(make_run(model, epochs=3))
    copy, original = median_ranks(trained, 20)
    assert copy == pytest.approx(original, abs=0.1)


def test_the_rank_of_an_original_is_counted_among_all_items(make_run):
    trained = load_trained(make_run("LightGCN"))
    dataset = trained.dataset
    with torch.no_grad():
        users, items = trained.model.eval().representations()
    scores = (users @ items.T).numpy()
    ranks = [
        1 + sum(score > scores[user, item] for score in scores[user])
        for user, item in zip(dataset.users["train"], dataset.items["train"], strict=True)
    ]
    assert median_ranks(trained, dataset.n_items)[1] == pytest.approx(np.median(ranks) / dataset.n_items, abs=0.01)
