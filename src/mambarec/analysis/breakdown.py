"""What one average hides: metrics by the activity of users and the popularity of items, and what the lists cover.

All of it is read from what finished runs left, per_user.npz and topk.npz; no model is loaded. Tables have a row per run and
group, and begin with model, dataset, seed and run (its directory).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from mambarec.analysis.given import Runs, run_places
from mambarec.base import arguments
from mambarec.base.errors import RunError
from mambarec.data.dataset import RecDataset
from mambarec.running.trained import FinishedRun, open_run

N_GROUPS = 5
SMALLEST = 10  # users in a group, at least: the mean over a few is chance
COLD = 0  # the group of items without a training pair


def quantile_groups(counts: np.ndarray, n_groups: int = N_GROUPS) -> np.ndarray:
    """Number the quantile group of each count, 1 (lowest) … n_groups: (N,) -> int64 (N,).

    Equal counts share a group, that of their mean rank, so groups differ in size, and one may be empty, where ties are long.
    """
    return np.ceil(rankdata(counts) / len(counts) * n_groups).astype(np.int64)


def merged(groups: np.ndarray, sizes: Mapping[int, int], smallest: int = SMALLEST) -> np.ndarray:
    """Groups in which none is smaller than `smallest`, as long as there are two: int64 (N,), numbered from 1 without a gap.

    groups: the number of each member's group, (N,). sizes: what counts of each group. A group that is too small joins the
    smaller one of its neighbours.
    """
    parts = [[number] for number in sorted(set(groups.tolist()))]

    def size(part: list[int]) -> int:
        return sum(sizes.get(number, 0) for number in part)

    while len(parts) > 1 and min(map(size, parts)) < smallest:
        i = min(range(len(parts)), key=lambda at: size(parts[at]))
        j = min((at for at in (i - 1, i + 1) if 0 <= at < len(parts)), key=lambda at: size(parts[at]))
        parts[min(i, j) : max(i, j) + 1] = [parts[min(i, j)] + parts[max(i, j)]]
    number_of = {number: i for i, part in enumerate(parts, 1) for number in part}
    return np.array([number_of[number] for number in groups.tolist()], dtype=np.int64)


def by_user_activity(runs: Runs, n_groups: int = N_GROUPS, smallest: int = SMALLEST) -> pd.DataFrame:
    """Mean test metrics of the test users in quantiles of their number of training pairs.

    runs: a Run, the directory of a finished run, or a list of these. RunError for any other directory, and for data that have
    changed.

    A group with fewer than `smallest` users is merged with its neighbour. Columns beside the run's: group (1 has the fewest
    pairs), users, fewest, most (training pairs of a user), and each metric.
    """
    n_groups, smallest = _whole("n_groups", n_groups), _whole("smallest", smallest)
    rows = []
    for run in _opened(runs):
        values = pd.DataFrame(run.per_user()).set_index("users")
        activity = np.bincount(run.dataset.users["train"], minlength=run.dataset.n_users)[values.index]
        groups = quantile_groups(activity, n_groups)
        for group, members in _members(merged(groups, Counter(groups.tolist()), smallest)):
            size = {"users": len(members), "fewest": activity[members].min(), "most": activity[members].max()}
            rows.append(run.name | {"group": group} | size | values.iloc[members].mean().to_dict())
    return pd.DataFrame(rows)


def by_item_popularity(runs: Runs, k: int = 20, n_groups: int = N_GROUPS, smallest: int = SMALLEST) -> pd.DataFrame:
    """Test recall of the items in quantiles of their number of training pairs, cold items (none) apart as group 0.

    runs: as in `by_user_activity`.

    A group that has relevant pairs of fewer than `smallest` users is merged with its neighbour. Cold items stay apart; with
    fewer such users their recall is NaN. A relevant test pair counts for the group of its item. Columns beside the run's:
    group (1 is the least popular), items, fewest, most (training pairs of an item), pairs (relevant test pairs), hits (those
    among the first k), users (who have such pairs), recall@k (the mean over these users of their hits in the group / their
    pairs in it; NaN without pairs) and share_of_lists (of all places in the lists, those that the group has).
    """
    k, n_groups, smallest = _whole("k", k), _whole("n_groups", n_groups), _whole("smallest", smallest)
    rows = []
    for run in _opened(runs):
        dataset, lists = run.dataset, _lists(run, k)
        popularity = np.bincount(dataset.items["train"], minlength=dataset.n_items)
        groups = np.full(dataset.n_items, -1)
        groups[dataset.present_items] = COLD
        groups[popularity > 0] = quantile_groups(popularity[popularity > 0], n_groups)
        pairs = _test_pairs(dataset, *lists)
        n_users = pairs.groupby(groups[pairs["item"]])["user"].nunique().to_dict()
        groups[popularity > 0] = merged(groups[popularity > 0], n_users, smallest)
        pairs["group"] = groups[pairs["item"]]
        recommended = groups[lists[1][lists[1] >= 0]]
        for group, members in _members(groups):
            of_group = pairs[pairs["group"] == group]
            recalls = of_group.groupby("user")["hit"].mean()
            rows.append(
                run.name
                | {"group": group, "items": len(members)}
                | {"fewest": popularity[members].min(), "most": popularity[members].max()}
                | {"pairs": len(of_group), "hits": int(of_group["hit"].sum()), "users": len(recalls)}
                | {
                    f"recall@{k}": recalls.mean() if len(recalls) >= smallest else np.nan,
                    "share_of_lists": (recommended == group).mean(),
                }
            )
    return pd.DataFrame(rows)


def coverage(runs: Runs, k: int = 20) -> pd.DataFrame:
    """How much of the catalogue the test users' lists of k show, and how evenly.

    runs: as in `by_user_activity`. RunError where a run recorded shorter lists.

    Columns beside the run's: items, recommended (items in at least one list), coverage@k (their share), gini@k (of how often
    each item is in a list, items never shown included: 0 when all are equally often, towards 1 when few take all).
    """
    k = _whole("k", k)
    rows = []
    for run in _opened(runs):
        _, topk = _lists(run, k)
        counts = np.bincount(topk[topk >= 0], minlength=run.dataset.n_items)[run.dataset.present_items]
        shown = int((counts > 0).sum())
        figures = {f"coverage@{k}": shown / len(counts), f"gini@{k}": gini(counts)}
        rows.append(run.name | {"items": len(counts), "recommended": shown} | figures)
    return pd.DataFrame(rows)


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of counts (N,) >= 0 whose sum is above 0: sum_i (2i - N - 1) x_i / (N sum x), x ascending, i from 1."""
    ascending, n = np.sort(counts), len(counts)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ascending).sum() / (n * ascending.sum()))


