"""DREAM against its plain form, written with Conv2d as equations (1)-(6) and the published code have it."""

import math

import pytest
import torch
from torch import nn

from benchmarks.plain import DREAM as PlainDREAM
from benchmarks.plain import ReleasedDREAM as PlainReleasedDREAM
from mambarec.nn.dream import DREAM, MultiScaleBranches, ReleasedDREAM

MAPS = [(8, 1, 1), (4, 4, 4), (2, 7, 7), (3, 12, 3), (2, 24, 24)]
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


def kernels_and_norms(branches, get, like):
    """get(parameter) of each of the plain branches, in the layout of a MultiScaleBranches."""
    kernels = zip(map(get, (conv.weight for conv in branches.convs)), like.weights, strict=True)
    centred = [kernel[:, :, 1:2, 1:2] if kernel.shape[-1] > own.shape[-1] else kernel for kernel, own in kernels]
    return {
        **{f"branches.weights.{i}": kernel for i, kernel in enumerate(centred)},
        "branches.bias": torch.stack([get(conv.bias) for conv in branches.convs]),
        "branches.norm.weight": torch.cat([get(norm.weight) for norm in branches.norms]),
        "branches.norm.bias": torch.cat([get(norm.bias) for norm in branches.norms]),
    }


def parts(plain, get, like):
    """get(parameter) of each of a plain module, in the layout of the fast one."""
    values = {name: get(parameter) for name, parameter in plain.named_parameters() if not name.startswith("branches")}
    values |= kernels_and_norms(plain.branches, get, like.branches)
    return {name: values[name].view(parameter.shape) for name, parameter in like.named_parameters()}


def statistics(plain):
    """The running statistics of a plain module, under the names of the fast one."""
    norms = {"branches.norm": list(plain.branches.norms)} | ({"norm": [plain.norm]} if hasattr(plain, "norm") else {})
    return {
        f"{place}.running_{name}": torch.cat([getattr(norm, f"running_{name}") for norm in several])
        for place, several in norms.items()
        for name in ("mean", "var")
    }


def pair_of(ours, plain, dtype):
    """Both in `dtype` and training mode, with the parameters of the plain form."""
    ours, plain = ours.to(dtype).train(), plain.to(dtype).train()
    for norm in plain.branches.norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    with torch.no_grad():
        values = parts(plain, lambda parameter: parameter, ours)
        for name, parameter in ours.named_parameters():
            parameter.copy_(values[name])
    return ours, plain


def both_forms(shape, dtype):
    torch.manual_seed(1)
    return pair_of(DREAM(*shape, out_dim=5), PlainDREAM(*shape, out_dim=5), dtype)


def both_released(dtype):
    torch.manual_seed(2)
    return pair_of(ReleasedDREAM(6), PlainReleasedDREAM(6), dtype)


