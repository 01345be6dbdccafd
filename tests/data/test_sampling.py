"""Sampling from what a row does not hold: never a held column, each free one equally often."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mambarec.data.sampling import ComplementSampler

CPU = torch.device("cpu")


def make_sampler(held: list[set[int]], n_columns: int, order_seed: int = 0) -> ComplementSampler:
    pairs = np.array([(row, column) for row, columns in enumerate(held) for column in columns], dtype=np.int64).reshape(-1, 2)
    pairs = np.random.default_rng(order_seed).permutation(pairs)  # any order is allowed
    return ComplementSampler(pairs[:, 0], pairs[:, 1], len(held), n_columns, CPU)


def draw_rows(sampler: ComplementSampler, rows, seed: int) -> torch.Tensor:
    return sampler.sample(torch.tensor(rows, dtype=torch.int64), torch.Generator().manual_seed(seed))


@st.composite
def holdings(draw):
    """What each row holds, none of them everything, and the number of columns."""
    n_columns = draw(st.integers(1, 9))
    rows = st.sets(st.integers(0, n_columns - 1), max_size=n_columns - 1)
    return draw(st.lists(rows, min_size=1, max_size=6)), n_columns


@settings(max_examples=40, deadline=None)
@given(case=holdings(), seed=st.integers(0, 2**31))
def test_every_free_column_is_drawn_and_never_a_held_one(case, seed):
    held, n_columns = case
    draws = 400  # a free column among 9 is missed once in 10^20
    drawn = draw_rows(make_sampler(held, n_columns, seed), np.repeat(np.arange(len(held)), draws), seed).view(-1, draws)
    for row, columns in enumerate(held):
        assert set(drawn[row].tolist()) == set(range(n_columns)) - columns


@settings(max_examples=40, deadline=None)
@given(case=holdings(), seed=st.integers(0, 2**31))
def test_the_rth_free_column_answers_the_rank_r(case, seed):
    held, n_columns = case
    rows = np.random.default_rng(seed).integers(len(held), size=50)
    drawn = draw_rows(make_sampler(held, n_columns), rows, seed)
    uniform = torch.rand(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    for row, share, column in zip(rows, uniform, drawn.tolist(), strict=True):
        free = [column for column in range(n_columns) if column not in held[row]]
        assert column == free[int(share * len(free))]


def test_draws_are_uniform_over_the_free_columns():
    held = [set(), {0, 1, 2}, {4}, {0, 9}, {1, 3, 5, 7, 9}]
    sampler = make_sampler(held, 10)
    for row, columns in enumerate(held):
        drawn = draw_rows(sampler, [row] * 20_000, seed=7)
        counts = torch.bincount(drawn, minlength=10)[[column for column in range(10) if column not in columns]]
        assert chisquare(counts.numpy()).pvalue > 0.001, f"row {row}: {counts.tolist()}"


def test_draws_of_a_batch_are_independent():
    """Pairs of neighbouring draws are uniform too, so no draw foretells the next."""
    drawn = draw_rows(make_sampler([{1}], 5), [0] * 40_000, seed=3)
    free = torch.tensor([0, -1, 1, 2, 3])[drawn].view(-1, 2)
    assert chisquare(torch.bincount(free[:, 0] * 4 + free[:, 1], minlength=16).numpy()).pvalue > 0.001


def test_a_generator_in_the_same_state_draws_the_same():
    sampler = make_sampler([{0, 3}, {1}, {5, 6, 7}], 50)
    rows = [0, 1, 2] * 40
    first = draw_rows(sampler, rows, seed=5)
    assert torch.equal(first, draw_rows(sampler, rows, seed=5))
    assert not torch.equal(first, draw_rows(sampler, rows, seed=6))


def test_rows_that_hold_nothing_draw_from_all_columns():
    drawn = draw_rows(make_sampler([set(), {2}, set()], 3), [0] * 200 + [2] * 200, seed=0)
    assert set(drawn[:200].tolist()) == set(drawn[200:].tolist()) == {0, 1, 2}


def test_the_only_free_column_is_drawn_each_time():
    for free in range(6):
        assert set(draw_rows(make_sampler([set(range(6)) - {free}], 6), [0] * 20, seed=1).tolist()) == {free}
