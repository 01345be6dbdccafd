"""The cold-start protocol: how well finished runs recommend items without a training pair, beside the items that have some.

The data set is of the split cold-and-warm (preparation/splits.py): of a tenth of the items all pairs are test, and of the
other items some pairs of each user are test too. New items are those without a training pair. A model with the key `cold_items`
was trained and selected with `cold_items: neighbours`, so its own scores are those of new items. ItemKNN and Pop score any
item. For any other model the new items get what `for_new_items` says.

Scores of new items are low beside those of items whose users the model has seen. So the protocol has a second table, in which
the scores of new items are multiplied by a factor, the boost. Validation chooses it by the harmonic mean of the recall of new
and of warm items. Generalised zero-shot learning calibrates unseen classes in such a way (Chao et al., ECCV 2016, arXiv
1605.04253) and judges by this mean (Xian, Schiele and Akata, CVPR 2017, arXiv 1703.04394).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import harmonic_mean
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mambarec.analysis.breakdown import quantile_groups
from mambarec.analysis.comparison import ALPHA
from mambarec.analysis.figures import Panel, Picture, XAxis, lines, metric_name, over_seeds
from mambarec.analysis.significance import Paired, holm, paired
from mambarec.analysis.studies import Point
from mambarec.analysis.tables import Cell, Table
from mambarec.base.errors import ConfigError, RunError
from mambarec.base.words import command, listed, seeds_text
from mambarec.data.dataloader import EvalDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.metrics import METRICS
from mambarec.evaluation.topk_evaluator import best_items, masked_scores, representations_once
from mambarec.running.trained import Trained, load_trained
from mambarec.serving.new_items import item_masks, training_items, vectors_as_new

K = 20
NEIGHBOURS = (1, 2, 5, 10, 20, 50)
BOOSTS = (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
METRICS_SHOWN = ("recall", "ndcg")
ITEM_DROPOUT = 0.5
SPLIT, ENDING = "cold-and-warm", "-cold"
VIEWS = {"new": "new items, among all", "only": "new items, among new", "warm": "warm items, among all"}


Tests = dict[str, tuple[Paired, float, float]]  # by the row: its test against the reference, and both adjusted p-values


def points(item_dropout: float = ITEM_DROPOUT) -> list[Point]:
    """The rows of the protocol, the reference last."""
    cold = {"cold_items": "neighbours"}
    return [
        Point("content kNN", {"similarity": "content"}, "ItemKNN"),
        Point("interactions kNN", {"similarity": "interactions"}, "ItemKNN"),
        Point("popularity", {}, "Pop"),
        *(Point(model, cold, model) for model in ("VBPR", "FREEDOM", "MGCN", "MambaRec")),
        Point(f"MambaRec, item_dropout {item_dropout:g}", {**cold, "item_dropout": item_dropout}),
    ]


def chosen_points(item_dropout: float, models: Sequence[str]) -> list[Point]:
    """The points of these models, named in any case, or all; ConfigError for a model that the protocol does not have."""
    every = points(item_dropout)
    there = {point.model.lower(): point.model for point in every}
    if unknown := [name for name in models if name.lower() not in there]:
        raise ConfigError(f"-m {unknown[0]}: the protocol has {', '.join(sorted(there.values()))}")
    wanted = {name.lower() for name in models} or there.keys()
    return [point for point in every if point.model.lower() in wanted]


@dataclass(frozen=True)
class Measured:
    """One run. values: ('new' | 'only' | 'warm', metric) -> per user (N,), of the users who have such test pairs.

    hits: of each test pair of a new item, whether it is in the user's list; pairs: their items (P,).
    """

    values: dict[tuple[str, str], np.ndarray]
    hits: np.ndarray
    pairs: np.ndarray

    def mean(self, view: str, metric: str) -> float:
        return float(self.values[view, metric].mean())

    def ratio(self, metric: str) -> float:
        """New over warm, among all items."""
        return self.mean("new", metric) / max(self.mean("warm", metric), 1e-12)


def new_items(dataset: RecDataset) -> np.ndarray:
    """The items that occur and have no training pair (C,); RunError where none is in test, or every test pair is of one."""
    cold = np.setdiff1d(dataset.present_items, dataset.items["train"])
    is_new = np.isin(dataset.items["test"], cold)
    if not is_new.any() or is_new.all():
        what = "no test pair of an item without training pairs" if not is_new.any() else "no test pair of any other item"
        raise RunError(f"{dataset.name} has {what}; the protocol needs the split {SPLIT} (`{command('prepare', 'resplit')}`)")
    return cold


class _Lists(NamedTuple):
    """What a run recommends to users (N,), items (N, K): among all items for each boost, and among new items only."""

    users: np.ndarray
    boosted: list[np.ndarray]
    only: np.ndarray


def measure(trained: Trained, k_neighbours: int | None = None, boost: float = 1.0) -> Measured:
    """Recall and NDCG at 20 of a run on test, for new and warm items.

    k_neighbours: link the new items to so many training items, in place of what the run says; for models that can. boost: what
    the scores of new items are multiplied by.
    """
    dataset = trained.dataset
    lists = _lists(trained, "test", (boost,), k_neighbours)
    of_new = _of_new(dataset, "test")
    views = {"new": (lists.boosted[0], of_new), "only": (lists.only, of_new), "warm": (lists.boosted[0], ~of_new)}
    values = {
        (view, metric): per_user
        for view, (table, wanted) in views.items()
        for metric, per_user in _values(dataset, "test", lists.users, table, wanted).items()
    }
    keys = (dataset.users["test"] * dataset.n_items + dataset.items["test"])[of_new]
    recommended = (lists.users[:, None] * dataset.n_items + lists.boosted[0])[lists.boosted[0] >= 0]
    return Measured(values, np.isin(keys, recommended), dataset.items["test"][of_new])


def best_boost(trained: Trained) -> float:
    """The first of BOOSTS with the best harmonic mean of the Recall@20 of new and of warm items on validation."""
    lists, of_new = _lists(trained, "valid", BOOSTS), _of_new(trained.dataset, "valid")
    means = []
    for table in lists.boosted:
        recalls = (_values(trained.dataset, "valid", lists.users, table, wanted)["recall"] for wanted in (of_new, ~of_new))
        means.append(harmonic_mean([float(one.mean()) if len(one) else 0.0 for one in recalls]))
    return BOOSTS[int(np.argmax(means))]


def _of_new(dataset: RecDataset, split: str) -> np.ndarray:
    """Of every pair of a split (P,), whether its item is new."""
    return np.isin(dataset.items[split], new_items(dataset))


@torch.no_grad()
def _lists(trained: Trained, split: str, boosts: Sequence[float], k_neighbours: int | None = None) -> _Lists:
    dataset, model, cold = trained.dataset, trained.model, new_items(trained.dataset)
    is_warm = np.isin(np.arange(dataset.n_items), cold, invert=True)
    replaced = _replacement(trained, cold, k_neighbours)
    loader = EvalDataLoader(trained.config, dataset, split)
    boosted: list[list[Tensor]] = [[] for _ in boosts]
    only: list[Tensor] = []
    with representations_once(model):
        for batch in loader:
            scores = masked_scores(model, batch, dataset)  # (B, I)
            of_new = scores[:, cold] if replaced is None else replaced(batch[0])  # (B, C)
            for lists, boost in zip(boosted, boosts, strict=True):
                scores[:, cold] = boost * of_new
                lists.append(best_items(scores, K)[1])
            scores[:, is_warm] = -torch.inf
            only.append(best_items(scores, K)[1])
    *among_all, among_new = (torch.cat(parts).cpu().numpy() for parts in (*boosted, only))
    return _Lists(loader.users.cpu().numpy(), among_all, among_new)


def _values(dataset: RecDataset, split: str, users: np.ndarray, table: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """METRICS_SHOWN of the lists table (N, K) of users (N,) for the `wanted` pairs of a split, bool (P,): of the users who have
    some."""
    keys = (dataset.users[split] * dataset.n_items + dataset.items[split])[wanted]
    n_relevant = np.bincount(dataset.users[split][wanted], minlength=dataset.n_users)[users]
    rows = n_relevant > 0
    listed_keys = users[rows, None] * dataset.n_items + table[rows]
    hits = torch.from_numpy(np.isin(listed_keys, keys) & (table[rows] >= 0))
    return {metric: METRICS[metric](hits, torch.from_numpy(n_relevant[rows]))[:, -1].numpy() for metric in METRICS_SHOWN}


def _replacement(trained: Trained, cold: np.ndarray, k: int | None) -> Callable[[Tensor], Tensor] | None:
    """Scores (B, C) of the new items for users (B,), where the model's own are not those of new items; else None."""
    model, has_key = trained.model, "cold_items" in trained.config
    if not hasattr(model, "representations") or (has_key and trained.config["cold_items"] == "neighbours" and k is None):
        return None
    vectors = vectors_as_new(trained, cold, k)  # (C, D)
    users = model.representations()[0]  # type: ignore[operator]
    return lambda batch: users[batch] @ vectors.T


