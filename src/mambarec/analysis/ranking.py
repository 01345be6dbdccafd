"""The chart of models: each model's mean with an interval over users and a dot a seed, sorted, with places in percent.

The template draws it as table rows, each with an SVG whose x coordinates are percents, so that it has any width without a
script, and its numbers are text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mambarec.analysis.comparison import TESTED, Comparison, Entry
from mambarec.analysis.figures import metric_name
from mambarec.analysis.significance import bootstrap_interval
from mambarec.analysis.verdict import AHEAD, BEHIND, LEVEL, Verdict

N_TICKS = 4
MARGIN = 0.04  # of the chart's width, beside the outermost value
_AGAINST = {AHEAD: "lower", BEHIND: "higher", LEVEL: "level"}


@dataclass(frozen=True)
class Row:
    """A model. at, low_at, width and the seeds' places are percents of the chart's width."""

    label: str
    mean: float
    low: float
    high: float
    seeds: list[tuple[int, float]]
    against: str
    is_reference: bool
    at: float
    low_at: float
    high_at: float
    seeds_at: list[float]

    @property
    def text(self) -> str:
        """What the row shows, for a reader who does not see it."""
        seeds = ", ".join(f"seed {seed}: {value:.4f}" for seed, value in self.seeds)
        return f"{self.label}: {self.mean:.4f}, interval {self.low:.4f} to {self.high:.4f}; {seeds}"


@dataclass(frozen=True)
class Ranking:
    """Rows, the highest mean first, and the ticks of the axis as (place in percent, text)."""

    metric: str
    rows: list[Row]
    ticks: list[tuple[float, str]]
    subject: str | None


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """Entries by the tested metric, the highest first; equal ones stay in order."""
    return sorted(entries, key=lambda entry: -entry.mean(TESTED))


def ranking(comparison: Comparison, dataset: str, verdict: Verdict) -> Ranking:
    """The chart of one data set. The interval is the 95% percentile bootstrap over users of values averaged over seeds."""
    entries = ranked(comparison.column(dataset))
    intervals = [bootstrap_interval(entry.per_user(TESTED)) for entry in entries]
    seeds = [[(record.seed, record.result["test"][TESTED]) for record in entry.records] for entry in entries]
    shown = [value for interval in intervals for value in interval] + [value for some in seeds for _, value in some]
    low, high = min(shown), max(shown)
    span = high - low or abs(high) or 1.0

    def place(value: float) -> float:
        return round(100 * (MARGIN + (1 - 2 * MARGIN) * (value - low) / span), 2)

    rows = [
        Row(
            entry.label,
            entry.mean(TESTED),
            *interval,
            some,
            _AGAINST.get(verdict.standing.get(entry.label, ""), "unclear" if entry.label in verdict.standing else ""),
            entry.label == verdict.subject,
            place(entry.mean(TESTED)),
            place(interval[0]),
            place(interval[1]),
            [place(value) for _, value in some],
        )
        for entry, interval, some in zip(entries, intervals, seeds, strict=True)
    ]
    return Ranking(metric_name(TESTED), rows, [(place(value), text) for value, text in _ticks(low, high)], verdict.subject)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About N_TICKS round values from low to high, with as many decimals as they need."""
    if high <= low:
        return [(low, f"{low:.4f}")]
    rough = (high - low) / N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.8 * rough)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step:.{decimals}f}") for i in range(first, last + 1)]
