"""Models side by side: each at its best grid point on validation, over seeds, with tests of one against the others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

import numpy as np

from mambarec.analysis.fairness import (
    BUDGET_KEYS,
    at_cap,
    budget,
    check_same_data,
    choose,
    common_seeds,
    once,
    point_texts,
    points_of,
    row_labels,
)
from mambarec.analysis.records import Record
from mambarec.analysis.significance import Paired, holm, paired
from mambarec.base.errors import RunError
from mambarec.base.words import listed, option, seeds_text

ALPHA = 0.05
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")  # of the paper's Table 2
TESTED = "recall@20"
REFERENCE = "MambaRec"


@dataclass(frozen=True)
class Entry:
    """One row on one data set: the runs of its chosen grid point, one a seed of the table, and what all its points cost.

    setting: what tells the chosen point from the others, '' where there is one. budget: epochs, stopping_step and the like.
    runs: every run that counts, those of the choice and those shown. at_cap: how many of `records` ended at their epochs.
    """

    label: str
    dataset: str
    records: list[Record]
    n_points: int
    n_trials: int
    n_epochs: int
    seconds: float
    model: str = ""
    setting: str = ""
    budget: dict[str, Any] = field(default_factory=dict)
    runs: list[Record] = field(default_factory=list)
    at_cap: int = 0

    def mean(self, metric: str) -> float:
        return mean(record.result["test"][metric] for record in self.records)

    def deviation(self, metric: str) -> float | None:
        """Standard deviation over seeds; None with one seed."""
        return stdev(record.result["test"][metric] for record in self.records) if len(self.records) > 1 else None

    @property
    def seeds(self) -> set[int]:
        return {record.seed for record in self.records}

    def per_user(self, metric: str) -> np.ndarray:
        """Test values (N,) of each user, averaged over seeds."""
        return np.mean([record.per_user[metric].astype(np.float64) for record in self.records], axis=0)


@dataclass(frozen=True)
class Versus:
    """The reference against one other row on one data set; the p-values adjusted for all such pairs of the table."""

    dataset: str
    label: str
    test: Paired
    wilcoxon_adjusted: float
    t_test_adjusted: float

    @property
    def is_significant(self) -> bool:
        """Whether both tests find a difference; ranks alone may differ where the means do not, and the other way round."""
        return self.wilcoxon_adjusted < ALPHA and self.t_test_adjusted < ALPHA

    @property
    def is_unclear(self) -> bool:
        """Whether one test finds a difference and the other does not."""
        return (self.wilcoxon_adjusted < ALPHA) != (self.t_test_adjusted < ALPHA)


@dataclass(frozen=True)
class Comparison:
    """Entries by (label, data set), labels and data sets in the order of the table, and the tests of the reference, if any.

    seeds: of each data set, those that all its rows are shown on. notes: sentences on what a reader must know besides.
    """

    entries: dict[tuple[str, str], Entry]
    labels: list[str]
    datasets: list[str]
    reference: str | None
    tests: list[Versus]
    by_test: bool
    seeds: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def column(self, dataset: str) -> list[Entry]:
        return [self.entries[label, dataset] for label in self.labels if (label, dataset) in self.entries]

    def peers(self, dataset: str) -> list[Entry]:
        """The rows with the budget of the reference, which alone are ranked and tested.

        Where the reference is missing: all rows if they have one budget, else none.
        """
        column = self.column(dataset)
        own = self.entries.get((self.reference or "", dataset))
        if own is None:
            return column if all(entry.budget == column[0].budget for entry in column) else []
        return [entry for entry in column if entry.budget == own.budget]

    def strongest_baseline(self, dataset: str, metric: str) -> Entry | None:
        baselines = [entry for entry in self.peers(dataset) if entry.label != self.reference]
        return max(baselines, key=lambda entry: entry.mean(metric), default=None)

    def gain(self, dataset: str, metric: str) -> float | None:
        """Relative gain of the reference over the strongest other row, 0.05 for 5%; None where one of them is missing."""
        own, best = self.entries.get((self.reference or "", dataset)), self.strongest_baseline(dataset, metric)
        return own.mean(metric) / best.mean(metric) - 1 if own and best and best.mean(metric) else None


def compare(
    records: Iterable[Record],
    reference: str | None = None,
    by_test: bool = False,
    split: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Make rows of runs by the rules of `analysis.fairness`, and test `reference` against the rows of its budget.

    reference: a row or its model; None: MambaRec, if it is there. by_test: choose on test, as MMRec does. split: keys whose
    values make rows of their own instead of grid points. notes: sentences that the table is to say too. RunError when runs
    of one data set are of different data or users, when rows or the points of a row share no seed, and when no row is
    called `reference`.
    """
    records = list(records)
    datasets = list(dict.fromkeys(record.dataset for record in records))
    for dataset in datasets:
        check_same_data([record for record in records if record.dataset == dataset])
    records, repeated = once(records)
    notes = [*notes, *repeated]
    names = row_labels(records, split)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record, name in zip(records, names, strict=True):
        groups.setdefault((name, record.dataset), []).append(record)
    models = list(dict.fromkeys(record.model for record in records))
    labels = sorted(dict.fromkeys(names), key=lambda label: (models.index(label.partition(" ")[0]), label))
    entries: dict[tuple[str, str], Entry] = {}
    seeds = {}
    for dataset in datasets:
        column = {label: groups[label, dataset] for label in labels if (label, dataset) in groups}
        found, seeds[dataset], said = _rows(dataset, column, by_test)
        entries |= found
        notes += said
    named = _reference(reference, labels)
    if named is not None:  # last, as in the paper's table
        labels.append(labels.pop(labels.index(named)))
    comparison = Comparison(entries, labels, datasets, named, [], by_test, seeds, notes)
    comparison.tests.extend(_tests(comparison))
    comparison.notes.extend(_about_tests(comparison))
    return comparison


