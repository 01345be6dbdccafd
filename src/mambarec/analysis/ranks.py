"""Models by their rank over several data sets: mean ranks, the Friedman test, and the critical-difference diagram.

Demšar, JMLR 7 (2006). A block is a data set: the seeds of one share its users and items, so they are averaged first and do not
count as further data sets. The diagram is drawn by scikit-posthocs, which is part of the optional extra [report].
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mambarec.analysis.comparison import ALPHA, TESTED, Comparison
from mambarec.analysis.fairness import check_computed
from mambarec.analysis.figures import WIDTH, Picture, current_theme, metric_name, new_figure, styled
from mambarec.analysis.tables import Cell, Table
from mambarec.base.extras import optional
from mambarec.base.words import count, listed


@dataclass(frozen=True)
class Ranks:
    """values: the tested metric, a row a data set, a column a model that was run on all of them. left_out: the other models."""

    values: pd.DataFrame
    left_out: list[str]
    reference: str | None

    @property
    def by_dataset(self) -> pd.DataFrame:
        """1 is the highest; equal values share their mean rank."""
        return self.values.rank(axis=1, ascending=False)

    @property
    def mean(self) -> pd.Series:
        return self.by_dataset.mean().sort_values(kind="stable")

    @property
    def critical_difference(self) -> float:
        """Mean ranks that are further apart differ by the Nemenyi test."""
        n, k = self.values.shape
        return _quantile(k) * math.sqrt(k * (k + 1) / (6 * n))

    @property
    def friedman(self) -> float:
        """The p-value of the test that no model differs from any other; 1 where all are equal on every data set."""
        from scipy import stats

        if (self.by_dataset.nunique(axis=1) == 1).all():
            return 1.0
        return float(stats.friedmanchisquare(*self.values.to_numpy().T).pvalue)

    @property
    def obstacle(self) -> str:
        """Why a test over these data sets would be void; empty where it is not."""
        n, k = self.values.shape
        if k < 3:
            return f"Ranks need three models or more that were run on every data set; there {'is' if k == 1 else 'are'} {k}."
        if n < (needed := blocks_needed(k)):
            return (
                f"The critical-difference diagram is left out: with {k} models its test needs {needed} data sets or more, and "
                f"there are {n}. With fewer, even a model that is best on all of them would not differ from the worst."
            )
        return ""

    @property
    def said(self) -> list[str]:
        """What a reader must know, a thought each."""
        n, k = self.values.shape
        parts = [
            f"Ranks of {k} models on {n} data sets by {metric_name(TESTED)} on test; 1 is the best.",
            "A data set counts once: the seeds on it are averaged first, because they share its users and items.",
        ]
        if self.obstacle:
            parts.append(self.obstacle)
        else:
            p = self.friedman
            parts += [
                f"Friedman test that all models are equal: p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}.",
                f"Two models differ when their mean ranks are more than {self.critical_difference:.2f} apart (Nemenyi test, "
                f"p < {ALPHA})."
                if p < ALPHA
                else "So these data sets do not show that any two of the models differ.",
                "With so few data sets only large differences can be found, and the p-values are approximate."
                if n < 10
                else "",
            ]
        if self.left_out:
            rows = ", ".join(self.left_out)
            parts.append(f"Not ranked, because these rows are not on every data set with the budget of the others: {rows}.")
            models = [row.partition(" ")[0] for row in self.left_out]
            if several := sorted({model for model in models if models.count(model) > 1}):
                parts.append(f"Of {listed(several)} there are rows with other settings. --where KEY=VALUE keeps one of them.")
        return [part for part in parts if part]


def blocks_needed(k: int) -> int:
    """The fewest data sets on which the best of k models, first everywhere, can differ from the last: the difference of their
    mean ranks, k - 1, must exceed the critical one."""
    return math.floor(_quantile(k) ** 2 * k * (k + 1) / (6 * (k - 1) ** 2)) + 1


def _quantile(k: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - ALPHA, k, np.inf) / math.sqrt(2))


def ranks(comparison: Comparison) -> Ranks:
    """Of the models that were run on every data set of a comparison, with the budget that is ranked there.

    RunError where a run did not compute the tested metric.
    """
    check_computed([record for entry in comparison.entries.values() for record in entry.records], [TESTED])
    peers = [{entry.label for entry in comparison.peers(dataset)} for dataset in comparison.datasets]
    everywhere = [label for label in comparison.labels if all(label in found for found in peers)]
    values = [[comparison.entries[label, dataset].mean(TESTED) for label in everywhere] for dataset in comparison.datasets]
    return Ranks(
        pd.DataFrame(values, index=comparison.datasets, columns=everywhere, dtype=float),
        [label for label in comparison.labels if label not in everywhere],
        comparison.reference,
    )


def ranks_table(found: Ranks) -> Table:
    """A row per model, the best mean rank first."""
    rows = [
        [Cell(label), Cell(f"{mean:.2f}"), *(Cell(f"{rank:g}") for rank in found.by_dataset[label])]
        for label, mean in found.mean.items()
    ]
    return Table("Ranks over data sets", ["Model", "Mean rank", *found.values.index], rows, found.said)


def diagram(found: Ranks) -> Picture | None:
    """The critical-difference diagram; None where its test would be void. ConfigError where scikit-posthocs is absent."""
    if found.obstacle:
        return None
    optional("scikit_posthocs", "scikit-posthocs", "report", "a critical-difference diagram needs")
    names = list(found.values.index)
    numbers = pd.DataFrame({"mean_rank": found.mean, **found.by_dataset.T.loc[found.mean.index].to_dict("series")})
    return Picture(
        "critical-difference",
        lambda: _drawn(found),
        numbers.rename_axis("label").reset_index(),
        " ".join([*found.said, "A bar joins models that the test does not tell apart."]),
        "Models by their mean rank over data sets",
        f"{', '.join(names) if len(names) <= 4 else count(len(names), 'data set')}; test {metric_name(TESTED)}",
    )


@styled
def _drawn(found: Ranks) -> Any:
    import scikit_posthocs

    theme = current_theme()
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(found.values)
    if found.friedman >= ALPHA:  # then no two are told apart, whatever the second test says
        p_values[:] = 1.0
    figure = new_figure(0.75 + 0.11 * len(found.mean), 1.25 * WIDTH)
    axes = figure.subplots()
    scikit_posthocs.critical_difference_diagram(
        found.mean,
        p_values,
        ax=axes,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
        label_props={"fontsize": 7},
        color_palette={label: theme.default if label == found.reference else theme.ink for label in found.mean.index},
        crossbar_props={"color": theme.ink},
        marker_props={"s": 9},
        elbow_props={"linewidth": 0.8},
        text_h_margin=0.1,
    )
    axes.spines["top"].set_visible(True)
    axes.locator_params(axis="x", integer=True)
    return figure
