"""ItemKNN and Pop: scores by hand, new items, and runs without training."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from mambarec.base.errors import ConfigError
from mambarec.data.dataloader import EvalDataLoader
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.running.run import load_model_class
from mambarec.running.trained import load_trained
from mambarec.serving.lists import evaluated_users, recommend

SETTINGS = [("Pop", {}), ("ItemKNN", {"similarity": "content"}), ("ItemKNN", {"similarity": "interactions"})]


@pytest.fixture
def build(make_config, make_loader):
    def make(name, **overrides):
        config = make_config(name, **overrides)
        loader = make_loader(config)
        return config, loader, load_model_class(name, None)(config, loader)

    return make


def scores(model):
    return model.full_sort_predict([torch.arange(model.n_users), torch.zeros(2, 0, dtype=torch.long)]).numpy()


def cosines(table):
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return unit @ unit.T


def top(similarity, k, allowed):
    """The k largest of each row but the item itself, others 0."""
    result = np.zeros_like(similarity)
    for item, row in enumerate(similarity):
        row = np.where(allowed & (np.arange(len(row)) != item), row, -np.inf)
        best = np.argsort(-row, kind="stable")[:k]
        result[item, best] = similarity[item, best]
    return result


def test_content_is_the_mean_cosine_of_the_neighbours_that_the_user_has(build, toy):
    _, loader, model = build("ItemKNN", knn_k=5)
    history = loader.inter_matrix("csr").toarray()
    trained = history.sum(0) > 0
    files = [np.load(toy / name).astype(np.float64) for name in ("image_feat.npy", "text_feat.npy")]
    similarity = sum(top(cosines(table), 5, trained) for table in files) / 2
    np.testing.assert_allclose(scores(model), history @ similarity.T, atol=1e-5)


def test_content_is_the_mean_over_the_modalities_that_an_item_has(build, toy):
    mask = np.arange(64) % 4 > 0
    np.save(toy / "image_mask.npy", mask)
    _, loader, model = build("ItemKNN", knn_k=5)
    history = loader.inter_matrix("csr").toarray()
    trained = history.sum(0) > 0
    visual, text = (cosines(np.load(toy / name).astype(np.float64)) for name in ("image_feat.npy", "text_feat.npy"))
    total = top(visual, 5, trained & mask) * mask[:, None] + top(text, 5, trained)
    np.testing.assert_allclose(scores(model), history @ (total / (1 + mask)[:, None]).T, atol=1e-5)


def test_interactions_are_the_cosine_of_the_columns_of_pairs(build):
    _, loader, model = build("ItemKNN", similarity="interactions", knn_k=64)
    history = loader.inter_matrix("csr").toarray()
    norm = np.sqrt(history.sum(0))
    similarity = history.T @ history / np.maximum(np.outer(norm, norm), 1e-12)
    np.fill_diagonal(similarity, 0)
    np.testing.assert_allclose(scores(model), history @ similarity.T, atol=1e-5)


def test_popularity_counts_training_pairs(build):
    _, loader, model = build("Pop")
    assert (scores(model) == loader.inter_matrix("csr").toarray().sum(0)).all()


def test_a_new_item_has_a_score_by_content_and_none_by_interactions(build, toy):
    frame = pd.read_csv(toy / "toy.inter", sep="\t")
    frame.loc[frame["itemID"] == 7, "x_label"] = 2
    frame.to_csv(toy / "toy.inter", sep="\t", index=False)
    assert (scores(build("ItemKNN", knn_k=64)[2])[:, 7] != 0).any()
    assert (scores(build("ItemKNN", similarity="interactions", knn_k=64)[2])[:, 7] == 0).all()


def test_a_similarity_that_is_none_is_refused(build):
    with pytest.raises(ConfigError, match="similarity='cosine'; expected one of content, interactions"):
        build("ItemKNN", similarity="cosine")


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_a_run_takes_one_epoch_and_recommends_what_it_evaluated(make_run, name, settings):
    directory = make_run(name, **settings)
    assert json.loads((directory / "result.json").read_text())["epochs"] == 1
    trained = load_trained(directory)
    evaluation = TopKEvaluator(trained.config).evaluate(trained.model, EvalDataLoader(trained.config, trained.dataset, "test"))
    lists = pd.concat(recommend(trained, evaluated_users(trained.dataset), 5), ignore_index=True)
    assert lists["item"].tolist() == evaluation.topk[:, :5].ravel().tolist()
