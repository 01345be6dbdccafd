"""Beyond one average, as pictures: users by activity, items by popularity, coverage and Gini, and missing modalities.

Each model is shown at its best grid point on validation. The figures read what the runs' directories hold, so compact records
are not enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mambarec.analysis.breakdown import COLD, N_GROUPS, SMALLEST, by_item_popularity, by_user_activity, coverage
from mambarec.analysis.comparison import Entry, compare
from mambarec.analysis.fairness import check_computed
from mambarec.analysis.figures import Panel, Picture, XAxis, bars, lines, metric_name, over_seeds
from mambarec.analysis.missing import missing_modality
from mambarec.analysis.records import Record
from mambarec.base.errors import RunError
from mambarec.base.logger import get_logger
from mambarec.base.words import option, seeds_text

K = 20
RECALL = f"recall@{K}"


def breakdown_pictures(records: Sequence[Record]) -> list[Picture]:
    """Recall@20 by user activity and by item popularity, and coverage and Gini, of the models run on one data set."""
    entries = _entries(records, RECALL, "ndcg@20")
    runs = _directories(entries)
    return draw_breakdown(
        over_seeds(_by_row(by_user_activity(runs), entries), ["group", "users", "fewest", "most"], [RECALL, "ndcg@20"]),
        over_seeds(
            _by_row(by_item_popularity(runs, K), entries),
            ["group", "items", "fewest", "most", "pairs", "users"],
            [RECALL, "share_of_lists"],
        ),
        over_seeds(_by_row(coverage(runs, K), entries), ["items"], [f"coverage@{K}", f"gini@{K}"]),
        entries[0].dataset,
        _seeds(entries),
    )


def draw_breakdown(
    activity: pd.DataFrame, popularity: pd.DataFrame, shown: pd.DataFrame, dataset: str, seeds: str
) -> list[Picture]:
    """The three pictures, from their numbers. seeds: of which runs they are, in words."""
    panel = [Panel(metric_name(RECALL), {RECALL: ""}, from_zero=True)]
    share = Panel(f"share of the\nlists of {K}", {"share_of_lists": ""}, from_zero=True)
    users_axis = XAxis("group", "training pairs of a user", ticks="pairs of a user")
    items_axis = XAxis("group", "training pairs of an item", ticks="pairs of an item")
    by_user, by_item = _with_ticks(activity, "pairs of a user"), _with_ticks(popularity, "pairs of an item")
    n_users, n_items = activity["group"].nunique(), (popularity["group"].unique() != COLD).sum()
    about, line = _about(seeds), f"{dataset}, test, {seeds}"
    return [
        Picture(
            "breakdown-activity",
            lambda: lines(by_user, users_axis, panel, by="model"),
            activity,
            f"Recall@{K} on test of {dataset}, by how many training pairs a user has. The users are split into fifths. Users "
            f"with equally many pairs stay together{_fewer(n_users, SMALLEST)}. {about}",
            f"Recall@{K} by the activity of users",
            line,
        ),
        Picture(
            "breakdown-popularity",
            lambda: lines(by_item, items_axis, [*panel, share], by="model"),
            popularity,
            f"Recall@{K} on test of {dataset}, by how many training pairs an item has. The items are split into fifths. Items "
            f"with equally many pairs stay together{_fewer(n_items, SMALLEST)}. Items without a training pair are a group of "
            f"their own (0). Upper plot: how many of the test pairs in a group are found. Lower plot: the share of all places "
            f"in the lists of {K} that the group takes. {about}",
            f"Recall@{K} by the popularity of items",
            line,
        ),
        Picture(
            "breakdown-coverage",
            lambda: bars(shown, [f"coverage@{K}", f"gini@{K}"], names="model"),
            shown,
            f"Left: the share of the items of {dataset} that are in at least one user's list of {K} (coverage). Right: how "
            f"unevenly items are shown (Gini coefficient). 0 means that all items are in equally many lists. Near 1, few items "
            f"take all places. {about}",
            f"How much of the catalogue the lists of {K} show",
            line,
        ),
    ]


def _fewer(n_groups: int, smallest: int) -> str:
    """What became of the fifths."""
    if n_groups == N_GROUPS:
        return ""
    return (
        f", and a group with fewer than {smallest} test users is merged with its neighbour, so there are "
        f"{n_groups} groups instead of {N_GROUPS}"
    )


def missing_pictures(records: Sequence[Record]) -> list[Picture]:
    """Recall@20 as 0, 25, 50, 75, 100% of the items lose a modality, of the models run on one data set."""
    entries = _entries(records, RECALL)
    frames = []
    for run in _directories(entries):
        get_logger().info("missing modalities of %s", run)
        frames.append(missing_modality([run]))
    frame = _by_row(pd.concat(frames), entries)
    modalities = list(dict.fromkeys(frame["modality"]))
    wide = frame.pivot(index=["model", "seed", "share", "items"], columns="modality", values=RECALL).reset_index()
    wide = wide.rename(columns={modality: f"{RECALL} without {modality}" for modality in modalities})
    wide["model"] = pd.Categorical(wide["model"], [entry.label for entry in entries])
    columns = [f"{RECALL} without {modality}" for modality in modalities]
    table = over_seeds(wide.sort_values(["model", "share"]), ["share", "items"], columns)
    table["percent"] = 100 * table["share"]
    return [draw_missing(table, modalities, entries[0].dataset, _seeds(entries))]


def draw_missing(table: pd.DataFrame, modalities: Sequence[str], dataset: str, seeds: str) -> Picture:
    """The picture, from its numbers. seeds: of which runs they are, in words."""
    panels = [
        Panel(f"{metric_name(RECALL)}\nwithout {modality}", {f"{RECALL} without {modality}": ""}) for modality in modalities
    ]
    return Picture(
        "missing",
        lambda: lines(table, XAxis("percent", "items without the modality (%)"), panels, by="model"),
        table,
        f"Recall@{K} on test of {dataset} when a share of the items loses one modality. Such an item gets the mean of all "
        f"items' features in place of its own. All models lose the same items. The models are used as they were saved "
        f"and not trained again. A model that does not read the modality keeps its value. {_about(seeds)}",
        f"Recall@{K} as items lose a modality",
        f"{dataset}, test, {seeds}",
    )


@dataclass(frozen=True)
class Masked:
    """A run in which a share of the items lacked a modality in training: None and 0 for the whole features."""

    model: str
    seed: int
    modality: str | None
    share: float
    run: Path
    recall: float


def trained_missing_pictures(runs: Sequence[Masked], seed: int = 0) -> list[Picture]:
    """Recall@20 of models trained with masks, beside that of the models trained on everything whose items then lose as much.

    seed: of the masks (missing_seed), by which the same items are lost.
    """
    whole = {(one.model, one.seed): one for one in runs if not one.share}
    modalities = list(dict.fromkeys(one.modality for one in runs if one.modality))
    shares = sorted({one.share for one in runs})
    rows = []
    for one in runs:
        for modality in modalities if one.modality is None else [one.modality]:
            name = f"{one.model}, trained with masks"
            rows.append({"model": name, "seed": one.seed, "share": one.share, "modality": modality, RECALL: one.recall})
    for (model, number), one in whole.items():
        get_logger().info("missing modalities of %s", one.run)
        found = missing_modality([one.run], shares, seed)
        found = found[found["modality"].isin(modalities)][["share", "modality", RECALL]]
        rows += found.assign(model=f"{model}, trained on everything", seed=number).to_dict("records")
    wide = pd.DataFrame(rows).pivot(index=["model", "seed", "share"], columns="modality", values=RECALL).reset_index()
    columns = [f"{RECALL} without {modality}" for modality in modalities]
    wide = wide.rename(columns=dict(zip(modalities, columns, strict=True)))
    table = over_seeds(wide.sort_values(["model", "share"]), ["share"], columns)
    table["percent"] = 100 * table["share"]
    panels = [
        Panel(f"{metric_name(RECALL)}\nwithout {modality}", {column: ""})
        for modality, column in zip(modalities, columns, strict=True)
    ]
    dataset, seeds = runs[0].run.parents[1].name, seeds_text({one.seed for one in runs})
    return [
        Picture(
            "missing-trained",
            lambda: lines(table, XAxis("percent", "items without the modality (%)"), panels, by="model"),
            table,
            f"Recall@{K} on test of {dataset} when a share of the items lacks one modality. Trained with masks: the items "
            "lacked it in training already, took no part in its item graph and its alignment, and the key missing says what "
            "stood in. Trained on everything: the items lose it afterwards and get the mean of all items' features. Both lack "
            f"the same items. The runs are those of {seeds}.",
            f"Recall@{K} with items that lack a modality",
            f"{dataset}, test, {seeds}",
        )
    ]


def _entries(records: Sequence[Record], *metrics: str) -> list[Entry]:
    """The rows of a table; RunError where a run lacks a metric that is drawn."""
    check_computed(records, metrics)
    comparison = compare(records)
    return comparison.column(comparison.datasets[0])


def _directories(entries: Sequence[Entry]) -> list[Path]:
    runs = [record.source for entry in entries for record in entry.records]
    for run in runs:
        if not run.is_dir():
            raise RunError(
                f"{run} is a compact record, without lists and model; name the folder of the runs by {option('results')}"
            )
    return runs


def _by_row(frame: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """With the label of its row as each run's model: two rows may be of one model."""
    labels = {str(record.source): entry.label for entry in entries for record in entry.records}
    return frame.assign(model=frame["run"].map(labels))


def _with_ticks(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """With the range of each group as a text: '5' or '5–7'."""
    ranges = zip(table["fewest"], table["most"], strict=True)
    return table.assign(**{name: [f"{low}" if low == high else f"{low}–{high}" for low, high in ranges]})


def _seeds(entries: Sequence[Entry]) -> str:
    """Of which seeds the runs are: every model has the same."""
    return seeds_text(record.seed for record in entries[0].records)


def _about(seeds: str) -> str:
    several = "," in seeds
    return f"Each model has the settings that are best on validation. The runs are those of {seeds}. " + (
        "Every value is a mean over seeds. Error bars show one standard deviation."
        if several
        else "Small differences mean nothing."
    )