def _opened(runs: Runs) -> Iterator[FinishedRun]:
    """The records of runs, one after the other."""
    return (open_run(*place) for place in run_places(runs))


def _whole(name: str, value: int) -> int:
    return arguments.whole(name, value, 1)


def _members(groups: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each group that occurs, ascending, with the places of its members; a place of group -1 has none."""
    return [(int(group), np.flatnonzero(groups == group)) for group in np.unique(groups[groups >= 0])]


def _lists(run: FinishedRun, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Test users (N,) and their first k items (N, k)."""
    users, topk = run.lists()
    if k > topk.shape[1]:
        raise RunError(f"{run.directory.path} recorded lists of {topk.shape[1]} items, so k={k} cannot be had; use less")
    return users, topk[:, :k]


def _test_pairs(dataset: RecDataset, users: np.ndarray, topk: np.ndarray) -> pd.DataFrame:
    """The relevant test pairs: user, item, hit (whether the item is in the user's list)."""
    pairs: dict[str, Any] = {"user": dataset.users["test"], "item": dataset.items["test"]}
    recommended = (users[:, None] * dataset.n_items + topk)[topk >= 0]
    pairs["hit"] = np.isin(pairs["user"] * dataset.n_items + pairs["item"], recommended)
    return pd.DataFrame(pairs)
