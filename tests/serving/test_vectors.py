"""Vectors for serving elsewhere rank as the model does; similar items are the nearest by cosine."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from mambarec.models.bpr import BPR

from mambarec.base.errors import ConfigError, DataError, RunError
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.running.trained import load_trained
from mambarec.serving.vectors import export_vectors, similar_items


class Shifted(BPR):
    """Its scores are not the inner products of its vectors."""

    def full_sort_predict(self, interaction):
        return -super().full_sort_predict(interaction)


class Popular(GeneralRecommender):
    """Scores without vectors: MMRec's protocol for a model that does not train."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.popularity = dataloader.inter_matrix("csr").sum(axis=0)

    def full_sort_predict(self, interaction):
        return torch.from_numpy(np.asarray(self.popularity)).float().repeat(len(interaction[0]), 1)


@pytest.fixture
def trained(make_run):
    return load_trained(make_run("VBPR"))


def untrained(name, make_run, monkeypatch, model):
    monkeypatch.setattr("mambarec.running.run.load_model_class", lambda *_: model)
    return load_trained(make_run(name, req_training=False))


def ranking(archive, trained) -> np.ndarray:
    """The test users' first 20 items by the inner products of an exported archive."""
    users, _ = trained.lists()
    scores = archive["users"][users] @ archive["items"].T
    history = trained.dataset.inter_matrix("csr")[users]
    scores[history.nonzero()] = -np.inf
    return np.argsort(-scores, axis=1)[:, :20]


def test_exported_vectors_rank_as_the_evaluation_did(trained, tmp_path):
    assert export_vectors(trained, "npz", tmp_path / "vectors.npz") == [tmp_path / "vectors.npz"]
    with np.load(tmp_path / "vectors.npz", allow_pickle=False) as archive:
        assert archive["users"].dtype == archive["items"].dtype == np.float32
        assert archive["user_ids"].tolist() == list(range(48)) and archive["item_ids"].tolist() == list(range(64))
        assert (ranking(archive, trained) == trained.lists()[1][:, :20]).all()
    assert not list(tmp_path.glob("*.tmp"))


def test_exported_ids_are_the_original_ones(trained, toy, tmp_path):
    pd.DataFrame({"item_id": [f"i{i}" for i in range(64)], "itemID": range(64)}).to_csv(toy / "i_id_mapping.csv", index=False)
    export_vectors(trained, "npz", tmp_path / "vectors.npz")
    with np.load(tmp_path / "vectors.npz", allow_pickle=False) as archive:
        assert archive["item_ids"][:2].tolist() == ["i0", "i1"] and archive["user_ids"][1] == 1


def test_a_faiss_index_finds_what_the_model_scores_best(trained, tmp_path):
    faiss = pytest.importorskip("faiss", reason="the extra [serving] is not installed")
    written = export_vectors(trained, "faiss", tmp_path / "items.faiss")
    assert written == [tmp_path / "items.faiss", tmp_path / "items.npz"]
    index = faiss.read_index(str(tmp_path / "items.faiss"))
    with np.load(tmp_path / "items.npz", allow_pickle=False) as archive:
        scores, items = index.search(archive["users"], 5)
        np.testing.assert_allclose(scores, -np.sort(-(archive["users"] @ archive["items"].T), axis=1)[:, :5], rtol=1e-5)
        assert (items == np.argsort(-(archive["users"] @ archive["items"].T), axis=1)[:, :5]).all()
    with pytest.raises(ConfigError, match=r"the index needs another ending than \.npz"):
        export_vectors(trained, "faiss", tmp_path / "items.npz")


def test_faiss_is_asked_for_where_it_is_absent(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"needs the package faiss-cpu: pip install -e '.*\[serving\]'"):
        export_vectors(trained, "faiss", tmp_path / "items.faiss")
    assert not list(tmp_path.glob("items*"))


def test_a_place_that_cannot_be_written_is_named(trained, tmp_path):
    with pytest.raises(OSError, match=r"absent/vectors\.npz"):  # mambarec.base.errors makes a sentence of it
        export_vectors(trained, "npz", tmp_path / "absent" / "vectors.npz")


def test_vectors_that_do_not_give_the_scores_are_not_exported(make_run, monkeypatch, tmp_path):
    with pytest.raises(RunError, match="its scores are not the inner products of its representations"):
        export_vectors(untrained("BPR", make_run, monkeypatch, Shifted), "npz", tmp_path / "vectors.npz")


def test_a_model_without_vectors_has_none_to_export_but_features_to_compare(make_run, monkeypatch, tmp_path):
    trained = untrained("VBPR", make_run, monkeypatch, Popular)
    with pytest.raises(RunError, match=r"has no representations\(\), only scores"):
        export_vectors(trained, "npz", tmp_path / "vectors.npz")
    assert set(similar_items(trained, "3", 2)["by"]) == {"visual", "text"}
    trained = untrained("BPR", make_run, monkeypatch, Popular)
    with pytest.raises(RunError, match=r"has neither representations\(\) nor item features"):
        similar_items(trained, "3", 2)


def test_similar_items_are_the_nearest_by_vectors_and_by_each_modality(trained, toy):
    frame = similar_items(trained, "5", 4)
    tables = {"representation": trained.model.representations()[1].detach().numpy()}
    tables |= {"visual": np.load(toy / "image_feat.npy"), "text": np.load(toy / "text_feat.npy")}
    assert frame["by"].unique().tolist() == list(tables)
    for name, table in tables.items():
        unit = table / np.linalg.norm(table, axis=1, keepdims=True)
        cosine = unit @ unit[5]
        order = [item for item in np.argsort(-cosine) if item != 5][:4]
        part = frame[frame["by"] == name]
        assert part["item"].tolist() == order and part["rank"].tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(part["cosine"], cosine[order], atol=1e-5)


def test_similar_items_of_an_unknown_one_are_refused(trained):
    with pytest.raises(DataError, match="there is no item '64'"):
        similar_items(trained, "64", 3)


def test_an_item_whose_picture_is_missing_is_near_to_none_by_it(make_run, toy):
    mask = np.arange(64) % 2 == 0
    np.save(toy / "image_mask.npy", mask)
    trained = load_trained(make_run("VBPR"))
    frame = similar_items(trained, "4", 60)
    assert mask[frame.loc[frame["by"] == "visual", "item"].astype(int)].all() and (frame["by"] == "visual").sum() == 31
    assert (frame["by"] == "text").sum() == 60
    assert "visual" not in set(similar_items(trained, "5", 3)["by"])


def test_an_item_without_any_feature_is_near_to_nothing(make_run, toy):
    for name in ("image_mask.npy", "text_mask.npy"):
        np.save(toy / name, np.arange(64) != 5)
    with pytest.raises(RunError, match="item 5 has none of the features that ItemKNN reads, so nothing is near to it"):
        similar_items(load_trained(make_run("ItemKNN")), "5", 3)