@dataclass(frozen=True)
class Row:
    """A point with what its runs measured, one a seed; `seeds` has their seeds, `runs` their directories.

    boosts: what each run's scores of new items were multiplied by; none where they are as the model gives them.
    """

    point: Point
    seeds: list[int]
    runs: list[Path]
    measured: list[Measured]
    boosts: list[float] = field(default_factory=list)

    def mean(self, view: str, metric: str) -> float:
        return float(np.mean([one.mean(view, metric) for one in self.measured]))

    def ratio(self, metric: str) -> float:
        return float(np.mean([one.ratio(metric) for one in self.measured]))

    def per_user(self, view: str, metric: str) -> np.ndarray:
        """Averaged over seeds, (N,)."""
        return np.mean([one.values[view, metric] for one in self.measured], axis=0)


def measure_rows(runs: Sequence[tuple[Point, Sequence[Path]]], say: Callable[[str], None]) -> tuple[list[Row], list[Row]]:
    """Measure the runs of each point: as they are, and with the boost that validation chooses for each; points without runs are
    left out."""
    rows, boosted = [], []
    for point, paths in runs:
        if not paths:
            continue
        say(f"measuring {point.label}")
        opened = [load_trained(path) for path in paths]
        row = Row(point, [one.config["seed"] for one in opened], list(paths), [measure(one) for one in opened])
        boosts = [best_boost(one) for one in opened]
        measured = [measure(one, boost=boost) for one, boost in zip(opened, boosts, strict=True)]
        rows.append(row)
        boosted.append(replace(row, measured=measured, boosts=boosts))
    return rows, boosted


