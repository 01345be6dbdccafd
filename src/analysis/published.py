"""Published figures beside those of runs: what holds, what does not, and which known difference may explain it.

published.csv holds the published figures, one a line: data set, split, model, the setting that makes the row where a paper has
several, metric, value, source, and the split on which the source chose its settings.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.comparison import TESTED, Comparison, Entry
from analysis.figures import metric_name
from analysis.records import Record
from analysis.tables import Cell, Table, mean_and_deviation
from utils.errors import ConfigError
from utils.words import count

FILE = Path(__file__).with_name("published.csv")
FAR = 0.05  # a ratio further from 1 than this is marked


@dataclass(frozen=True)
class Split:
    """How runs on a published split are known: its number of test users, and the widths of the features that were published."""

    test_users: int
    widths: dict[str, int]


AMAZON = {"visual": 4096, "text": 384}
SPLITS = {
    ("baby", "MMRec"): Split(19_445, AMAZON),
    ("sports", "MMRec"): Split(35_598, AMAZON),
    ("clothing", "MMRec"): Split(39_387, AMAZON),
}


@dataclass(frozen=True)
class Figure:
    """One published figure. setting: '' or 'key=value', which the runs beside it must have. selected_on: 'test' or 'valid'."""

    dataset: str
    split: str
    model: str
    setting: str
    metric: str
    value: float
    source: str
    selected_on: str

    def is_of(self, entry: Entry) -> bool:
        """Whether an entry's runs are of this model with this setting."""
        config = entry.records[0].config
        key, _, value = self.setting.partition("=")
        return entry.records[0].model == self.model and (not key or str(config.get(key)) == value)


def published_figures(path: Path = FILE) -> list[Figure]:
    """All figures of a file like published.csv, in its order; ConfigError for a line that cannot be used."""
    figures = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                value = float(row.pop("value"))
                figures.append(Figure(value=value, **row))
            except (KeyError, TypeError, ValueError):
                raise ConfigError(f"{path}, line {number}: expected {', '.join(Figure.__annotations__)}") from None
    return figures


# Differences that may explain a distance: a letter, and what the caption says of it.
_TEXTS = {
    "c": "one of our runs ended at its cap of epochs, so it may not have finished learning",
    "f": "the features are not the original ones: their widths differ from the published ones",
    "o": "the source searched its settings on this data set, ours is one setting that was not searched there",
    "s": "the data of our runs is not the published split: the number of test users differs",
    "t": "the source chose its setting on the test split, or does not say on which",
}


def _differences(figure: Figure, entry: Entry) -> str:
    """Letters of _TEXTS that hold for a published figure and the runs beside it."""
    records, split = entry.records, SPLITS.get((figure.dataset, figure.split))
    widths = records[0].environment.get("feature_widths") or {}
    found = {
        "c": any(_at_cap(record) for record in records),
        "f": bool(split and widths and any(split.widths.get(name, width) != width for name, width in widths.items())),
        "o": entry.n_points == 1,
        "s": bool(split and len(records[0].users) != split.test_users),
        "t": figure.selected_on != "valid",
    }
    return "".join(letter for letter, holds in found.items() if holds)


def _at_cap(record: Record) -> bool:
    return record.result["epochs"] >= record.config["epochs"] and record.config.get("req_training", True)


def published_table(
    comparison: Comparison, dataset: str, metrics: Sequence[str] = (TESTED,), figures: Iterable[Figure] | None = None
) -> Table:
    """A row per published figure of a data set and per row of the comparison that it belongs to.

    Ratio: mean over seeds divided by the published value; bold where it is further from 1 than 5%. Distance: the difference in
    standard deviations over seeds. Models without runs have dashes. ConfigError when nothing is published for the data set.
    """
    everything = published_figures() if figures is None else list(figures)
    wanted = [one for one in everything if one.dataset == dataset and one.metric in metrics]
    if not wanted:
        known = sorted({one.dataset for one in everything})
        raise ConfigError(
            f"nothing is published of {', '.join(metrics)} on '{dataset}'; there are figures for {', '.join(known)}"
        )
    order = list(dict.fromkeys(one.model for one in wanted))
    column = comparison.column(dataset)
    pairs: list[tuple[Figure, Entry | None]] = []
    for figure in sorted(wanted, key=lambda one: order.index(one.model)):
        entries = [entry for entry in column if figure.is_of(entry)]
        pairs += [(figure, entry) for entry in entries] or [(figure, None)]
    letters = {letter for figure, entry in pairs if entry for letter in _far_letters(figure, entry)}
    rows = [_row(figure, entry) for figure, entry in pairs]
    columns = ["Model", "Source", "Metric", "Published", "Ours", "Ratio", "Distance", "Known differences"]
    return Table(f"Published figures and ours, {dataset}, test", columns, rows, _caption(column, letters))


def _far_letters(figure: Figure, entry: Entry) -> str:
    return _differences(figure, entry) if _is_far(entry.mean(figure.metric) / figure.value) else ""


def _is_far(ratio: float) -> bool:
    return abs(ratio - 1) > FAR


def _row(figure: Figure, entry: Entry | None) -> list[Cell]:
    """A published figure, beside the runs that it belongs to if there are any."""
    head = [figure.source, metric_name(figure.metric), f"{figure.value:.4f}"]
    if entry is None:
        texts = [f"{figure.model} {figure.setting}".strip(), *head, "–", "–", "–", "not run"]
        return [Cell(text) for text in texts]
    own, deviation = entry.mean(figure.metric), entry.deviation(figure.metric)
    ratio = own / figure.value
    distance = f"{(own - figure.value) / deviation:+.1f}" if deviation else "–"
    texts = [entry.label, *head, mean_and_deviation(entry, figure.metric)]
    return [
        *map(Cell, texts),
        Cell(f"{ratio:.3f}", bold=_is_far(ratio)),
        Cell(distance),
        Cell(_far_letters(figure, entry) or "–"),
    ]


def _caption(column: Sequence[Entry], letters: set[str]) -> str:
    seeds = sorted({len(entry.seeds) for entry in column})
    parts = []
    if column:
        n = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        parts = [f"Ours: mean ± standard deviation over {n}. Each setting was chosen on the validation split."]
    parts.append("Ratio: ours divided by the published figure; bold where the two differ by more than 5%.")
    parts.append("Distance: ours minus the published figure, in standard deviations over our seeds.")
    if letters:
        texts = "; ".join(f"{letter}: {_TEXTS[letter]}" for letter in sorted(letters))
        parts.append(f"Differences that may explain a bold ratio: {texts}.")
    return " ".join(parts)
