"""The models of a comparison on one data set as bars, with their deviation over seeds."""

from collections.abc import Iterable, Sequence

import pandas as pd

from mambarec.analysis.comparison import Entry
from mambarec.analysis.figures import Picture, bars, metric_name
from mambarec.base.words import seeds_text


def model_bars(entries: Sequence[Entry], metric: str, seeds: Iterable[int]) -> Picture:
    """A bar for each row: its mean of a test metric over the seeds. metric: 'recall@20', which all rows have."""
    table = pd.DataFrame(
        {
            "model": [entry.label for entry in entries],
            metric: [entry.mean(metric) for entry in entries],
            f"{metric}_std": pd.Series([entry.deviation(metric) for entry in entries], dtype=float),
        }
    )
    seeds, name, dataset = sorted(seeds), metric_name(metric), entries[0].dataset
    several = len(seeds) > 1
    means = " Every value is a mean over seeds. Error bars show one standard deviation." if several else ""
    return Picture(
        "models",
        lambda: bars(table, [metric], names="model"),
        table,
        f"{name} on test of {dataset}, {seeds_text(seeds)}. Each model has the settings that are best on validation.{means}",
        f"{name} of each model",
        f"{dataset}, test, {seeds_text(seeds)}{', mean and standard deviation' if several else ''}",
    )
