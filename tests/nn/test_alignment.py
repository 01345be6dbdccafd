"""MMD and InfoNCE in blocks against their textbook forms, which hold every difference and every product."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plain import info_nce as plain_info_nce
from benchmarks.plain import mmd as plain_mmd
from mambarec.nn.alignment import distinct, info_nce, mmd

SIZES = [1, 5, 256, 257, 600]  # rows; on the CPU blocks of 256 meet parts of 512


def random_rows(n, width=6, seed=0, dtype=torch.float64):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def value_and_gradients(function, x, y, parameter):
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = 3 * function(x, y, parameter)  # the factor shows that the incoming gradient is passed on
    value.backward()
    return value.detach(), x.grad, y.grad


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize(("ours", "plain", "parameter"), [(mmd, plain_mmd, 1.5), (info_nce, plain_info_nce, 0.2)])
def test_value_and_gradients_equal_the_plain_form(ours, plain, parameter, rows, dtype, tolerance):
    x, y = random_rows(rows, seed=1, dtype=dtype), random_rows(rows, seed=2, dtype=dtype)
    results = value_and_gradients(ours, x, y, parameter), value_and_gradients(plain, x.double(), y.double(), parameter)
    for result, expected in zip(*results, strict=True):
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), expected, atol=10 * tolerance, rtol=10 * tolerance)


@pytest.mark.parametrize(("n", "m"), [(1, 7), (130, 3), (5, 200)])
def test_mmd_compares_sets_of_different_sizes(n, m):
    x, y = random_rows(n, seed=3), random_rows(m, seed=4)
    results = value_and_gradients(mmd, x, y, 0.8), value_and_gradients(plain_mmd, x, y, 0.8)
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(("ours", "plain"), [(mmd, plain_mmd), (info_nce, plain_info_nce)])
def test_rows_that_stand_in_a_batch_several_times_may_be_given_once_with_their_counts(ours, plain):
    batch = torch.randint(190, (400,), generator=torch.Generator().manual_seed(19))
    part = distinct(batch)
    assert len(part.values) < 190 and part.counts.sum() == 400 and torch.equal(part.values[part.inverse], batch)

    def once(x, y, parameter):
        return ours(x[part.values], y[part.values], parameter, part.counts, part.counts)

    def repeated(x, y, parameter):
        return plain(x[batch], y[batch], parameter)

    pair = random_rows(190, seed=20), random_rows(190, seed=21)
    results = value_and_gradients(once, *pair, 0.4), value_and_gradients(repeated, *pair, 0.4)
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("counted", [True, False])
def test_mmd_of_rows_as_they_are_compares_their_distances(counted):
    def plain(x, y, bandwidth):
        def kernel(a, b):
            return torch.exp(-(a[:, None] - b[None]).square().sum(-1) / (2 * bandwidth**2)).mean()

        return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)

    x, y = 2 * random_rows(150, seed=26), random_rows(300, seed=27) + 0.3
    counts = torch.arange(150) % 3 + 1 if counted else None

    def ours(x, y, bandwidth):
        return mmd(x, y, bandwidth, counts, normalize=False)

    def repeated(x, y, bandwidth):
        return plain(x if counts is None else x.repeat_interleave(counts, 0), y, bandwidth)

    results = value_and_gradients(ours, x, y, 1.7), value_and_gradients(repeated, x, y, 1.7)
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-10)


def test_info_nce_takes_partners_that_are_given_once_with_their_counts():
    batch = torch.randint(50, (300,), generator=torch.Generator().manual_seed(22))
    part = distinct(batch)
    x, y = random_rows(300, seed=23), random_rows(50, seed=24)
    value = info_nce(x, y[part.values], 0.4, y_counts=part.counts, targets=part.inverse)
    torch.testing.assert_close(value, plain_info_nce(x, y[batch], 0.4))


@pytest.mark.parametrize("normalize", [True, False])
def test_info_nce_takes_the_partners_from_a_longer_table(normalize):
    rows, table = random_rows(150, seed=16), random_rows(170, seed=17)
    targets = torch.randint(170, (150,), generator=torch.Generator().manual_seed(18))

    def ours(x, y, temperature):
        return info_nce(x, y, temperature, targets=targets, normalize=normalize)

    def plain(x, y, temperature):
        return plain_info_nce(x, y, temperature, targets, normalize)

    results = value_and_gradients(ours, rows, table, 0.4), value_and_gradients(plain, rows, table, 0.4)
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(("ours", "plain"), [(mmd, plain_mmd), (info_nce, plain_info_nce)])
def test_the_same_tensor_on_both_sides_gets_the_gradient_of_both(ours, plain):
    gradients = []
    for function in (ours, plain):
        x = random_rows(150, seed=5).requires_grad_()
        function(x, x, 0.7).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(("ours", "plain"), [(mmd, plain_mmd), (info_nce, plain_info_nce)])
@pytest.mark.parametrize("side", [0, 1])
def test_a_side_that_needs_no_gradient_gets_none(ours, plain, side):
    gradients = []
    for function in (ours, plain):
        pair = [random_rows(140, seed=6), random_rows(140, seed=7)]
        pair[side].requires_grad_()
        function(*pair, 0.7).backward()
        assert pair[1 - side].grad is None
        gradients.append(pair[side].grad)
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("function", [mmd, info_nce])
def test_gradient_equals_finite_differences(function):
    pair = [random_rows(4, width=3, seed=seed).requires_grad_() for seed in (8, 9)]
    assert torch.autograd.gradcheck(lambda x, y: function(x, y, 0.9), pair)


@pytest.mark.parametrize("function", [mmd, info_nce])
def test_value_is_the_same_without_gradients(function):
    x, y = random_rows(200, seed=10), random_rows(200, seed=11)
    with torch.no_grad():
        value = function(x.clone().requires_grad_(), y, 0.5)
    torch.testing.assert_close(value, value_and_gradients(function, x, y, 0.5)[0] / 3)
    assert not value.requires_grad


@pytest.mark.parametrize("function", [mmd, info_nce])
def test_inputs_are_left_as_they_were(function):
    x, y = random_rows(20, seed=12), random_rows(20, seed=13)
    value_and_gradients(function, x, y, 0.5)
    assert torch.equal(x, random_rows(20, seed=12))
    assert torch.equal(y, random_rows(20, seed=13))


def test_mmd_equals_hand_worked_numbers():
    right, up = [1.0, 0.0], [0.0, 1.0]  # |right - up|^2 = 2
    # k(right, up) = exp(-2 / 2) with bandwidth 1, so 1 + 1 - 2/e
    assert float(mmd(torch.tensor([right]), torch.tensor([up]), 1.0)) == pytest.approx(2 - 2 / math.e)
    # with bandwidth 2, exp(-2 / 8)
    assert float(mmd(torch.tensor([right]), torch.tensor([up]), 2.0)) == pytest.approx(2 - 2 * math.exp(-1 / 4))
    # opposite vectors, |a - b|^2 = 4
    assert float(mmd(torch.tensor([right]), -torch.tensor([right]), 1.0)) == pytest.approx(2 - 2 * math.exp(-2))
    # (2 + 2/e) / 4 + 1 - 2 (2 + 2/e) / 4, the diagonal kept
    assert float(mmd(torch.tensor([right, up]), torch.tensor([right, right]), 1.0)) == pytest.approx((1 - 1 / math.e) / 2)


def test_info_nce_equals_hand_worked_numbers():
    eye = torch.eye(2)
    # the right partner has similarity 1, the other 0: -log(e / (e + 1))
    assert float(info_nce(eye, eye, 1.0)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(info_nce(eye, eye.flip(0), 1.0)) == pytest.approx(math.log(1 + math.e))
    # temperature 1/2 doubles the similarities
    assert float(info_nce(eye, eye.flip(0), 0.5)) == pytest.approx(math.log(1 + math.exp(2)))
    # no row of y is nearer than another: one in three
    assert float(info_nce(torch.eye(3), torch.ones(3, 3), 0.2)) == pytest.approx(math.log(3))


@pytest.mark.parametrize("function", [mmd, info_nce])
def test_length_of_a_row_does_not_matter(function):
    x, y = random_rows(9, seed=14), random_rows(9, seed=15)
    scale = torch.linspace(0.1, 30, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(function(x * scale, y / scale, 0.7), function(x, y, 0.7))


def test_info_nce_without_normalising_compares_by_inner_products():
    x, y = random_rows(130, seed=16), random_rows(130, seed=17)
    expected = F.cross_entropy(x @ y.T / 0.7, torch.arange(130))
    torch.testing.assert_close(info_nce(x, y, 0.7, normalize=False), expected)


@pytest.mark.parametrize("temperature", [0.001, 1.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_info_nce_of_large_products_overflows_nowhere(normalize, temperature):
    x, y = (100 * random_rows(270, seed=seed, dtype=torch.float32) for seed in (24, 25))

    def ours(x, y, temperature):
        return info_nce(x, y, temperature, normalize=normalize)

    def plain(x, y, temperature):
        return plain_info_nce(x, y, temperature, normalize=normalize)

    results = value_and_gradients(ours, x, y, temperature), value_and_gradients(plain, x.double(), y.double(), temperature)
    for result, expected in zip(*results, strict=True):
        assert result.isfinite().all()
        torch.testing.assert_close(result.double(), expected, atol=1e-3, rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 140), m=st.integers(1, 140), bandwidth=st.floats(0.1, 10), width=st.integers(1, 5), seed=st.integers(0, 99)
)
def test_mmd_is_not_negative_and_zero_for_equal_sets(n, m, bandwidth, width, seed):
    x, y = random_rows(n, width, seed), random_rows(m, width, seed + 100)
    assert float(mmd(x, y, bandwidth)) >= -1e-12
    shuffled = x[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]
    assert float(mmd(x, shuffled, bandwidth)) == pytest.approx(0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 140), temperature=st.floats(0.05, 5), seed=st.integers(0, 99))
def test_info_nce_is_least_among_unrelated_vectors_for_the_right_partners(rows, temperature, seed):
    x = random_rows(rows, 4, seed)
    matched = float(info_nce(x, x, temperature))
    assert matched >= -1e-12
    assert matched <= float(info_nce(x, x.roll(1, 0), temperature)) + 1e-9
