"""What old model files need is there while they run, and only then; ours need none of it."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from mambarec.config.catalogue import MODELS
from mambarec.mmrec import dense_graphs
from mambarec.mmrec.legacy import dropout_adj, mmrec_rooms, needs, provided, scatter, scatter_softmax, sparsesvd
from mambarec.mmrec.plugins import load_model_class
from mambarec.nn import loss

CPU = torch.device("cpu")
OLD = """
A._update(d); np.float(1); x.cuda(); from torch_scatter import scatter
import sparsesvd; self.kept = nn.Parameter(torch.ones(2)).to(self.device)
"""


def everything():
    names = [name for name in sys.modules if name.startswith(("torch_scatter", "sparsesvd"))]
    return names, hasattr(sp.dok_matrix, "_update"), "float" in vars(np), torch.Tensor.cuda, nn.Module.cuda, nn.Parameter.to


def test_old_names_are_there_while_it_is_open_and_gone_afterwards():
    before = everything()
    with provided(needs([OLD]), CPU), provided(needs([OLD]), CPU):  # a model may call its own methods
        matrix = sp.dok_matrix((2, 2), dtype=np.float32)
        matrix._update({(0, 1): 1, (1, 0): 2})
        assert matrix.toarray().tolist() == [[0, 1], [2, 0]]
        assert vars(np)["float"] is float
        assert torch.ones(2).cuda().device == CPU and next(nn.Linear(1, 1).cuda().parameters()).device == CPU
        assert importlib.import_module("torch_scatter").scatter is scatter
        kept = nn.Parameter(torch.ones(2)).to(CPU)
        assert not isinstance(kept, nn.Parameter) and kept.requires_grad
        assert isinstance(next(nn.Linear(1, 1).to(CPU).parameters()), nn.Parameter)
    assert everything() == before


def test_mmrecs_packages_are_there_while_it_is_open(tmp_path, monkeypatch):
    (tmp_path / "cousin.py").write_text("from models.lightgcn import LightGCN\n")
    mine = ModuleType("utils")
    monkeypatch.setitem(sys.modules, "utils", mine)  # a notebook's own
    needed = mmrec_rooms("from utils.utils import build_sim\nfrom models.cousin import LightGCN", tmp_path)
    for _ in range(2):
        with provided(needed, CPU), provided(needed, CPU):
            assert importlib.import_module("common.loss") is importlib.import_module("models.common.loss") is loss
            assert importlib.import_module("utils.utils").build_sim is dense_graphs.build_sim
            assert importlib.import_module("utils_package.utils").build_sim is dense_graphs.build_sim
            cousin = importlib.import_module("models.cousin")
            assert cousin.LightGCN.__name__ == "LightGCN" and cousin is importlib.import_module("models.cousin")
        assert sys.modules["utils"] is mine and not {"common", "models", "models.cousin"} & set(sys.modules)
    assert mmrec_rooms("from mambarec.nn.loss import BPRLoss\nimport common_sense", tmp_path) == []


def test_what_a_library_still_has_is_left_as_it_is(monkeypatch):
    marker = object()
    monkeypatch.setattr(sp.dok_matrix, "_update", marker, raising=False)
    monkeypatch.setattr(np, "float", marker, raising=False)
    monkeypatch.setitem(sys.modules, "torch_scatter", marker)
    with provided(needs([OLD]), CPU):
        assert sp.dok_matrix._update is marker and vars(np)["float"] is marker and sys.modules["torch_scatter"] is marker


@pytest.mark.parametrize("path", sorted(MODELS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_our_models_need_none_of_it(path):
    text = path.read_text()
    assert needs([text]) == mmrec_rooms(text, MODELS) == []


def test_our_models_are_taken_as_they_are():
    assert load_model_class("MambaRec").__init__.__module__ == "mambarec.models.mambarec"


@pytest.mark.parametrize(
    "text", ["np.float32(1)", "np.int64", "x.to(device)", "cudart()", "self.update(d)", "nn.Linear(1, 2).to(d)"]
)
def test_names_that_are_only_similar_need_nothing(text):
    assert needs([text]) == []


def test_scatter_reduces_by_index():
    src, index = torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([0, 0, 2, 2])
    assert scatter(src, index).tolist() == [3, 0, 8]
    assert scatter(src, index, reduce="mean", dim_size=4).tolist() == [1.5, 0, 4, 0]
    assert scatter(src, index, reduce="max").tolist() == [2, 0, 5]
    assert scatter(torch.stack((src, src), 1), index, dim=0).tolist() == [[3, 3], [0, 0], [8, 8]]
    weights = scatter_softmax(src, index)
    torch.testing.assert_close(weights, torch.cat((src[:2].softmax(0), src[2:].softmax(0))))


def test_dropout_adj_keeps_edges_with_their_attributes():
    edges, attributes = torch.arange(2000).view(2, 1000), torch.arange(1000)
    kept, of_kept = dropout_adj(edges, attributes, p=0.3)
    assert 600 < len(of_kept) < 800 and torch.equal(kept, edges[:, of_kept])
    assert torch.equal(dropout_adj(edges, p=0.3, training=False)[0], edges)


def test_sparsesvd_gives_the_largest_values_first():
    matrix = sp.random(30, 20, density=0.3, random_state=0, format="csc")
    left, values, right = sparsesvd(matrix, 5)
    expected = np.linalg.svd(matrix.toarray(), compute_uv=False)[:5]
    np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(left @ matrix.toarray() @ right.T, np.diag(values), atol=1e-10)
