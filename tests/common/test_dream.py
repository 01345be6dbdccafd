"""DREAM against its plain form, written with Conv2d as equations (1)-(6) and the published code have it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.dream import DREAM, MultiScaleBranches, ReleasedDREAM

MAPS = [(8, 1, 1), (4, 4, 4), (2, 7, 7), (3, 12, 3), (2, 24, 24)]
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


class PlainBranches(nn.Module):
    """Equation (1): five branches, each with BatchNorm and ReLU, concatenated."""

    def __init__(self, channels):
        super().__init__()
        dilated = [nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in (6, 12, 18)]
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 1), *dilated, nn.Conv2d(channels, channels, 1)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in self.convs)
        for norm in self.norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)

    def forward(self, x):
        *local, last = [
            lambda x, c=conv, n=norm: torch.relu(n(c(x))) for conv, norm in zip(self.convs, self.norms, strict=True)
        ]
        pooled = last(nn.AdaptiveAvgPool2d(1)(x))
        upsampled = F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([*(branch(x) for branch in local), upsampled], 1)

    def part(self, get, sizes):
        """get(parameter) of each, in the layout of MultiScaleBranches whose kernels have `sizes`."""
        kernels = [get(conv.weight) for conv in self.convs]
        centred = [k[:, :, 1:2, 1:2] if k.shape[-1] > size else k for k, size in zip(kernels, sizes, strict=True)]
        return {
            **{f"branches.weights.{i}": kernel for i, kernel in enumerate(centred)},
            "branches.bias": torch.stack([get(conv.bias) for conv in self.convs]),
            "branches.norm.weight": torch.cat([get(norm.weight) for norm in self.norms]),
            "branches.norm.bias": torch.cat([get(norm.bias) for norm in self.norms]),
        }

    def statistics(self):
        return {
            f"branches.norm.running_{name}": torch.cat([getattr(norm, f"running_{name}") for norm in self.norms])
            for name in ("mean", "var")
        }


class PlainDREAM(nn.Module):
    def __init__(self, channels, height, width, out_dim, attention_reduction=16):
        super().__init__()
        self.shape, total = (channels, height, width), 5 * channels
        hidden = max(1, total // attention_reduction)
        self.branches = PlainBranches(channels)
        self.squeeze = nn.Conv2d(total, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, total, 1, bias=False)
        self.spatial = nn.Conv2d(1, 1, 1)
        on_map = height * width > 1
        self.project = nn.Conv2d(total, channels if on_map else out_dim, 1)
        self.output = nn.Linear(channels * height * width, out_dim) if on_map else nn.Identity()

    def forward(self, x):
        maps = self.branches(x.view(-1, *self.shape))  # (N, 5C, H, W)
        channel = torch.sigmoid(self.excite(torch.relu(self.squeeze(nn.AdaptiveAvgPool2d(1)(maps)))))  # (2)
        spatial = torch.sigmoid(self.spatial(maps.mean(1, keepdim=True)))  # (4)
        fused = torch.max(maps * channel, maps * spatial)  # (3), (5), (6)
        return self.output(self.project(fused).flatten(1))

    def part(self, get, like):
        heads = {name: get(parameter) for name, parameter in self.named_parameters() if not name.startswith("branches")}
        heads |= self.branches.part(get, [weight.shape[-1] for weight in like.branches.weights])
        return {name: heads[name].view(parameter.shape) for name, parameter in like.named_parameters()}

    def statistics(self):
        return self.branches.statistics()


class PlainReleased(nn.Module):
    """The published code on maps (N, D, 1, 1); one call, of which it makes two a step."""

    def __init__(self, dim):
        super().__init__()
        self.branches = PlainBranches(dim)
        self.channel = nn.Conv2d(5 * dim, 1, 1, bias=False)
        self.spatial = nn.Conv2d(5 * dim, 1, 1, bias=False)
        self.project, self.norm = nn.Conv2d(5 * dim, dim, 1), nn.BatchNorm2d(dim)

    def forward(self, x):
        maps = self.branches(x[:, :, None, None])
        by_channel = maps * torch.relu(self.channel(nn.AdaptiveAvgPool2d(1)(maps)))
        by_place = maps * torch.sigmoid(self.spatial(maps))
        return torch.relu(self.norm(self.project(torch.max(by_channel, by_place) * maps))).flatten(1)

    def part(self, get, like):
        return PlainDREAM.part(self, get, like)

    def statistics(self):
        own = {"norm.running_mean": self.norm.running_mean, "norm.running_var": self.norm.running_var}
        return {**self.branches.statistics(), **own}


def pair_of(ours, plain, dtype):
    """Both in `dtype` and training mode, with the parameters of the plain form."""
    ours, plain = ours.to(dtype).train(), plain.to(dtype).train()
    with torch.no_grad():
        values = plain.part(lambda parameter: parameter, ours)
        for name, parameter in ours.named_parameters():
            parameter.copy_(values[name])
    return ours, plain


def both_forms(shape, dtype):
    torch.manual_seed(1)
    return pair_of(DREAM(*shape, out_dim=5), PlainDREAM(*shape, out_dim=5), dtype)


def both_released(dtype):
    torch.manual_seed(2)
    return pair_of(ReleasedDREAM(6), PlainReleased(6), dtype)


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
    gradients = plain.part(lambda parameter: parameter.grad, ours)
    for name, parameter in ours.named_parameters():
        assert parameter.grad.abs().max() < 100, name  # so that the tolerance means something
        torch.testing.assert_close(
            parameter.grad, gradients[name], atol=tolerance, rtol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_statistics_equal(ours, plain, tolerance):
    buffers = dict(ours.named_buffers())
    for name, value in plain.statistics().items():
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
