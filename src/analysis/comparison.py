"""Models side by side: each at its best grid point on validation, over seeds, with tests of one against the others."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np

from analysis.records import Record
from analysis.significance import Paired, holm, paired
from utils.errors import ConfigError, RunError

ALPHA = 0.05
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")  # of the paper's Table 2
TESTED = "recall@20"
REFERENCE = "MambaRec"


@dataclass(frozen=True)
class Entry:
    """One model on one data set: the runs of its chosen grid point, one a seed, and what all its points cost."""

    label: str
    dataset: str
    records: list[Record]
    n_points: int
    n_trials: int
    n_incomplete: int  # points left out of the choice for want of a seed
    n_epochs: int
    seconds: float

    def mean(self, metric: str) -> float:
        return mean(record.result["test"][metric] for record in self.records)

    def deviation(self, metric: str) -> float | None:
        """Standard deviation over seeds; None with one seed."""
        return stdev(record.result["test"][metric] for record in self.records) if len(self.records) > 1 else None

    @property
    def seeds(self) -> set[int]:
        return {record.seed for record in self.records}

    def per_user(self, metric: str, seeds: set[int]) -> np.ndarray:
        """Test values (N,) of each user, averaged over these of its seeds."""
        values = [record.per_user[metric].astype(np.float64) for record in self.records if record.seed in seeds]
        return np.mean(values, axis=0)


@dataclass(frozen=True)
class Versus:
    """The reference against one other model on one data set; the p-values adjusted for all such pairs of the table."""

    dataset: str
    label: str
    test: Paired
    wilcoxon_adjusted: float
    t_test_adjusted: float

    @property
    def is_significant(self) -> bool:
        return self.wilcoxon_adjusted < ALPHA


@dataclass(frozen=True)
class Comparison:
    """Entries by (label, data set), labels and data sets in the order of the table, and the tests of the reference, if any."""

    entries: dict[tuple[str, str], Entry]
    labels: list[str]
    datasets: list[str]
    reference: str | None
    tests: list[Versus]
    by_test: bool

    def column(self, dataset: str) -> list[Entry]:
        return [self.entries[label, dataset] for label in self.labels if (label, dataset) in self.entries]

    def strongest_baseline(self, dataset: str, metric: str) -> Entry | None:
        baselines = [entry for entry in self.column(dataset) if entry.label != self.reference]
        return max(baselines, key=lambda entry: entry.mean(metric), default=None)

    def gain(self, dataset: str, metric: str) -> float | None:
        """Relative gain of the reference over the strongest other model, 0.05 for 5%; None where one of them is missing."""
        own, best = self.entries.get((self.reference or "", dataset)), self.strongest_baseline(dataset, metric)
        return own.mean(metric) / best.mean(metric) - 1 if own and best and best.mean(metric) else None


def compare(
    records: Iterable[Record], reference: str | None = None, by_test: bool = False, split: Sequence[str] = ()
) -> Comparison:
    """Choose each model's grid point and test `reference` against every other model; None: MambaRec, if it is there.

    A point is chosen by the mean of its validation metric over the seeds, among the points that have all seeds of the model;
    with by_test by its test metric, which only serves to see what MMRec would report. split: keys whose values make rows of
    their own, such as 'variant', instead of grid points. RunError when runs of one data set are of different data or users,
    and when no row is called `reference`.
    """
    records = list(records)
    names = _labels(records, split)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record, name in zip(records, names, strict=True):
        groups.setdefault((name, record.dataset), []).append(record)
    entries = {key: _entry(key[0], group, by_test) for key, group in groups.items()}
    labels, datasets = list(dict.fromkeys(names)), list(dict.fromkeys(record.dataset for record in records))
    for dataset in datasets:
        check_same_data([record for entry in entries.values() if entry.dataset == dataset for record in entry.records])
    if reference is not None and reference not in labels:
        raise RunError(
            f"no row is called '{reference}', which the others were to be tested against; there are: {', '.join(labels)}"
        )
    reference = REFERENCE if reference is None else reference
    if reference in labels:  # last, as in the paper's table
        labels.append(labels.pop(labels.index(reference)))
    tests = _tests(entries, labels, datasets, reference)
    return Comparison(entries, labels, datasets, reference if reference in labels else None, tests, by_test)


def _labels(records: Sequence[Record], split: Sequence[str]) -> list[str]:
    unknown = [key for key in split if not any(key in record.config for record in records)]
    if unknown:
        raise ConfigError(f"none of the runs has a key '{unknown[0]}'")
    varied = {
        record.model: [
            key for key in split if len({str(one.config.get(key)) for one in records if one.model == record.model}) > 1
        ]
        for record in records
    }
    return [
        " ".join([record.model, *(f"{key}={record.config.get(key)}" for key in varied[record.model])]) for record in records
    ]


def _entry(label: str, records: Sequence[Record], by_test: bool) -> Entry:
    points: dict[str, dict[int, Record]] = {}
    for record in records:  # a run from a directory and from a file, or from two machines, counts once
        points.setdefault(json.dumps(record.settings(), sort_keys=True), {})[record.seed] = record
    n_seeds = max(map(len, points.values()))
    complete = [list(point.values()) for point in points.values() if len(point) == n_seeds]
    part = "test" if by_test else "valid"
    chosen = max(complete, key=lambda point: mean(record.result[part][record.valid_metric] for record in point))
    runs = [record for point in points.values() for record in point.values()]
    return Entry(
        label,
        records[0].dataset,
        sorted(chosen, key=lambda record: record.seed),
        n_points=len(points),
        n_trials=len(runs),
        n_incomplete=len(points) - len(complete),
        n_epochs=sum(record.result["epochs"] for record in runs),
        seconds=sum(record.result["seconds_total"] for record in runs),
    )


def check_same_data(records: Sequence[Record]) -> None:
    """RunError unless runs were made and tested on one data set; they may read different files of it."""
    seen: dict[str, tuple[str, Record]] = {}
    for record in records:
        for name, digest in record.environment.get("data_files", {}).items():
            other_digest, other = seen.setdefault(name, (digest, record))
            if digest != other_digest:
                raise RunError(f"{record.source} and {other.source} were made on different data: {name} is not the same file")
        if not np.array_equal(record.users, records[0].users):
            raise RunError(
                f"{record.source} and {records[0].source} were tested on different users; compare runs of one data set"
            )


def _tests(
    entries: dict[tuple[str, str], Entry], labels: Sequence[str], datasets: Sequence[str], reference: str
) -> list[Versus]:
    def test(one: Entry, other: Entry) -> Paired:
        """Over the seeds that both have: a mean over more seeds is distributed otherwise, which ranks would show."""
        shared = one.seeds & other.seeds
        return paired(one.per_user(TESTED, shared or one.seeds), other.per_user(TESTED, shared or other.seeds))

    pairs = [
        (dataset, label, test(entries[reference, dataset], entries[label, dataset]))
        for dataset in datasets
        for label in labels
        if label != reference and (reference, dataset) in entries and (label, dataset) in entries
    ]
    wilcoxon, t_test = holm([test.wilcoxon for *_, test in pairs]), holm([test.t_test for *_, test in pairs])
    return [Versus(*pair, w, t) for pair, w, t in zip(pairs, wilcoxon, t_test, strict=True)]