def _rows(
    dataset: str, column: dict[str, list[Record]], by_test: bool
) -> tuple[dict[tuple[str, str], Entry], list[int], list[str]]:
    """The entries of a data set, their seeds, and what is to be said of the choice."""
    points = {label: points_of(records) for label, records in column.items()}
    choices = {label: choose(f"{label} on {dataset}", found, by_test) for label, found in points.items()}
    shown = {label: points[label][choice.key] for label, choice in choices.items()}
    seeds, notes = common_seeds(dataset, shown)
    entries = {}
    for label, choice in choices.items():
        texts = point_texts(points[label])
        runs = [
            record
            for key, point in points[label].items()
            for seed, record in point.items()
            if (seed in choice.seeds and len(points[label]) > 1) or (seed in seeds and key == choice.key)
        ]
        records = [shown[label][seed] for seed in seeds]
        entries[label, dataset] = Entry(
            label,
            dataset,
            records,
            n_points=len(points[label]),
            n_trials=len(runs),
            n_epochs=sum(record.result["epochs"] for record in runs),
            seconds=sum(record.result["seconds_total"] for record in runs),
            model=records[0].model,
            setting=texts[choice.key],
            budget=budget(records[0]),
            runs=runs,
            at_cap=sum(map(at_cap, records)),
        )
        others = {seed for point in points[label].values() for seed in point} - set(shown[label])
        if others:
            notes.append(
                f"{label} on {dataset}: its chosen setting, {texts[choice.key]}, has no run with {seeds_text(others)}, and "
                f"other settings have. The choice was made on {seeds_text(choice.seeds)}."
            )
        if unused := set(shown[label]) - set(choice.seeds):
            lacking = [texts[key] for key, point in points[label].items() if unused - set(point)]
            notes.append(
                f"{label} on {dataset}: the choice was made on {seeds_text(choice.seeds)}, since {listed(lacking)} "
                f"{'has' if len(lacking) == 1 else 'have'} no run with {seeds_text(unused)}."
            )
        if choice.level:
            notes.append(
                f"{label} on {dataset}: {listed([texts[choice.key], *choice.level])} are level on "
                f"{'test' if by_test else 'validation'} to four decimals. The first is shown."
            )
    return entries, seeds, notes


