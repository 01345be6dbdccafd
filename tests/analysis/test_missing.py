"""Missing modality: what each kind of model keeps of the features, seen in the model that is evaluated."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mambarec.models.bpr import BPR
from mambarec.models.vbpr import VBPR
from torch import nn

import mambarec.analysis.missing as missing
from mambarec.analysis.missing import metrics_without, missing_modality
from mambarec.base.errors import RunError
from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.nn.graph import knn_graph
from mambarec.running.trained import load_trained

MULTIMODAL = [name for name in available_models() if "modalities" in Config(name, "demo")]
HALF, ALL = np.arange(0, 64, 2), np.arange(64)


@pytest.fixture
def evaluated(monkeypatch):
    """The models that were evaluated; they are not measured."""
    models = []

    class Capture:
        def __init__(self, config):
            pass

        def evaluate(self, model, loader):
            models.append(model)
            return SimpleNamespace(metrics={})

    monkeypatch.setattr(missing, "TopKEvaluator", Capture)
    return models


def replaced(table: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    table = table.detach().clone()
    table[rows] = table.mean(0)
    return table


@pytest.mark.parametrize("name", MULTIMODAL)
def test_with_nothing_missing_the_metrics_are_those_of_the_run(name, make_run):
    directory = make_run(name, epochs=1)
    frame = missing_modality([directory], shares=[0.0, 1.0])
    result = json.loads((directory / "result.json").read_text())["test"]
    assert frame["modality"].tolist() == ["visual", "visual", "text", "text"] and frame["read"].all()
    for row in frame[frame["share"] == 0].to_dict("records"):
        assert {key: row[key] for key in result} == result


def test_a_larger_share_includes_a_smaller_one_and_modalities_lose_the_same(make_run, monkeypatch):
    lost = []
    monkeypatch.setattr(missing, "metrics_without", lambda trained, modality, items: lost.append(items.tolist()) or {})
    directory = make_run("VBPR")
    frame = missing_modality([directory], seed=3)
    visual, text = lost[:5], lost[5:]
    assert visual == text and frame["items"].tolist() == [0, 16, 32, 48, 64] * 2
    assert all(set(less) < set(more) for less, more in pairwise(visual))
    missing_modality([directory], seed=4)
    assert lost[11] != visual[1]


@pytest.mark.parametrize("name", ["BPR", "LightGCN"])
def test_a_model_without_features_is_what_it_was(name, make_run):
    directory = make_run(name)
    frame = missing_modality([directory])
    assert len(frame) == 10 and not frame["read"].any()
    assert set(frame["recall@20"]) == {json.loads((directory / "result.json").read_text())["test"]["recall@20"]}


def test_a_modality_that_the_run_does_not_read_costs_nothing(make_run):
    frame = missing_modality([make_run("VBPR", modalities=["text"])], shares=[0.5])
    assert frame.set_index("modality")["read"].to_dict() == {"visual": False, "text": True}


def test_raw_features_are_read_with_the_mean_in_place(make_run, evaluated, toy):
    trained = load_trained(make_run("VBPR"))
    metrics_without(trained, "text", HALF)
    model = evaluated[0]
    torch.testing.assert_close(model.features["text"], replaced(torch.from_numpy(np.load(toy / "text_feat.npy")), HALF))
    assert torch.equal(model.features["visual"], trained.model.features["visual"])
    assert torch.equal(model.projection.weight, trained.model.projection.weight)


@pytest.mark.parametrize("one_width", [False, True])
@pytest.mark.parametrize("name", ["MGCN", "FREEDOM", "MambaRec"])
def test_trained_tables_get_their_own_mean_and_others_stay(name, one_width, make_run, evaluated, toy):
    if one_width:  # modalities are told apart by content
        np.save(toy / "text_feat.npy", np.random.default_rng(0).normal(size=(64, 24)).astype(np.float32))
    trained = load_trained(make_run(name))
    metrics_without(trained, "visual", HALF)
    metrics_without(trained, "visual", ALL)
    half, none = (model.state_dict() for model in evaluated)
    for key, value in trained.model.state_dict().items():
        expected = replaced(value, HALF) if key == "feature_tables.visual" else value
        assert torch.equal(half[key], expected)
    assert (none["feature_tables.visual"] == none["feature_tables.visual"][0]).all()


def test_item_graphs_are_built_from_what_is_left(make_run, evaluated, toy):
    trained = load_trained(make_run("MGCN", knn_k=3))
    metrics_without(trained, "text", HALF)
    graphs = evaluated[0].encoder.item_graphs
    expected = knn_graph(replaced(torch.from_numpy(np.load(toy / "text_feat.npy")), HALF), 3).toarray()
    np.testing.assert_allclose(graphs["text"](torch.eye(64)).numpy(), expected, atol=1e-6)
    whole = trained.model.encoder.item_graphs
    assert torch.equal(graphs["visual"](torch.eye(64)), whole["visual"](torch.eye(64)))
    assert not torch.equal(graphs["text"](torch.eye(64)), whole["text"](torch.eye(64)))


class Frozen(BPR):
    """As models written for MMRec may: keeps a frozen table and a graph in its state, and a graph in a file beside the data."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.table = nn.Embedding.from_pretrained(self.t_feat)
        self.register_buffer("graph", F.normalize(self.t_feat) @ F.normalize(self.t_feat).T)
        cache = Path(config["data_path"] + config["dataset"]) / "mm_adj_10.pt"
        if not cache.exists():
            torch.save(self.t_feat @ self.t_feat.T, cache)
        self.cached = torch.load(cache, weights_only=True)
        assert cache.with_name("toy.inter").exists()


