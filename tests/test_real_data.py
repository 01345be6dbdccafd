"""Slow checks on real data sets, in data/ or where MAMBAREC_DATA points; what is absent is skipped and named."""

import os
from pathlib import Path

import pytest

from experiments.run import run
from utils.configurator import Config

DATA = Path(os.environ.get("MAMBAREC_DATA", Path(__file__).resolve().parents[1] / "data"))

pytestmark = pytest.mark.slow


def train(model: str, dataset: str, tmp_path, **overrides) -> dict[str, float]:
    if not (DATA / dataset / f"{dataset}.inter").exists():
        pytest.skip(f"{DATA / dataset} is not there; see data/README.md, and MAMBAREC_DATA for another place")
    return run(Config(model, dataset, {"data_path": str(DATA), "results_dir": str(tmp_path), **overrides}))["test"]


@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize(
    ("model", "overrides", "least"),
    [
        ("LightGCN", {}, 0.075),
        ("MambaRec", {}, 0.105),
        ("MambaRec", {"variant": "released"}, 0.100),
    ],
    ids=["LightGCN", "MambaRec-paper", "MambaRec-released"],
)
def test_on_tiktok_recall_at_20_reaches_what_is_known(model, overrides, least, tmp_path):
    assert train(model, "tiktok", tmp_path, **overrides)["recall@20"] >= least


@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize(("model", "published"), [("BPR", 0.0595), ("LightGCN", 0.0728)])
def test_on_baby_recall_at_20_is_within_a_tenth_of_the_published(model, published, tmp_path):
    assert train(model, "baby", tmp_path)["recall@20"] == pytest.approx(published, rel=0.1)


@pytest.mark.timeout(3600)
def test_on_the_demo_features_help(tmp_path):
    def recall(model):
        places = {"data_path": str(tmp_path / "data"), "results_dir": str(tmp_path / "results")}
        return run(Config(model, "demo", places))["test"]["recall@20"]

    assert recall("MambaRec") > 1.05 * recall("LightGCN") > 1.05**2 * recall("BPR")
