"""Groups of users and items, coverage and Gini: a hand-worked run, and what must add up on any run."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambarec.analysis.breakdown import by_item_popularity, by_user_activity, coverage, gini, merged, quantile_groups
from mambarec.base.errors import RunError
from mambarec.running.directory import RunDirectory

PAIRS = {  # (user, item); training popularity of items 0 … 5: 4 2 1 0 0 1, activity of users 0 … 3: 3 2 1 2
    0: [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (3, 0), (3, 5)],
    1: [(0, 3)],
    2: [(0, 4), (0, 5), (1, 2), (2, 1), (2, 2), (3, 4)],
}
LISTS = np.array([[5, 3], [3, 4], [2, 1], [1, -1]])
RECALL = np.array([1 / 2, 0, 1, 0])


@pytest.fixture
def small(make_run, toy):
    """A run on PAIRS whose recorded lists are LISTS."""
    rows = [f"{user}\t{item}\t{label}" for label, pairs in PAIRS.items() for user, item in pairs]
    (toy / "toy.inter").write_text("\n".join(["userID\titemID\tx_label", *rows]) + "\n")
    directory = make_run("BPR", topk=[2], valid_metric="Recall@2", epochs=1)
    files = RunDirectory(directory)
    files.write("topk.npz", lambda file: np.savez(file, users=np.arange(4), topk=LISTS))
    files.write("per_user.npz", lambda file: np.savez(file, **{"users": np.arange(4), "recall@2": RECALL}))
    return directory


def test_items_are_grouped_by_popularity_and_cold_ones_stand_apart(small):
    frame = by_item_popularity([small], k=2, n_groups=2, smallest=1).set_index("group")
    assert frame["items"].to_dict() == {0: 2, 1: 2, 2: 2}  # 3, 4 are cold; 2, 5 were had once; 0, 1 more often
    assert frame[["fewest", "most"]].to_numpy().tolist() == [[0, 0], [1, 1], [2, 4]]
    assert frame["pairs"].to_dict() == {0: 2, 1: 3, 2: 1}
    assert frame["hits"].to_dict() == {0: 0, 1: 2, 2: 1}
    assert frame["users"].to_dict() == {0: 2, 1: 3, 2: 1}
    assert frame["recall@2"].to_dict() == pytest.approx({0: 0, 1: 2 / 3, 2: 1})
    assert frame["share_of_lists"].to_dict() == pytest.approx({0: 3 / 7, 1: 2 / 7, 2: 2 / 7})


def test_users_are_grouped_by_activity(small):
    frame = by_user_activity([small], n_groups=2, smallest=1).set_index("group")
    assert frame["users"].to_dict() == {1: 1, 2: 3}
    assert frame[["fewest", "most"]].to_numpy().tolist() == [[1, 1], [2, 3]]
    assert frame["recall@2"].to_dict() == pytest.approx({1: 1, 2: 1 / 6})


def test_groups_that_are_too_small_are_merged(small):
    frame = by_user_activity([small], n_groups=2, smallest=2)
    assert frame[["group", "users", "fewest", "most"]].to_numpy().tolist() == [[1, 4, 1, 3]]
    assert frame["recall@2"].item() == pytest.approx(RECALL.mean())
    frame = by_item_popularity([small], k=2, n_groups=2, smallest=2).set_index("group")
    assert frame["items"].to_dict() == {0: 2, 1: 4} and frame["users"].to_dict() == {0: 2, 1: 3}  # one user has 0 or 1
    assert np.isnan(by_item_popularity([small], k=2, n_groups=2, smallest=3).set_index("group").loc[0, "recall@2"])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 12))
def test_merged_groups_are_large_enough_in_order_and_no_more_than_needed(groups, smallest):
    groups = np.array(groups)
    found = merged(groups, Counter(groups.tolist()), smallest)
    sizes = np.bincount(found)[1:]
    assert len(sizes) == 1 or sizes.min() >= smallest
    assert (np.diff(found[np.argsort(groups, kind="stable")]) >= 0).all() and set(found) == set(range(1, len(sizes) + 1))
    if np.unique(groups, return_counts=True)[1].min() >= smallest:
        assert len(sizes) == len(np.unique(groups))


def test_coverage_counts_the_items_shown_and_gini_how_evenly(small):
    row = coverage([small], k=2).iloc[0]
    assert (row["items"], row["recommended"], row["coverage@2"]) == (6, 5, 5 / 6)
    assert row["gini@2"] == pytest.approx(13 / 42)  # shown 0 2 1 2 1 1 times


def test_groups_of_several_runs_add_up_to_the_whole(make_run):
    runs = [make_run("BPR", epochs=1), make_run("MGCN", epochs=1)]
    results = [json.loads((run / "result.json").read_text())["test"] for run in runs]
    users, items = by_user_activity(runs), by_item_popularity(runs)
    assert users["model"].unique().tolist() == items["model"].unique().tolist() == ["BPR", "MGCN"]
    for run, result in zip(runs, results, strict=True):
        part = users[users["run"] == str(run)]
        for name, mean in result.items():
            assert np.average(part[name], weights=part["users"]) == pytest.approx(mean)
        part = items[items["run"] == str(run)]
        assert part["items"].sum() == 64 and part["share_of_lists"].sum() == pytest.approx(1)
        assert part["hits"].sum() / part["pairs"].sum() == pytest.approx(result["recall@20"])  # one test item a user


def test_longer_lists_than_the_run_recorded_cannot_be_had(small):
    with pytest.raises(RunError, match="recorded lists of 2 items, so k=20 cannot be had"):
        coverage([small])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_equal_counts_share_a_group_and_larger_ones_are_not_below(counts):
    groups = quantile_groups(np.array(counts))
    assert ((groups >= 1) & (groups <= 5)).all()
    order = np.argsort(counts)
    assert (np.diff(groups[order]) >= 0).all()
    assert all(len(set(groups[np.array(counts) == count])) == 1 for count in counts)


def test_groups_of_different_counts_are_of_one_size():
    assert np.bincount(quantile_groups(np.random.default_rng(0).permutation(35))).tolist() == [0, 7, 7, 7, 7, 7]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40).filter(any))
def test_gini_is_half_the_mean_difference_over_the_mean(counts):
    x = np.array(counts, dtype=float)
    assert gini(x) == pytest.approx(np.abs(x[:, None] - x).mean() / (2 * x.mean()))
