"""Beyond one average, as pictures: users by activity, items by popularity, coverage and Gini, and missing modalities.

Each model is shown at its best grid point on validation. The figures read what the runs' directories hold, so compact records
are not enough.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.breakdown import by_item_popularity, by_user_activity, coverage
from analysis.comparison import Entry, compare
from analysis.figures import Axis, Panel, Picture, bars, lines, metric_name
from analysis.missing import missing_modality
from analysis.records import Record
from utils.errors import RunError
from utils.logger import get_logger

K = 20
RECALL = f"recall@{K}"


def breakdown_pictures(records: Sequence[Record]) -> list[Picture]:
    """Recall@20 by user activity and by item popularity, and coverage and Gini, of the models run on one data set."""
    entries = _entries(records)
    runs, about = _directories(entries), _about(entries)
    activity = _over_seeds(_by_row(by_user_activity(runs), entries), ["group", "users", "fewest", "most"], [RECALL, "ndcg@20"])
    popularity = _over_seeds(
        _by_row(by_item_popularity(runs, K), entries), ["group", "items", "fewest", "most", "pairs"], [RECALL, "share_of_lists"]
    )
    shown = _over_seeds(_by_row(coverage(runs, K), entries), ["items"], [f"coverage@{K}", f"gini@{K}"])
    panel = [Panel(metric_name(RECALL), {RECALL: ""}, from_zero=True)]
    share = Panel(f"share of the\nlists of {K}", {"share_of_lists": ""}, from_zero=True)
    users_axis = Axis("group", "training pairs of a user (quintiles)", ticks="pairs of a user")
    items_axis = Axis("group", "training pairs of an item (quintiles)", ticks="pairs of an item")
    dataset = entries[0].dataset
    return [
        Picture(
            "breakdown-activity",
            lines(_with_ticks(activity, "pairs of a user"), users_axis, panel, by="model"),
            activity,
            f"Test metrics by the number of training pairs of the user, {dataset}. Users with equally many share a group, so "
            f"groups differ in size. {about}",
        ),
        Picture(
            "breakdown-popularity",
            lines(_with_ticks(popularity, "pairs of an item"), items_axis, [*panel, share], by="model"),
            popularity,
            f"Test Recall@{K} of the relevant pairs whose item is in the group, and the group's share of all places in lists, "
            f"by the number of training pairs of the item, {dataset}. Items without one are a group of their own. {about}",
        ),
        Picture(
            "breakdown-coverage",
            bars(shown, [f"coverage@{K}", f"gini@{K}"], names="model"),
            shown,
            f"Share of the items that are in at least one list of {K} (coverage), and the Gini coefficient of how often items "
            f"are in one (0: all equally, towards 1: few take all), {dataset}. {about}",
        ),
    ]


def missing_pictures(records: Sequence[Record]) -> list[Picture]:
    """Recall@20 as 0, 25, 50, 75, 100% of the items lose a modality, of the models run on one data set."""
    entries = _entries(records)
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
    table = _over_seeds(wide.sort_values(["model", "share"]), ["share", "items"], columns)
    table["percent"] = 100 * table["share"]
    panels = [
        Panel(f"{metric_name(RECALL)}\nwithout {modality}", {column: ""})
        for modality, column in zip(modalities, columns, strict=True)
    ]
    about = (
        f"Test Recall@{K}, {entries[0].dataset}, as a share of the items, the same for all models, has the mean of all items' "
        f"features in place of its own; the models as they were saved, not trained again. One that does not read a modality "
        f"stays what it was. {_about(entries)}"
    )
    return [
        Picture("missing", lines(table, Axis("percent", "items without the modality (%)"), panels, by="model"), table, about)
    ]


def _entries(records: Sequence[Record]) -> list[Entry]:
    comparison = compare(records)
    return comparison.column(comparison.datasets[0])


def _directories(entries: Sequence[Entry]) -> list[Path]:
    runs = [record.source for entry in entries for record in entry.records]
    for run in runs:
        if not run.is_dir():
            raise RunError(f"{run} is a compact record, without lists and model; name the folder of the runs with --results")
    return runs


def _by_row(frame: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """With the label of its row as each run's model: two rows may be of one model."""
    labels = {str(record.source): entry.label for entry in entries for record in entry.records}
    return frame.assign(model=frame["run"].map(labels))


def _over_seeds(frame: pd.DataFrame, keys: Sequence[str], quantities: Sequence[str]) -> pd.DataFrame:
    """A row per model and values of `keys`: means over seeds, and standard deviations as <quantity>_std."""
    grouped = frame.groupby(["model", *keys], sort=False, observed=True)
    table = grouped[list(quantities)].mean()
    deviations = grouped[list(quantities)].std().add_suffix("_std")
    both = pd.concat([table, deviations], axis=1)[[name for each in quantities for name in (each, f"{each}_std")]]
    return both.join(grouped.size().rename("seeds")).reset_index()


def _with_ticks(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """With the range of each group as a text: '5' or '5–7'."""
    ranges = zip(table["fewest"], table["most"], strict=True)
    return table.assign(**{name: [f"{low}" if low == high else f"{low}–{high}" for low, high in ranges]})


def _about(entries: Sequence[Entry]) -> str:
    """How runs were chosen, and of which seeds, of each model where these differ."""
    seeds = {entry.label: [record.seed for record in entry.records] for entry in entries}
    texts = {label: f"seed{'s' * (len(some) > 1)} {', '.join(map(str, some))}" for label, some in seeds.items()}
    shared = set(texts.values())
    which = shared.pop() if len(shared) == 1 else "; ".join(f"{label} {text}" for label, text in texts.items())
    several = any(len(some) > 1 for some in seeds.values())
    return f"Each model at its best grid point on validation, {which}" + (
        "; means, and error bars of one standard deviation." if several else ": small differences mean nothing."
    )
