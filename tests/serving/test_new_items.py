"""New items beside old ones: the old scores stay to the bit, a copy is wanted by those who want the original."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from mambarec.models.bpr import BPR

from mambarec.base.errors import DataError
from mambarec.data.dataloader import user_batches
from mambarec.evaluation.topk_evaluator import masked_scores
from mambarec.running.trained import load_trained
from mambarec.serving import new_items
from mambarec.serving.lists import recommend, trained_users
from mambarec.serving.new_items import Arrivals, best_users, recommend_with_new, training_items

MODELS = ("MambaRec", "MGCN", "FREEDOM", "VBPR", "LightGCN", "BPR", "LATTICE")


class Scoring(BPR):
    """Its scores are not the inner products of its vectors."""

    def full_sort_predict(self, interaction):
        return super().full_sort_predict(interaction) ** 3


@pytest.fixture
def folder(toy, tmp_path):
    """folder(rows, ids=None) -> a folder of new items with the features of these items of the toy data."""

    def make(rows, ids=None):
        place = tmp_path / "new"
        place.mkdir(exist_ok=True)
        ids = [f"new {row}" for row in rows] if ids is None else ids
        pd.DataFrame({"item_id": range(len(ids)), "original_id": ids}).to_csv(place / "items.csv", index=False)
        for name in ("image_feat.npy", "text_feat.npy"):
            np.save(place / name, np.load(toy / name)[rows])
        return place

    return make


def scores_of_old(trained, users):
    batches = user_batches(trained.dataset, users, trained.config)
    return torch.cat([masked_scores(trained.model, batch, trained.dataset) for batch in batches])


@pytest.mark.parametrize("model", MODELS)
def test_the_scores_of_old_items_do_not_change_by_a_bit(make_run, folder, model):
    trained = load_trained(make_run(model))
    users = trained_users(trained.dataset)
    alone = pd.concat(recommend(trained, users, 64))
    with torch.no_grad():
        before = scores_of_old(trained, users)
        with Arrivals(trained, folder(range(0, 64, 5))) as arrivals:
            mixed = pd.concat(recommend_with_new(trained, users, 100, arrivals))
        assert torch.equal(scores_of_old(trained, users), before)
    old = mixed[~mixed["new"]]
    assert len(mixed) == len(alone) + 13 * len(users)
    assert old["item"].astype(int).tolist() == alone["item"].tolist()
    assert (old["score"].to_numpy() == alone["score"].to_numpy()).all()
    assert mixed.groupby("user")["score"].apply(lambda one: one.is_monotonic_decreasing).all()


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_a_copy_of_a_training_item_has_its_vector_where_the_model_knows_nothing_of_features(make_run, folder, model):
    trained = load_trained(make_run(model))
    degree = np.bincount(trained.dataset.items["train"], minlength=64)
    rows = np.flatnonzero(degree)[:20]
    with torch.no_grad(), Arrivals(trained, folder(rows)) as arrivals:
        ((_, (vectors,)),) = arrivals._stored()
    np.testing.assert_allclose(vectors, trained.model.representations()[1][rows].detach(), rtol=0.02, atol=2e-3)


def test_scores_that_are_no_inner_products_are_weighed_in_the_same_way(make_run, folder, monkeypatch):
    monkeypatch.setattr("mambarec.running.run.load_model_class", lambda *_: Scoring)
    trained = load_trained(make_run("BPR"))
    users = np.arange(10)
    with torch.no_grad(), Arrivals(trained, folder([3, 9])) as arrivals:
        ((_, (index, weight)),) = arrivals._stored()
        batch = next(user_batches(trained.dataset, users, trained.config))
        raw = trained.model.full_sort_predict(batch)
        values, numbers = arrivals.best(batch, 2)
    expected = np.stack([(raw[:, index[i].tolist()].numpy() * weight[i]).sum(1) for i in range(2)], 1)
    np.testing.assert_allclose(values.numpy(), np.take_along_axis(expected, numbers.numpy(), 1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(weight.sum(1), 1, rtol=1e-5)


def test_the_users_of_one_new_item_are_those_who_score_it_highest(make_run, folder):
    trained = load_trained(make_run("MGCN", eval_batch_size=7))
    users = trained_users(trained.dataset)
    with Arrivals(trained, folder([1, 2, 3])) as arrivals:
        mixed = pd.concat(recommend_with_new(trained, users, 100, arrivals))
        best = best_users(trained, users, arrivals, "new 2", 5)
    of_item = mixed[mixed["item"] == "new 2"].sort_values("score", ascending=False)
    assert best["user"].tolist() == of_item["user"].tolist()[:5]
    np.testing.assert_allclose(best["score"], of_item["score"][:5], rtol=1e-5)


def test_blocks_of_new_items_change_nothing(make_run, folder, monkeypatch):
    trained = load_trained(make_run("MambaRec"))
    users, place = trained_users(trained.dataset)[:9], folder(range(20))

    def table():
        with Arrivals(trained, place) as arrivals:
            return pd.concat(recommend_with_new(trained, users, 15, arrivals))

    whole = table()
    monkeypatch.setattr(new_items, "_BLOCK", 3)
    parts = table()
    assert parts["item"].tolist() == whole["item"].tolist()
    np.testing.assert_allclose(parts["score"], whole["score"], rtol=1e-4, atol=1e-6)


def test_an_item_without_a_picture_is_linked_by_its_text_alone(make_run, folder):
    trained, place = load_trained(make_run("MGCN")), folder([4, 5])
    np.save(place / "image_mask.npy", np.array([True, False]))
    before = np.load(place / "image_feat.npy")

    def vectors():
        with torch.no_grad(), Arrivals(trained, place) as arrivals:
            return next(iter(arrivals._stored()))[1][0]

    with_picture = vectors()
    np.save(place / "image_feat.npy", before[::-1].copy())
    assert not np.allclose(vectors()[0], with_picture[0], atol=1e-4)  # this one has a picture
    np.save(place / "image_mask.npy", np.array([False, False]))
    assert len(vectors()) == 2  # no new item has a picture
    np.save(place / "image_mask.npy", np.array([True, False]))
    np.save(place / "text_mask.npy", np.array([True, False]))
    with pytest.raises(DataError, match="item 'new 5' has none of visual, text"):
        vectors()


def defect(place, toy, kind):
    table = np.load(place / "image_feat.npy")
    if kind == "width":
        np.save(place / "image_feat.npy", table[:, 1:])
    elif kind == "rows":
        np.save(place / "image_feat.npy", table[1:])
    elif kind == "nan":
        table[1, 2] = np.nan
        np.save(place / "image_feat.npy", table)
    elif kind == "pickle":
        np.save(place / "image_feat.npy", np.array([{}], dtype=object))
    elif kind == "cut":
        (place / "image_feat.npy").write_bytes((place / "image_feat.npy").read_bytes()[:-8])
    elif kind == "mask":
        np.save(place / "visual_mask.npy", np.array([True, False]))
    elif kind == "none":
        (place / "text_feat.npy").unlink()
    elif kind == "empty":
        for path in place.iterdir():
            path.unlink()
    elif kind == "header":
        (place / "items.csv").write_text("original_id\n")
    elif kind == "column":
        (place / "items.csv").write_text("id\na\nb\n")
    elif kind == "known":
        (place / "items.csv").write_text("original_id\na\n5\n")
    elif kind == "twice":
        (place / "items.csv").write_text("original_id\na\na\n")
    elif kind == "blank":
        (place / "items.csv").write_text("original_id,x\na,1\n ,2\n")
    else:
        for folder, model, digit in ((toy, "vgg16", "0"), (place, "timm:resnet50", "1")):
            report = {"encoders": {"image": {"model": model, "weights": digit * 64}}}
            (folder / "report.json").write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("width", "image_feat.npy is 23 wide, and the run was trained on features 24 wide: they are of another encoder"),
        ("rows", "image_feat.npy has 1 row; expected 2, one per row of items.csv"),
        ("nan", "row 1 holds NaN or Inf"),
        ("pickle", "pickled objects, which are never loaded"),
        ("cut", "is not as long as its head says"),
        ("mask", r"visual_mask.npy goes with no feature file of toy.yaml.*image_mask.npy for image_feat.npy"),
        ("none", "text_feat.npy cannot be read: No such file"),
        ("empty", "items.csv does not exist; expected the ids of the new items"),
        ("header", "has no row; expected one for each new item"),
        ("column", "has no column original_id; it has: id"),
        ("known", "row 2: the data set toy has an item '5' already"),
        ("twice", "row 2: the original_id 'a' is there twice"),
        ("blank", "row 2: original_id is empty"),
        ("encoder", r"its image features are of timm:resnet50 \(weights 1111111111\), those of .* of vgg16"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(make_run, folder, toy, kind, message):
    trained, place = load_trained(make_run("MGCN", epochs=1)), folder([1, 2])
    defect(place, toy, kind)
    with pytest.raises(DataError, match=message):
        Arrivals(trained, place)


def test_ids_of_new_items_come_from_their_column_where_a_row_has_a_field_too_many(make_run, folder):
    trained, place = load_trained(make_run("BPR", epochs=1)), folder([1, 2])
    (place / "items.csv").write_text("original_id,text\nn1,Red shirt, cotton\nn2,Blue shirt\n")
    assert Arrivals(trained, place).ids(np.arange(2)) == ["n1", "n2"]


@pytest.mark.parametrize("model", ["BPR", "Pop"])
def test_a_new_item_is_not_linked_to_items_whose_picture_is_missing(make_run, toy, model):
    mask = np.arange(64) % 2 == 0
    np.save(toy / "image_mask.npy", mask)
    known, tables = training_items(load_trained(make_run(model)))
    links = known.link({name: table[:5] for name, table in tables.items()})
    assert set(tables) == {"visual", "text"} and mask[links.neighbour["visual"].numpy()].all()
    assert not mask[links.neighbour["text"].numpy()].all()