def test_what_a_state_or_a_cache_holds_of_the_features_is_left_behind(make_run, evaluated, toy, monkeypatch):
    monkeypatch.setattr("mambarec.running.run.load_model_class", lambda *_: Frozen)
    trained = load_trained(make_run("BPR", is_multimodal_model=True))
    cache = (toy / "mm_adj_10.pt").read_bytes()
    metrics_without(trained, "text", HALF)
    model, left = evaluated[0], replaced(trained.model.t_feat, HALF)
    torch.testing.assert_close(model.table.weight, left)
    torch.testing.assert_close(model.graph, F.normalize(left) @ F.normalize(left).T)
    torch.testing.assert_close(model.cached, left @ left.T)
    assert torch.equal(model.user_embedding.weight, trained.model.user_embedding.weight)
    assert (toy / "mm_adj_10.pt").read_bytes() == cache


class Derived(VBPR):
    """Trains a table that was started from the features and is not them."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.started = nn.Parameter(self.t_feat[:, :4].clone())

    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction) + self.started.square().mean()


def test_a_trained_tensor_made_from_the_features_has_no_answer(make_run, monkeypatch):
    monkeypatch.setattr("mambarec.running.run.load_model_class", lambda *_: Derived)
    trained = load_trained(make_run("VBPR"))
    with pytest.raises(RunError, match=r"VBPR starts its trained started from the text features without keeping them"):
        metrics_without(trained, "text", HALF)


@pytest.mark.parametrize("model", ["DRAGON", "MENTOR", "COHESION"])
def test_the_vectors_of_the_last_step_have_no_answer(model, make_run):
    trained = load_trained(make_run(model, evaluate_on="last_forward"))
    with pytest.raises(RunError, match=f"{model} scores the vectors of its last training step"):
        metrics_without(trained, "text", HALF)


def test_the_data_of_the_run_are_not_touched(make_run, toy):
    def content():
        return {path.name: path.read_bytes() for path in toy.iterdir()}

    directory = make_run("MGCN")
    before = content()
    missing_modality([directory], shares=[0.5])
    assert content() == before
