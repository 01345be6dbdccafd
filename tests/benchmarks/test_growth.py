"""Growth: the catalogues are of the size they say, and the costs of a small one are all there."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

import mambarec.nn.graph
from benchmarks import growth
from benchmarks.growth import COSTS, N_ITEMS, N_PAIRS, N_USERS, exponent, measure, write_catalogue

WIDTHS = {"image_feat.npy": 32, "text_feat.npy": 16}


@pytest.mark.parametrize("scale", [0.02, 0.2])
def test_a_catalogue_has_the_size_it_says(tmp_path, scale):
    folder = write_catalogue(tmp_path / "baby", scale, WIDTHS)
    pairs = pd.read_csv(folder / "baby.inter", sep="\t")
    assert pairs["userID"].nunique() == round(scale * N_USERS)
    assert pairs["itemID"].max() < round(scale * N_ITEMS)
    assert len(pairs) == pytest.approx(scale * N_PAIRS, rel=0.05)
    assert not pairs.duplicated(["userID", "itemID"]).any()
    assert np.load(folder / "image_feat.npy").shape == (pairs["itemID"].max() + 1, 32)


def test_exponent_of_a_power():
    assert exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_every_cost_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(mambarec.nn.graph, "nearest_neighbours", mambarec.nn.graph.nearest_neighbours)  # measure() replaces it
    monkeypatch.setattr(growth, "USERS", 20)  # fewer than there are
    measured = measure(write_catalogue(tmp_path / "baby", 0.01, WIDTHS), rounds=1)
    assert measured["users"] == 194
    assert all(measured[cost] > 0 for cost in COSTS if cost != "approximate" or find_spec("faiss"))


def test_every_cost_of_a_sampled_step_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(mambarec.nn.graph, "nearest_neighbours", mambarec.nn.graph.nearest_neighbours)
    folder = write_catalogue(tmp_path / "baby", 0.05, WIDTHS, np.float16)
    assert np.load(folder / "image_feat.npy").dtype == np.float16
    measured = growth.measure_sampled(folder, "MambaRec/fixed", 1, search=False, n_lists=30, full=True)
    assert all(measured[cost] > 0 for cost in growth.SAMPLED_COSTS if cost not in ("approximate", "recall"))
    assert measured["rows"] <= measured["users"] + measured["items"]
