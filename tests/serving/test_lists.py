"""Lists for users: those that evaluation scored, for any users in any blocks, and why an item is in them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambarec.base.errors import DataError, RunError
from mambarec.running.trained import load_trained
from mambarec.serving.lists import evaluated_users, known_users, listed_users, recommend, trained_users


@pytest.fixture
def trained(make_run):
    return load_trained(make_run("MGCN", eval_batch_size=7))


def table(*arguments, **options) -> pd.DataFrame:
    return pd.concat(recommend(*arguments, **options), ignore_index=True)


def rectangle(frame: pd.DataFrame, column: str) -> np.ndarray:
    return np.stack(frame.groupby("user", sort=False)[column].apply(np.array).to_list())


@pytest.mark.parametrize("k", [5, 20, 50])
def test_lists_are_those_of_the_evaluation(trained, k):
    users, topk = trained.lists()
    frame = table(trained, evaluated_users(trained.dataset), k)
    assert frame["user"].unique().tolist() == users.tolist()
    counts = (topk[:, :k] >= 0).sum(1)
    assert frame.groupby("user").size().tolist() == counts.tolist()
    assert frame["item"].tolist() == topk[:, :k][topk[:, :k] >= 0].tolist()
    assert frame["rank"].tolist() == [rank for n in counts for rank in range(1, n + 1)]


def test_lists_do_not_depend_on_the_other_users_asked_for(trained):
    everyone = table(trained, trained_users(trained.dataset), 5)
    some = np.array([40, 3, 17])
    expected = pd.concat([everyone[everyone["user"] == user] for user in some])
    pd.testing.assert_frame_equal(table(trained, some, 5), expected.reset_index(drop=True))


def test_scores_fall_and_are_the_models(trained):
    frame = table(trained, np.arange(10), 4)
    users, items = (part.detach().numpy() for part in trained.model.representations())
    scores = (users[frame["user"].to_numpy(int)] * items[frame["item"].to_numpy(int)]).sum(1)
    np.testing.assert_allclose(frame["score"], scores, rtol=1e-5, atol=1e-6)
    assert (np.diff(rectangle(frame, "score"), axis=1) <= 0).all()


def test_seen_items_are_left_out_unless_asked_for(trained):
    history = trained.dataset.inter_matrix("csr")
    users = trained_users(trained.dataset)

    def seen(frame: pd.DataFrame) -> np.ndarray:
        return np.asarray(history[frame["user"].to_numpy(int), frame["item"].to_numpy(int)]).ravel()

    assert not seen(table(trained, users, 64)).any()
    assert seen(table(trained, users, 64, include_seen=True)).sum() == history.nnz


def test_a_list_ends_where_the_items_do(trained):
    frame = table(trained, np.array([0]), 1000)
    assert len(frame) == 64 - trained.dataset.inter_matrix("csr")[[0]].nnz


def test_reasons_are_the_nearest_seen_items_by_the_raw_features(trained, toy):
    history = trained.dataset.inter_matrix("csr")
    frame = table(trained, np.arange(9), 6, n_reasons=2)
    for modality, file in (("visual", "image_feat.npy"), ("text", "text_feat.npy")):
        features = np.load(toy / file).astype(np.float64)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        for row in frame.to_dict("records"):
            seen = history.indices[history.indptr[row["user"]] : history.indptr[row["user"] + 1]]
            cosines = sorted(((features[row["item"]] @ features[one], one) for one in seen), reverse=True)
            for place, (cosine, item) in enumerate(cosines[:2], 1):
                assert row[f"{modality}_seen_{place}"] == item
                assert row[f"{modality}_cosine_{place}"] == pytest.approx(cosine, abs=1e-5)


def test_an_item_does_not_explain_itself_and_reasons_may_run_out(trained):
    history = trained.dataset.inter_matrix("csr")
    frame = table(trained, np.arange(5), 64, include_seen=True, n_reasons=12)
    own = [column for column in frame if column.startswith("visual_seen_")]
    assert not any((frame[column] == frame["item"]).fillna(False).any() for column in own)
    seen = np.asarray(history[frame["user"].to_numpy(int), frame["item"].to_numpy(int)]).ravel() > 0
    n_seen = np.diff(history.indptr)[frame["user"].to_numpy(int)]
    assert frame[own].notna().sum(axis=1).tolist() == np.minimum(n_seen - seen, 12).tolist()


def test_a_model_without_features_has_no_reasons(make_run):
    with pytest.raises(RunError, match="BPR reads no item features, so there is nothing to explain its choice by"):
        table(load_trained(make_run("BPR")), np.arange(3), 5, n_reasons=1)


def test_original_ids_stand_for_users_items_and_reasons(trained, toy):
    numbers = table(trained, np.array([7, 2]), 3, n_reasons=1)
    pd.DataFrame({"user_id": [f"u{i}" for i in range(48)], "userID": range(48)}).to_csv(toy / "u_id_mapping.csv", index=False)
    pd.DataFrame({"item_id": [f"i{i}" for i in range(64)], "itemID": range(64)}).to_csv(toy / "i_id_mapping.csv", index=False)
    (toy / "ids.txt").write_text("u7\nu2\n\nu7\n")
    names = table(trained, known_users(trained.dataset, listed_users(toy / "ids.txt"))[0], 3, n_reasons=1)
    for column, prefix in {"user": "u", "item": "i", "visual_seen_1": "i", "text_seen_1": "i"}.items():
        assert names[column].tolist() == [f"{prefix}{number}" for number in numbers[column]]


def test_a_file_of_users_must_name_some(trained, tmp_path):
    (tmp_path / "ids.txt").write_text("\n \n")
    with pytest.raises(DataError, match="names no user; expected one id on each line"):
        listed_users(tmp_path / "ids.txt")
    with pytest.raises(DataError, match=r"1,2: there is no such file. For ids in place of a file, write --user 1 2$"):
        listed_users(Path("1,2"))
    with pytest.raises(DataError, match=r"absent\.txt: there is no such file. For ids in place of a file, write --user"):
        listed_users(tmp_path / "absent.txt")


def test_users_whom_the_data_do_not_have_are_told_apart(trained):
    users, unknown = known_users(trained.dataset, ["7", "nobody", "2", "7", "-1", "48"])
    assert users.tolist() == [7, 2] and unknown == ["nobody", "-1", "48"]
    with pytest.raises(
        DataError, match=r"toy has none of these users: 'nobody'; without a map of ids they are the numbers 0 … 47"
    ):
        known_users(trained.dataset, ["nobody"])


def test_an_item_whose_picture_is_missing_is_no_reason_and_has_none(make_run, toy):
    mask = np.arange(64) % 2 == 0
    np.save(toy / "image_mask.npy", mask)
    frame = table(load_trained(make_run("VBPR")), np.arange(9), 6, n_reasons=1)
    named = frame["visual_seen_1"].dropna().astype(int)
    assert mask[named].all() and frame.loc[~mask[frame["item"].astype(int)], "visual_seen_1"].isna().all()
    assert len(named) and frame["text_seen_1"].notna().all()