def tests(rows: Sequence[Row]) -> Tests:
    """The last row, the reference, against each other by Recall@20 of new items among all: the test, and both p-values
    adjusted for their number. Nothing of one row."""
    if len(rows) < 2:
        return {}
    reference, others = rows[-1], rows[:-1]
    found = {row.point.label: paired(reference.per_user("new", "recall"), row.per_user("new", "recall")) for row in others}
    wilcoxon, t_test = (holm([getattr(test, name) for test in found.values()]) for name in ("wilcoxon", "t_test"))
    return {label: (test, p, q) for (label, test), p, q in zip(found.items(), wilcoxon, t_test, strict=True)}


def cold_table(rows: Sequence[Row], dataset: str, found: Tests, notes: Sequence[str] = ()) -> Table:
    """A row per model: Recall and NDCG of new items among all and among new ones, of warm items, and new over warm.

    Rows with boosts have these too, and no figures among new items alone, which a boost does not change.
    """
    with_boosts = any(row.boosts for row in rows)
    views = {view: text for view, text in VIEWS.items() if not (with_boosts and view == "only")}
    cells = []
    for row in rows:
        test = found.get(row.point.label)
        star = test is not None and max(test[1:]) < ALPHA
        line = [Cell(row.point.label)]
        if with_boosts:
            line.append(Cell(", ".join(f"{boost:g}" for boost in row.boosts)))
        for view in views:
            line += [
                Cell(f"{row.mean(view, metric):.4f}", star=star and (view, metric) == ("new", "recall"))
                for metric in METRICS_SHOWN
            ]
        cells.append([*line, *(Cell(f"{row.ratio(metric):.0%}") for metric in METRICS_SHOWN)])
    names = [metric_name(f"{metric}@{K}") for metric in METRICS_SHOWN]
    reference = rows[-1].point.label
    n_users = {view: len(rows[0].measured[0].values[view, "recall"]) for view in ("new", "warm")}
    said = [
        f"Test of {dataset}, {seeds_text(rows[0].seeds)}. New items have no training pair. {n_users['new']:,} users have test "
        f"pairs of new items, {n_users['warm']:,} of warm ones; each figure is the mean over these users.",
        f"* differs from {reference} by both tests, paired over users and adjusted for {len(found)} pairs (Holm): p < {ALPHA}."
        if found
        else "",
        f"Boost: what the scores of new items are multiplied by. Of {', '.join(f'{boost:g}' for boost in BOOSTS)}, each run "
        f"has the one with the best harmonic mean of new and warm {names[0]} on validation."
        if with_boosts
        else "",
        *notes,
    ]
    return Table(
        "New items, boosted" if with_boosts else "New items",
        ["Model", *(["Boost"] if with_boosts else []), *names * (len(views) + 1)],
        cells,
        [note for note in said if note],
        [("", 1 + with_boosts), *((text, 2) for text in views.values()), ("new / warm", 2)],
    )