def random_batch(width, seed, dtype, n=5):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def assert_equal_in_training(ours, plain, width, dtype, tolerance):
    """Same output, and same gradients of the input and of every parameter."""
    x, other = (random_batch(width, 3, dtype).requires_grad_() for _ in range(2))
    output, expected = ours(x), plain(other)
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=tolerance)
    weights = random_batch(output.shape[1], 4, dtype)
    (output * weights).mean().backward()
    (expected * weights).mean().backward()
    torch.testing.assert_close(x.grad, other.grad, atol=tolerance, rtol=tolerance)
    gradients = parts(plain, lambda parameter: parameter.grad, ours)
    for name, parameter in ours.named_parameters():
        assert parameter.grad.abs().max() < 100, name  # so that the tolerance means something
        torch.testing.assert_close(
            parameter.grad, gradients[name], atol=tolerance, rtol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_statistics_equal(ours, plain, tolerance):
    buffers = dict(ours.named_buffers())
    for name, value in statistics(plain).items():
        torch.testing.assert_close(buffers[name], value, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("shape", MAPS)
def test_dream_equals_the_plain_form_in_training(shape, dtype, tolerance):
    assert_equal_in_training(*both_forms(shape, dtype), math.prod(shape), dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("shape", MAPS)
def test_dream_equals_the_plain_form_in_evaluation(shape, dtype, tolerance):
    ours, plain = both_forms(shape, dtype)
    for seed in range(3):
        batch = random_batch(math.prod(shape), seed, dtype)
        ours(batch), plain(batch)
    assert_statistics_equal(ours, plain, tolerance)
    batch = random_batch(math.prod(shape), 9, dtype)
    torch.testing.assert_close(ours.eval()(batch), plain.eval()(batch), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_released_dream_equals_the_plain_form_in_training(dtype, tolerance):
    assert_equal_in_training(*both_released(dtype), 6, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_released_dream_equals_the_plain_form_called_twice_a_step_in_evaluation(dtype, tolerance):
    ours, plain = both_released(dtype)
    for seed in range(3):
        batch = random_batch(6, seed, dtype)
        ours(batch), plain(batch), plain(batch)
    assert_statistics_equal(ours, plain, tolerance)
    batch = random_batch(6, 9, dtype)
    torch.testing.assert_close(ours.eval()(batch), plain.eval()(batch), atol=tolerance, rtol=tolerance)


def test_evaluation_of_a_row_does_not_depend_on_its_batch():
    ours, _ = both_forms((2, 7, 7), torch.float64)
    batch = random_batch(98, 0, torch.float64)
    ours(batch)
    ours.eval()
    torch.testing.assert_close(ours(batch[3:4]), ours(batch)[3:4])


@pytest.mark.parametrize(
    ("height", "width", "sizes"),
    [
        (1, 1, [1, 1, 1, 1, 1]),
        (4, 4, [1, 1, 1, 1, 1]),
        (6, 6, [1, 1, 1, 1, 1]),  # dilation 6 reaches 6
        (7, 7, [1, 3, 1, 1, 1]),
        (12, 3, [1, 3, 1, 1, 1]),
        (1, 13, [1, 3, 3, 1, 1]),
        (18, 2, [1, 3, 3, 1, 1]),
        (24, 24, [1, 3, 3, 3, 1]),
    ],
)
def test_only_the_centre_tap_is_stored_where_the_others_see_padding(height, width, sizes):
    branches = MultiScaleBranches(2, height, width)
    assert [tuple(weight.shape) for weight in branches.weights] == [(2, 2, size, size) for size in sizes]


def test_a_lone_centre_tap_starts_within_the_bound_of_the_full_kernel():
    channels = 32
    branches = MultiScaleBranches(channels)
    for i, fan_in in enumerate([channels, 9 * channels, 9 * channels, 9 * channels, channels]):
        bound = 1 / math.sqrt(fan_in)
        assert 0.95 * bound < branches.weights[i].abs().max() <= bound
        assert 0.5 * bound < branches.bias[i].abs().max() <= bound


def tiny_dream():
    """One channel on a 1x2 map, with weights that make every step a fraction; BatchNorm passes values on."""
    dream = DREAM(1, 1, 2, out_dim=2).double().eval()
    ln3 = math.log(3)
    values = {
        "squeeze.weight": [0.5, 0, 0, 0, 0],
        "excite.weight": [ln3, 0, -ln3, 0, 0],
        "spatial.weight": [5 * ln3 / 6],
        "spatial.bias": [-5 * ln3 / 6],
        "project.weight": [1, 10, 100, 1000, 10_000],
        "project.bias": [0],
        "output.weight": [1, 0, 0, 1],
        "output.bias": [0, 0],
        "branches.bias": [0] * 5,
        **{f"branches.weights.{i}": [weight] for i, weight in enumerate([1, 0, 2, -1, 1])},
        "branches.norm.weight": [1] * 5,
        "branches.norm.bias": [0] * 5,
    }
    with torch.no_grad():
        for name, parameter in dream.named_parameters():
            parameter.copy_(torch.tensor(values[name], dtype=torch.float64).view(parameter.shape))
    dream.branches.norm.eps = 0.0  # running mean 0 and variance 1 are the initial ones
    return dream


def test_dream_equals_hand_worked_numbers():
    # (1) the map (1, 3) times 1, 0, 2, -1 after ReLU, and its mean 2
    dream, x = tiny_dream(), torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    assert dream.branches(x)[0, :, 0].tolist() == [[1, 3], [0, 0], [2, 6], [0, 0], [2, 2]]
    # (2) z = (2, 0, 4, 0, 2), squeezed to 1; sigmoid(ln 3, 0, -ln 3, 0, 0) = M_c = (3/4, 1/2, 1/4, 1/2, 1/2)
    # (4) P = (5/5, 11/5); sigmoid(0, ln 3) = M_s = (1/2, 3/4)
    # (3), (5), (6) left:  F * max(M_c, 1/2) = (1 * 3/4, 0, 2 * 1/2, 0, 2 * 1/2)
    #               right: F * max(M_c, 3/4) = (3 * 3/4, 0, 6 * 3/4, 0, 2 * 3/4)
    left, right = 3 / 4 + 100 * 1 + 10_000 * 1, 9 / 4 + 100 * 18 / 4 + 10_000 * 6 / 4
    assert dream(x)[0].tolist() == pytest.approx([left, right], rel=1e-12)


def test_hidden_width_of_the_channel_attention_is_at_least_one():
    assert DREAM(1, 2, 2, out_dim=3).squeeze.weight.shape == (1, 5)
    assert DREAM(16, 1, 1, out_dim=3, attention_reduction=20).squeeze.weight.shape == (4, 80)
