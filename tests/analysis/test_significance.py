"""Paired tests against figures worked by hand, and the rate of false stars."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy import stats

from mambarec.analysis.significance import bootstrap_interval, holm, paired


def test_holm_on_a_worked_example():
    # 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1 raised to the one before it
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def signed_rank_exact(differences: list[float]) -> Fraction:
    """Two-sided p of the signed-rank statistic by all sign flips; zeros are ranked, and keep no sign (Pratt)."""
    ranks = stats.rankdata(np.abs(differences))
    of_nonzero = [rank for rank, value in zip(ranks, differences, strict=True) if value]
    observed = sum(rank for rank, value in zip(ranks, differences, strict=True) if value > 0)
    middle = sum(of_nonzero) / 2
    flips = product((0, 1), repeat=len(of_nonzero))
    sums = [sum(rank for rank, sign in zip(of_nonzero, signs, strict=True) if sign) for signs in flips]
    return Fraction(sum(abs(one - middle) >= abs(observed - middle) - 1e-9 for one in sums), len(sums))


def test_wilcoxon_agrees_with_all_sign_flips():
    generator = np.random.default_rng(3)
    differences = np.round(generator.normal(0.3, 1, 14), 1)
    differences[:3] = 0
    exact = signed_rank_exact(differences.tolist())
    assert paired(differences, np.zeros(14)).wilcoxon == pytest.approx(
        float(exact), abs=0.04
    )  # SciPy's takes the normal's tail


def test_t_test_on_a_worked_example():
    # differences 1 2 3: mean 2, standard deviation 1, t = 2 / (1 / sqrt 3) = 3.4641 with 2 degrees of freedom
    result = paired(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert result.difference == 2
    assert result.t_test == pytest.approx(2 * stats.t.sf(3.4641016, 2))


def test_models_that_do_not_differ_have_p_one_and_no_interval():
    result = paired(np.ones(50), np.ones(50))
    assert (result.wilcoxon, result.t_test, result.low, result.high) == (1, 1, 0, 0)


def test_means_over_seeds_in_another_order_do_not_differ():
    generator = np.random.default_rng(0)
    a, b, c = (generator.integers(0, 6, 2000) / generator.integers(1, 12, 2000) for _ in range(3))
    one, other = np.mean([a, b, c], axis=0), np.mean([b, c, a], axis=0)
    assert (one != other).any()
    result = paired(one, other)
    assert (result.difference, result.wilcoxon, result.t_test) == (0, 1, 1)


def test_one_user_alone_tells_nothing():
    result = paired(np.array([0.5]), np.array([0.1]))
    assert (result.wilcoxon, result.t_test) == (1, 1)


def test_a_constant_difference_is_certain():
    assert paired(np.ones(50), np.zeros(50)).t_test == 0


def test_nan_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        paired(np.array([np.nan, 1.0]), np.ones(2))


def test_the_interval_is_that_of_the_normal_for_many_users_and_covers_the_truth():
    generator = np.random.default_rng(0)
    values = generator.normal(1, 2, 4000)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    intervals = [bootstrap_interval(generator.normal(0, 1, 60), seed) for seed in range(200)]
    assert 0.90 <= np.mean([low <= 0 <= high for low, high in intervals]) <= 0.98


def test_without_a_true_difference_at_most_one_table_in_twenty_has_a_star():
    """300 tables of nine baselines; users have mostly 0, as Recall@20 has, and models differ by chance alone."""
    generator = np.random.default_rng(1)
    tables = 300
    starred = 0
    for _ in range(tables):
        taste = generator.random(300) * 0.3  # users differ, models do not
        values = (generator.random((10, 300)) < taste).astype(float)
        p_values = [stats.wilcoxon(values[0] - other, zero_method="pratt").pvalue for other in values[1:]]
        starred += min(holm(p_values)) < 0.05
    assert starred / tables <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tables)


def test_means_of_values_in_half_precision_are_equal_where_the_values_are():
    """(1, 0, 0) and (1/3, 1/3, 1/3) have one mean; half precision makes the second one smaller."""
    third = np.full(3, 1 / 3).astype(np.float16).astype(np.float64).mean()
    assert third != 1 / 3
    exact = np.array([1 / 3] * 40 + [1.0, 1.0, 0.0]), np.array([1 / 3] * 40 + [0.0, 0.0, 1.0])
    rounded = np.array([third] * 40 + [1.0, 1.0, 0.0]), exact[1]
    assert paired(*rounded).wilcoxon == paired(*exact).wilcoxon