def _reference(name: str | None, labels: Sequence[str]) -> str | None:
    """The row that `name` stands for, or MambaRec as it is by default; RunError when a given name fits no row, or several."""
    wanted = (REFERENCE if name is None else name).lower()
    of_model = [label for label in labels if label.partition(" ")[0].lower() == wanted]
    plain = [label for label in of_model if all(word.split("=")[0] in BUDGET_KEYS for word in label.split(" ")[1:])]
    exact = [label for label in labels if label.lower() == wanted]
    fitting = next((some for some in (exact, plain, of_model) if some), [])
    if name is None:
        return plain[0] if len(plain) == 1 else exact[0] if exact else None
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        texts = ", ".join(f"'{label}'" for label in fitting)
        raise RunError(f"{option('reference', name)}: several rows are of this model. Name one of them: {texts}")
    raise RunError(f"{option('reference', name)}: no row is called so. Name one of: {', '.join(labels)}")


def _tests(comparison: Comparison) -> list[Versus]:
    """The reference against each row of its budget, where the metric that is tested was computed."""
    pairs = []
    for dataset in comparison.datasets:
        own = comparison.entries.get((comparison.reference or "", dataset))
        for other in comparison.peers(dataset):
            if own is None or other is own:
                continue
            if all(TESTED in record.per_user for record in [*own.records, *other.records]):
                pairs.append((dataset, other.label, paired(own.per_user(TESTED), other.per_user(TESTED))))
    wilcoxon, t_test = holm([test.wilcoxon for *_, test in pairs]), holm([test.t_test for *_, test in pairs])
    return [Versus(*pair, w, t) for pair, w, t in zip(pairs, wilcoxon, t_test, strict=True)]


def _about_tests(comparison: Comparison) -> list[str]:
    """Sentences on what was not tested, and how to have it tested."""
    if not any(len(comparison.column(dataset)) > 1 for dataset in comparison.datasets):
        return []
    if comparison.reference is None:
        reason = f"no row is {REFERENCE} as it is by default, or several are"
        if not any(label.partition(" ")[0] == REFERENCE for label in comparison.labels):
            reason = f"there is no row {REFERENCE}"
        names = ", ".join(f"'{label}'" if " " in label else label for label in comparison.labels)
        return [
            f"No difference was tested for significance, because {reason}. To test one row against the others, name it with "
            f"{option('reference')}: {names}."
        ]
    notes = [
        f"{test.label} on {test.dataset} has no star, because the two tests disagree: p is {test.wilcoxon_adjusted:.4f} in the "
        f"Wilcoxon test and {test.t_test_adjusted:.4f} in the t-test."
        for test in comparison.tests
        if test.is_unclear
    ]
    tested = {(test.dataset, test.label) for test in comparison.tests}
    for dataset in comparison.datasets:
        own = comparison.entries.get((comparison.reference, dataset))
        if own is None:
            notes.append(f"No difference on {dataset} was tested, because {comparison.reference} has no run there.")
            continue
        others = [entry for entry in comparison.column(dataset) if entry is not own]
        foreign = [entry.label for entry in others if entry.budget != own.budget]
        if foreign:
            notes.append(
                f"{listed(foreign)} had another budget than {own.label}: no test, no rank and no gain on {dataset} counts "
                f"{'them' if len(foreign) > 1 else 'it'}."
            )
        if any((dataset, entry.label) not in tested and entry.budget == own.budget for entry in others):
            notes.append(f"No difference on {dataset} was tested, because the runs did not compute {TESTED}.")
    return notes
