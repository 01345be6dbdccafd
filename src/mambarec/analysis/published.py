"""Published figures beside those of runs: what holds, what does not, and which known difference may explain it.

published.csv holds the published figures, one a line: data set, split, model, the setting that makes the row where a source has
several, metric, value, source, the split on which the source chose its settings, and the layers that it names.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambarec.analysis.comparison import TESTED, Comparison, Entry, compare
from mambarec.analysis.fairness import at_cap, check_same_data, identity, once, row_labels
from mambarec.analysis.figures import metric_name
from mambarec.analysis.records import Record
from mambarec.analysis.tables import (
    Cell,
    Table,
    budget_sentences,
    mean_and_deviation,
    points_sentence,
    tuned_sentences,
    unusual_sentences,
)
from mambarec.base.bounded import first_line
from mambarec.base.errors import ConfigError, RunError
from mambarec.base.words import count, listed, value_text
from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.config.yaml_files import parse_value
from mambarec.experiments.grid import plan
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import find_runs, say_damaged

FILE = Path(__file__).with_name("published.csv")
REASONS = "reasons.csv"  # in a folder of records: why a model was not run
FAR = 0.05  # a ratio further from 1 than this is marked
FEWEST_SEEDS = 3  # of which a distance is measured in deviations: two may agree by chance
# What leaves a part of a model out, or trains it otherwise. A figure that does not name such a key is of the whole model.
_PARTS = ("modalities", "missing_modality", "missing_share", "mg", "use_local_alignment", "use_global_alignment")
_NOT_RUN = "not run"


@dataclass(frozen=True)
class Split:
    """How runs on a published split are known: its number of test users, and the widths of the features that were published."""

    test_users: int
    widths: dict[str, int]


AMAZON = {"visual": 4096, "text": 384}
PUBLISHED_SPLITS = {
    ("baby", "MMRec"): Split(19_445, AMAZON),
    ("sports", "MMRec"): Split(35_598, AMAZON),
    ("clothing", "MMRec"): Split(39_387, AMAZON),
}
# SHA-256 of the feature files that were made from the published graphs of nearest neighbours, of Baby and of Sports.
FROM_GRAPHS = frozenset(
    {
        "91a34006ec68bf2ef5f14ad837c50640976e209bc91d6ac0afc3bf44e6544f36",
        "04c668d65d23351ec197df271d4b200b105dc09ac1168bc502d7f0ad73e4df1d",
        "e3f71a15a55702646a4d702cb7bad31f1ed143b09d450ca0e51e1dd744c63d10",
        "103340c44d6647d371edb7d4dd2e1f305945f03fa254ef1609335c87c05f47f2",
    }
)


@dataclass(frozen=True)
class Figure:
    """One published figure.

    setting: '' or 'key=value', which the runs beside it must have. selected_on: 'test' or 'valid'. layers: '' or the numbers of
    layers that the source names, 'n_ui_layers=4 n_layers=1'.
    """

    dataset: str
    split: str
    model: str
    setting: str
    metric: str
    value: float
    source: str
    selected_on: str
    layers: str = ""

    @property
    def row(self) -> tuple[str, str]:
        return self.model, self.setting

    def is_of(self, record: Record) -> bool:
        """Whether a run is of this model with this setting, and whole but for it."""
        key, _, value = self.setting.partition("=")
        kind, defaults = identity(record), record.defaults()
        whole = all(kind.get(part, defaults[part]) == defaults[part] for part in _PARTS if part in defaults and part != key)
        return record.model == self.model and whole and (not key or value_text(record.settings().get(key)) == value)

    def asks_for(self, config: Mapping[str, Any]) -> bool:
        """Whether a run with these settings is one that the figure stands beside."""
        key, _, value = self.setting.partition("=")
        whole = key == "modalities" or config.get("modalities") in (None, ["all"])
        return config["model"] == self.model and whole and (not key or value_text(config.get(key)) == value)


def published_figures(path: Path = FILE) -> list[Figure]:
    """All figures of a file like published.csv, in its order; ConfigError for a line that cannot be used."""
    rows = _rows(path, Figure.__annotations__, "value")
    return [Figure(value=value, **{key: text for key, text in row.items() if key != "value"}) for row, value in rows]


def known_figures(dataset: str, metrics: Sequence[str] = (TESTED,), models: Sequence[str] = ()) -> list[Figure]:
    """What is published of a data set, of these metrics and models (() for all); ConfigError when that is nothing."""
    everything = published_figures()
    names = {model.lower() for model in models}
    found = [one for one in everything if one.dataset == dataset.lower() and one.metric in metrics]
    found = [one for one in found if not names or one.model.lower() in names]
    if not found:
        known = sorted({one.dataset for one in everything})
        of = f" of {', '.join(models)}" if models else ""
        raise ConfigError(
            f"published.csv has no {', '.join(metrics)}{of} on '{dataset}'; it has figures for the data sets {', '.join(known)}"
        )
    return found


def without_figure(figures: Sequence[Figure], metrics: Sequence[str], models: Sequence[str]) -> list[str]:
    """A sentence on the metrics and models that were asked for and of which `figures` has none."""
    known = {one.metric for one in figures} | {one.model.lower() for one in figures}
    missing = [name for name in (*metrics, *models) if name.lower() not in known]
    return [f"published.csv has no such figure of {listed(missing)}."] if missing else []


def _rows(path: Path, columns: Iterable[str], number: str | None = None) -> list[tuple[dict[str, str], float]]:
    """The lines of a CSV file with these columns, and the value of the one that is a number; ConfigError for another file."""
    names, found = list(columns), []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(lines, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no CSV file in UTF-8: {error}") from None
    for line, row in enumerate(rows, 2):
        try:
            value = float(row[number]) if number else 0.0
        except (KeyError, TypeError, ValueError):
            value = math.nan
        if math.isnan(value) or set(row) != set(names) or None in row.values():
            raise ConfigError(f"{path}, line {line}: expected {', '.join(names)}")
        found.append((row, value))
    return found


# which runs stand beside a figure


@dataclass(frozen=True)
class Unshown:
    """A row of runs that gives no figure, one of its runs, and why."""

    label: str
    record: Record
    reason: str


def rows_alone(records: Sequence[Record], dataset: str, figures: Sequence[Figure]) -> tuple[Comparison, list[Unshown]]:
    """The rows that runs of a data set make by the rules of a fair table, and those that cannot be shown.

    A row is compared with published figures, not with the other rows. So each is shown on all the seeds that it has.
    """
    keys = {one.setting.partition("=")[0] for one in figures if one.setting}
    varied = [key for key in sorted(keys) if any(key in record.config and key not in identity(record) for record in records)]
    check_same_data(records)
    records, notes = once(records)
    groups: dict[str, list[Record]] = {}
    for record, label in zip(records, row_labels(records, varied), strict=True):
        groups.setdefault(label, []).append(record)
    entries, unshown = {}, []
    for label, group in groups.items():
        try:
            found = compare(group, split=[key for key in varied if any(key in record.config for record in group)])
        except RunError as error:
            unshown.append(Unshown(label, group[0], first_line(error).rstrip(":")))
            continue
        (entry,) = found.entries.values()
        notes += found.notes
        if capped := [record for record in entry.records if at_cap(record)]:
            reason = f"{len(capped)} of {count(len(entry.records), 'run')} ended at the cap of {entry.budget['epochs']} epochs"
            unshown.append(Unshown(label, entry.records[0], reason))
        else:
            entries[label, dataset] = entry
    seeds = sorted({seed for entry in entries.values() for seed in entry.seeds})
    return Comparison(entries, [label for label, _ in entries], [dataset], None, [], False, {dataset: seeds}, notes), unshown


def missing_reasons(places: Sequence[Path], dataset: str, figures: Sequence[Figure]) -> dict[tuple[str, str], str]:
    """Why figures have no run beside them, as far as it is known, by model and setting.

    A folder says it in reasons.csv, with the columns dataset, model, setting and reason; else a run that has begun says it.
    """
    found: dict[tuple[str, str], str] = {}
    for run in find_runs([place for place in places if place.is_dir()], datasets=[dataset], damaged=say_damaged):
        if run.result is None:
            done = RunDirectory(run.path).n_epochs()
            for figure in figures:
                if figure.asks_for(run.config):
                    found[figure.row] = f"{run.state()} after {done} of at most {run.config['epochs']} epochs"
    for place in places:
        if (place / REASONS).is_file():
            for row, _ in _rows(place / REASONS, ("dataset", "model", "setting", "reason")):
                if row["dataset"] == dataset:
                    found[row["model"], row["setting"]] = row["reason"]
    return found


def trials(dataset: str, figures: Iterable[Figure], given: Mapping[str, Any]) -> list[Config]:
    """The runs that the published figures of a data set ask for, with what the user set beside it."""
    rows = list(dict.fromkeys(one.row for one in figures if one.model in available_models()))
    plain = [model for model, setting in rows if not setting]
    configs = plan(plain, [dataset], given) if plain else []
    for model, setting in rows:
        if setting:
            key, _, value = setting.partition("=")
            defaults = Config(model, dataset)
            known = {name: one for name, one in given.items() if not plain or defaults.knows(name)}
            configs += plan([model], [dataset], {**known, key: parse_value(value)})
    return configs


def published_here(records: Sequence[Record], dataset: str) -> Table | None:
    """The table of the models that have runs; None where nothing is published of them on this data set."""
    models = {record.model for record in records}
    figures = [one for one in published_figures() if one.dataset == dataset and one.metric == TESTED and one.model in models]
    figures = [one for one in figures if not one.setting or any(map(one.is_of, records))]
    return published_table(records, dataset, figures) if figures else None


# what may explain a distance

_LEGEND = {
    "split": "the number of test users differs from that of the published split",
    "graph features": "the features come from the published graphs and are not the original vectors",
    "other features": "our features are not the original ones, for their widths differ",
    "other sources": "the sources disagree, and ours is within 5% of another one",
    "layers": "the source names other numbers of layers",
    "one setting": "the source searched its settings on this data set, and the table has one setting of ours",
    "test selection": "the source chose its settings on the test split, or does not say on which",
}


def _features(record: Record, widths: Mapping[str, int]) -> str:
    """'' where a run reads the published features or none, else which word of _LEGEND says what it reads."""
    read = record.environment.get("feature_widths") or {}
    if all(widths.get(name, width) == width for name, width in read.items()):
        return ""
    interactions = record.config.get("inter_file_name")
    digests = [digest for name, digest in record.environment.get("data_files", {}).items() if name != interactions]
    return "graph features" if digests and FROM_GRAPHS.issuperset(digests) else "other features"


def _explanations(figure: Figure, entry: Entry, figures: Sequence[Figure]) -> list[str]:
    """Words of _LEGEND that may explain how far an entry is from a figure."""
    record, split = entry.records[0], PUBLISHED_SPLITS.get((figure.dataset, figure.split))
    is_lower = entry.mean(figure.metric) < figure.value
    features = _features(record, split.widths) if split else ""
    layers = [word.split("=") for word in figure.layers.split()]
    found = {
        "split": bool(split and len(record.users) != split.test_users),
        features: bool(features),
        "other sources": any(
            one.row == figure.row and one.metric == figure.metric and not _is_far(entry, one) for one in figures
        ),
        "layers": any(value_text(record.settings().get(key)) != value for key, value in layers),
        "one setting": is_lower and entry.n_points == 1 and not record.tuned(),
        "test selection": is_lower and figure.selected_on != "valid",
    }
    return [word for word, holds in found.items() if holds]


# the table


def published_table(
    records: Sequence[Record],
    dataset: str,
    figures: Sequence[Figure],
    reasons: Mapping[tuple[str, str], str] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """A line per published figure and per row of runs that it belongs to, those of a model together.

    Ratio: mean over seeds divided by the published value, bold where it is further from 1 than 5%. Distance: the difference in
    standard deviations over FEWEST_SEEDS seeds or more. A figure without runs has dashes and a reason. reasons: by model and
    setting.
    """
    check_same_data(records)
    models = {one.model for one in figures}
    records = [record for record in records if record.model in models]
    found, unshown = rows_alone(records, dataset, figures) if records else (Comparison({}, [], [dataset], None, [], False), [])
    lines, several = [], len({one.metric for one in figures}) > 1
    explained: dict[str, None] = {}
    order = list(dict.fromkeys(one.model for one in figures))
    for figure in sorted(figures, key=lambda one: order.index(one.model)):
        head = [figure.source, *[metric_name(figure.metric)] * several, f"{figure.value:.4f}"]
        entries = [one for one in found.column(dataset) if figure.is_of(one.records[0]) and _computed(one, figure.metric)]
        for entry in entries:
            words = _explanations(figure, entry, figures) if _is_far(entry, figure) else []
            explained |= dict.fromkeys(words)
            lines.append(_line(figure, entry, head, words))
        if not entries:
            said = [(one.label, one.reason) for one in unshown if figure.is_of(one.record)]
            name, reason = f"{figure.model} {figure.setting}".strip(), (reasons or {}).get(figure.row, _NOT_RUN)
            if any(figure.is_of(one.records[0]) for one in found.column(dataset)):
                reason = f"our runs did not compute {metric_name(figure.metric)}"
            lines += [[Cell(text) for text in [label, *head, *"––––", why]] for label, why in said or [(name, reason)]]
    columns = ["Model", "Source", *["Metric"] * several, "Published", "Ours", "Seeds", "Ratio", "Distance", "Note"]
    what = "figures" if several else metric_name(figures[0].metric)
    remarks = _notes(found, [word for word in _LEGEND if word in explained], figures, notes)
    return Table(f"Published {what} and ours, {dataset}, test", columns, lines, remarks)


def _computed(entry: Entry, metric: str) -> bool:
    return all(metric in record.result["test"] for record in entry.records)


def _is_far(entry: Entry, figure: Figure) -> bool:
    return abs(entry.mean(figure.metric) / figure.value - 1) > FAR


def _line(figure: Figure, entry: Entry, head: list[str], words: list[str]) -> list[Cell]:
    own = entry.mean(figure.metric)
    deviation = entry.deviation(figure.metric) if len(entry.seeds) >= FEWEST_SEEDS else 0.0
    far = _is_far(entry, figure)
    note = f"beyond 5%: {', '.join(words) or 'no known difference explains it'}" if far else "within 5%"
    return [
        *map(Cell, [entry.label, *head, mean_and_deviation(entry, figure.metric), ", ".join(map(str, sorted(entry.seeds)))]),
        Cell(f"{own / figure.value:.3f}", bold=far),
        Cell(f"{(own - figure.value) / deviation:+.1f}" if deviation else "–"),
        Cell(note),
    ]


def _notes(found: Comparison, explained: Sequence[str], figures: Sequence[Figure], notes: Sequence[str]) -> list[str]:
    parts = []
    (dataset,) = found.datasets
    if found.entries:
        parts = [
            "Ours: the test figure at the best epoch on validation, mean ± standard deviation over the seeds of the row.",
            "A row has all seeds that there are of it, because it is compared with published figures, not with other rows.",
            points_sentence(found),
            *tuned_sentences(found),
            *unusual_sentences(found),
            *budget_sentences(found),
            "Every run stopped early.",
        ]
        split = PUBLISHED_SPLITS.get((dataset, figures[0].split))
        read = {_features(entry.records[0], split.widths) for entry in found.entries.values()} if split else set()
        if "graph features" in read:
            parts.append(
                "Features from the published graphs: the item graphs are those of the original features, but the raw vectors "
                "are not."
            )
        if "other features" in read:
            parts.append("The features are not the original ones: their widths differ.")
    parts += [
        "Ratio: ours divided by the published figure, bold where the two differ by more than 5%.",
        "Distance: ours minus the published figure, in standard deviations over our seeds. With fewer than three seeds there "
        "is a dash. With three seeds the standard deviation is only a rough estimate.",
    ]
    chosen = {figure.selected_on for figure in figures}
    if chosen == {"test"}:
        parts.append("All sources chose their settings on the test split, or do not say on which.")
    if explained:
        parts.append("The notes name what may explain more than 5%.")
        parts += [f"{word.capitalize()}: {_LEGEND[word]}." for word in explained]
    return [*parts, *found.notes, *notes]
