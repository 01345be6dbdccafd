"""Items as new ones: rows of the item graphs, item_dropout in training, and cold items of the data set."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from mambarec.base.errors import ConfigError
from mambarec.nn.graph import knn_graph, neighbour_graph, scaled_knn_graph
from mambarec.nn.new_items import TrainingItems
from mambarec.running.run import load_model_class
from mambarec.training.trainer import Trainer, init_seed

TRAINED_FOR = ("MambaRec", "MGCN", "FREEDOM", "VBPR")
COLD = [3, 11, 40]


@pytest.fixture
def build(make_config, make_loader):
    def make(name, **overrides):
        config = make_config(name, **overrides)
        loader = make_loader(config)
        init_seed(config["seed"])
        return config, loader, load_model_class(name, None)(config, loader)

    return make


@pytest.fixture
def cold(toy):
    """The toy data in which some items have no training pair."""
    frame = pd.read_csv(toy / "toy.inter", sep="\t")
    frame.loc[frame["itemID"].isin(COLD), "x_label"] = 2
    frame.to_csv(toy / "toy.inter", sep="\t", index=False)
    return toy


def test_a_new_items_row_is_the_one_that_the_knn_graph_would_have():
    table = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    known, new, k = table[:29], table[29:], 7
    graph, scale = scaled_knn_graph(known, k)
    links = TrainingItems({"visual": known}, torch.arange(29), k).link({"visual": new})
    own, others = torch.randn(1, 4), torch.randn(29, 4)
    similarity = F.normalize(table, dim=1) @ F.normalize(new, dim=1).T  # (30, 1)
    nearest = similarity[:, 0].topk(k).indices  # itself first
    weights = torch.zeros(30)
    weights[nearest] = similarity[nearest, 0]
    scales = torch.cat((torch.from_numpy(scale).float(), weights.sum().rsqrt()[None]))
    expected = (weights * scales * scales[29]) @ torch.cat((others, own))
    found = links.through_knn_graph("visual", own, others, torch.from_numpy(scale).float())
    torch.testing.assert_close(found[0], expected)
    flat = links.through_neighbour_graph("visual", own, others)
    torch.testing.assert_close(flat[0], torch.cat((others, own))[nearest].mean(0))
    np.testing.assert_allclose(graph.toarray(), knn_graph(known, k).toarray())


def test_a_copy_takes_what_the_original_has_and_an_item_is_not_its_own_neighbour():
    table = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    values = torch.randn(20, 3)
    known = TrainingItems({"visual": table, "text": table[:, :4]}, torch.arange(20), 5)
    mean = known.link({"visual": table[[4]] * 3, "text": table[[4], :4]}).mean(values)
    torch.testing.assert_close(mean[0], values[4], atol=5e-3, rtol=5e-3)
    links = known.link({"visual": table, "text": table[:, :4]}, items=torch.arange(20))
    assert not any((part == torch.arange(20)[:, None]).any() for part in links.neighbour.values())
    torch.testing.assert_close(sum(part.sum(1) for part in links.weight.values()), torch.ones(20))


def test_items_that_a_mask_leaves_out_have_no_edge_and_no_new_item_as_neighbour():
    table = torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(12) % 3 > 0
    for build in (knn_graph, neighbour_graph):
        graph = build(table, 4, mask).toarray()
        assert not graph[~mask].any() and not graph[:, ~mask].any()
        np.testing.assert_allclose(graph[mask][:, mask], build(table[mask], 4).toarray())
    links = TrainingItems({"visual": table}, torch.arange(12), 4, {"visual": mask}).link({"visual": table})
    assert mask[links.neighbour["visual"]].all()


@pytest.mark.parametrize(
    ("model", "settings"),
    [("ItemKNN", {"similarity": "content"}), ("FREEDOM", {"item_dropout": 0.9}), ("MambaRec", {"item_dropout": 0.9})],
)
def test_a_modality_that_one_item_has_links_nothing(model, settings, build, toy):
    np.save(toy / "image_mask.npy", np.arange(64) == 5)
    config, loader, built = build(model, **settings)
    if config["req_training"]:
        built.train()
        assert torch.isfinite(built.calculate_loss(next(iter(loader))))
    built.eval()
    with torch.no_grad():
        assert torch.isfinite(built.full_sort_predict([torch.arange(4)])).all()


@pytest.mark.parametrize("name", TRAINED_FOR)
def test_cold_items_are_scored_as_new_items_with_their_features(name, build, cold):
    config, loader, model = build(name, cold_items="neighbours")
    _, _, plain = build(name)
    Trainer(config, model, loader.generator)._train_epoch(loader, 0)
    plain.load_state_dict(model.state_dict())
    model.eval(), plain.eval()
    with torch.no_grad():
        users, items = model.representations()
        same_users, own = plain.representations()
        links = model.new_items.links.rows(torch.tensor(COLD))
        expected = plain.for_new_items()({m: table[COLD] for m, table in plain.features.items()}, links)
    warm = np.setdiff1d(np.arange(64), COLD)
    assert torch.equal(users, same_users) and torch.equal(items[warm], own[warm])
    torch.testing.assert_close(items[COLD], expected)
    assert not torch.allclose(items[COLD], own[COLD], atol=1e-3)


@pytest.mark.parametrize("name", TRAINED_FOR)
def test_item_dropout_changes_the_training_and_nothing_at_evaluation(name, build):
    losses = {}
    for dropout in (0.0, 0.4):
        config, loader, model = build(name, item_dropout=dropout)
        losses[dropout] = Trainer(config, model, loader.generator)._train_epoch(loader, 0)
        assert np.isfinite(losses[dropout])
        model.eval()
        with torch.no_grad():
            assert all(torch.equal(*pair) for pair in zip(model.representations(), model.representations(), strict=True))
    assert losses[0.0] != losses[0.4]


def test_dropped_items_train_the_embeddings_of_their_neighbours_alone(build):
    _, loader, model = build("VBPR", item_dropout=0.5)
    model.new_items.dropout = 1.0
    batch = next(iter(loader))
    model.calculate_loss(batch).sum().backward()
    links = model.new_items.links.rows(batch[1:].flatten())
    taken = torch.cat([part.flatten() for part in links.neighbour.values()])
    moved = torch.nonzero(model.item_embedding.grad.abs().sum(1)).flatten()
    assert set(moved.tolist()) == set(taken.tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"item_dropout": 1.0}, "item_dropout=1.0; expected a number not below 0 and below 1"),
        ({"cold_items": "some"}, "cold_items='some'; expected one of own, neighbours"),
    ],
)
def test_values_that_are_none_are_refused(build, settings, message):
    with pytest.raises(ConfigError, match=message):
        build("MGCN", **settings)
