"""Paired tests over users: whether the difference of two models is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

N_RESAMPLES = 2000
_BLOCK = 200  # resamples drawn at once
# Records keep float16, and means over seeds are sums in some order. So differences of a user that agree to so many decimals are
# equal. A smaller one counts as none: with S seeds and R relevant items, recall differs by 1 / (S R) at least, which is more
# than that wherever S R is below 2,000.
_DECIMALS = 3


@dataclass(frozen=True)
class Paired:
    """Two models on the same users: mean difference, its 95% bootstrap interval, and p-values of the two tests, two-sided."""

    difference: float
    low: float
    high: float
    wilcoxon: float
    t_test: float


def paired(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Paired:
    """Compare per-user values (N,) of two models, a minus b.

    Wilcoxon's signed-rank test ranks zero differences too (Pratt 1959); with no difference at all, p is 1. The interval is the
    percentile bootstrap over users (Efron 1979). ValueError when the lengths differ or a value is NaN.
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    differences[np.abs(differences) < 0.5 * 10**-_DECIMALS] = 0
    if np.isnan(differences).any():
        raise ValueError("a per-user value is NaN")
    low, high = bootstrap_interval(differences, seed)
    if not differences.any():
        return Paired(0.0, 0.0, 0.0, 1.0, 1.0)
    from scipy import stats  # half a second to import, which no training should wait for

    wilcoxon = stats.wilcoxon(np.round(differences, _DECIMALS), zero_method="pratt").pvalue
    t_test = 0.0 if len(differences) > 1 else 1.0  # of equal differences the t statistic is infinite; one has no deviation
    if np.ptp(differences):
        t_test = stats.ttest_1samp(differences, 0.0).pvalue
    return Paired(float(differences.mean()), low, high, float(wilcoxon), float(t_test))


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 2.5% and 97.5% percentiles of the mean of `values` (N,) over resamples of N values."""
    generator = np.random.default_rng(seed)
    draws = [
        values[generator.integers(len(values), size=(_BLOCK, len(values)), dtype=np.int32)].mean(1)
        for _ in range(N_RESAMPLES // _BLOCK)
    ]
    low, high = np.percentile(np.concatenate(draws), [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of tests (Holm 1979): the smallest times n, the next times n - 1, never falling."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors))
    result = np.empty(len(p_values))
    result[order] = adjusted
    return result.tolist()