def differences(rows: Sequence[Row], found: Tests) -> list[str]:
    """A sentence for each test: how far the reference is from another row, with its interval and p-value."""
    reference = rows[-1].point.label
    return [
        f"{reference} against {label}: {test.difference:+.4f} (95% interval {test.low:+.4f} to {test.high:+.4f}), "
        f"p = {max(p):.2g}"
        for label, (test, *p) in found.items()
    ]


def cold_pictures(rows: Sequence[Row], dataset: str) -> list[Picture]:
    """Recall of new items by how many neighbours link them, and by how near the nearest training item is."""
    by_number = []
    for row in rows:
        for trained in map(load_trained, row.runs):
            if not hasattr(trained.model, "representations"):
                break
            for k in NEIGHBOURS:
                recall = measure(trained, k).mean("new", "recall")
                by_number.append({"model": row.point.label, "neighbours": k, f"recall@{K}": recall})
    about = f"{dataset}, test, {seeds_text(rows[0].seeds)}"
    pictures = []
    if by_number:
        number = over_seeds(pd.DataFrame(by_number), ["neighbours"], [f"recall@{K}"])
        panel = [Panel(metric_name(f"recall@{K}"), {f"recall@{K}": ""}, from_zero=True)]
        pictures.append(
            Picture(
                "cold-neighbours",
                lambda: lines(
                    number, XAxis("neighbours", "training items that a new item is linked to", log=10), panel, by="model"
                ),
                number,
                f"Recall@{K} of new items on test of {dataset}, by how many training items link each of them in each modality. "
                "The models are as they were trained; only the links change.",
                f"Recall@{K} of new items by the number of neighbours",
                about,
            )
        )
    similarity, groups = _groups(load_trained(rows[-1].runs[0]))
    parts = []
    for row in rows:
        for one in row.measured:
            of_pair = groups[one.pairs]
            for group in np.unique(of_pair[of_pair > 0]):
                mean = similarity[groups == group].mean()
                share = one.hits[of_pair == group].mean()
                parts.append({"model": row.point.label, "group": group, "similarity": f"{mean:.2f}", f"recall@{K}": share})
    near = over_seeds(pd.DataFrame(parts), ["group", "similarity"], [f"recall@{K}"])
    axis = XAxis("group", "cosine to the nearest training item (mean of each fifth)", ticks="similarity")
    shown = [Panel("test pairs found", {f"recall@{K}": ""}, from_zero=True)]
    pictures.append(
        Picture(
            "cold-similarity",
            lambda: lines(near, axis, shown, by="model"),
            near,
            f"The share of the test pairs of new items that are in the user's list of {K}, on {dataset}, by how near the "
            f"nearest training item is: its cosine, the mean over modalities. The new items are split into fifths.",
            "Test pairs of new items that are found, by the nearest training item",
            about,
        )
    )
    return pictures


def _groups(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Of every item (I,): the cosine to the nearest training item, the mean over its modalities, and its fifth.

    An old item has NaN and -1, and so has an item without any modality.
    """
    cold = new_items(trained.dataset)
    known, features = training_items(trained, 1)
    rows = torch.from_numpy(cold)
    has = {m: mask[rows].to(features[m].device) for m, mask in item_masks(trained).items() if m in features}
    links = known.link({m: table[rows] for m, table in features.items()}, has)
    counted = torch.stack([has.get(m, torch.ones_like(part[:, 0])).to(part) for m, part in links.similarity.items()])
    nearest = torch.stack([part[:, 0] for part in links.similarity.values()]).sum(0) / counted.sum(0)
    similarity, groups = np.full(trained.dataset.n_items, np.nan), np.full(trained.dataset.n_items, -1)
    similarity[cold] = nearest.cpu().numpy()
    grouped = cold[np.isfinite(similarity[cold])]
    groups[grouped] = quantile_groups(similarity[grouped])
    return similarity, groups


def left_out(rows: Sequence[Row], asked: Sequence[Point]) -> list[str]:
    """A sentence on the points that have no run."""
    names = [point.label for point in asked if point.label not in {row.point.label for row in rows}]
    return [f"Without a finished run: {listed(names)}."] if names else []
