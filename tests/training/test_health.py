"""Degeneracies are said, each by a line that names it, and ordinary data and trainings are silent."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from mambarec.base.errors import ModelError
from mambarec.evaluation.topk_evaluator import best_items
from mambarec.nn.graph import EdgeGraph, SparseGraph
from mambarec.running.run import run
from mambarec.training.health import feature_warnings, graph_warnings, score_warnings, training_warnings, vector_warnings

TABLE = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))


def changed(rows: slice, value: object) -> torch.Tensor:
    table = TABLE.clone()
    table[rows] = value
    return table


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE, []),
        (changed(slice(0, 40), TABLE[0]), []),
        (changed(slice(0, 60), TABLE[0]), ["60% of the items have the visual features of another item"]),
        (changed(slice(0, 60), 0.0), ["60% of the items have the visual", "60% of the items have only zeros"]),
        (changed(slice(0, 100), TABLE[0]), ["the visual features are the same for all items"]),
        (torch.cat((TABLE[:, :3], torch.ones(100, 5)), 1), ["62% of the visual features are one value"]),
    ],
    ids=["ordinary", "some repeat", "most repeat", "zeros", "all the same", "constant columns"],
)
def test_features_that_tell_little_are_said(table, said):
    lines = feature_warnings({"visual": table})
    assert len(lines) == len(said) and all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_a_graph_without_an_edge_is_said():
    model = nn.Module()
    model.full = SparseGraph(sp.identity(4).tocsr())
    assert graph_warnings(model) == []
    model.empty = SparseGraph(sp.csr_matrix((4, 4)))
    model.edges = EdgeGraph(sp.csr_matrix((4, 4)))
    model.register_buffer("adjacency", torch.zeros(4, 4).to_sparse())
    assert [line.split()[2] for line in graph_warnings(model)] == ["adjacency", "empty", "edges"]


@pytest.mark.parametrize(
    ("losses", "values", "said"),
    [
        ([3.0, 2.0, 1.0], [0.1, 0.2, 0.2], []),
        ([3.0], [0.1], []),
        ([1.0, 1.0], [0.1, 0.2], ["the training loss was 1 in all 2 epochs"]),
        ([3.0, 2.0], [0.0, 0.0], ["validation recall@20 was 0 throughout"]),
        ([3.0, *range(9)], [0.1] * 10, ["validation recall@20 was 0.10000 in all 10 evaluations"]),
    ],
    ids=["ordinary", "one epoch", "loss", "zero", "never moved"],
)
def test_a_training_that_did_not_move_is_said(losses, values, said):
    rows = [{"loss": loss, "valid": {"recall@20": value}} for loss, value in zip(losses, values, strict=True)]
    lines = training_warnings(rows, "recall@20")
    assert len(lines) == len(said) and all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_users_whose_scores_are_all_equal_are_said():
    scores = torch.tensor([[1.0, 1.0, -torch.inf], [1.0, 2.0, 3.0], [5.0, -torch.inf, -torch.inf]])
    assert score_warnings([scores[1:]]) == []  # one item left to recommend is no tie
    assert score_warnings([scores])[0].startswith("for 1 of 3 users")
    assert score_warnings([scores[:1], scores[:1]])[0].startswith("for all 2 users")


def test_item_vectors_of_one_direction_are_said():
    assert vector_warnings(TABLE) == []
    assert "collapsed" in vector_warnings(torch.arange(1.0, 101)[:, None] * TABLE[:1])[0]
    assert vector_warnings(torch.zeros(5, 3)) == []  # the scores say it


def test_infinite_scores_are_an_error():
    with pytest.raises(ModelError, match="Inf"):
        best_items(torch.tensor([[1.0, torch.inf]]), 1)
    assert best_items(torch.tensor([[1.0, -torch.inf]]), 2)[1].tolist() == [[0, -1]]


def test_a_run_keeps_its_warnings_and_logs_them(make_config, toy):
    np.save(toy / "image_feat.npy", np.ones((64, 24), np.float32))
    result = run(make_config("VBPR", topk=[20, 100]))
    assert [line.split()[0] for line in result["warnings"][:2]] == ["topk", "the"]
    directory = Path(result["directory"])
    stored, log = json.loads((directory / "result.json").read_text()), (directory / "train.log").read_text()
    assert stored["warnings"] == result["warnings"] and all(f"WARNING: {line}" in log for line in stored["warnings"])


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "VBPR", "MGCN", "MambaRec"])
def test_an_ordinary_run_has_no_warning(make_config, model):
    assert run(make_config(model, epochs=6, train_batch_size=32, learning_rate=0.02))["warnings"] == []
