"""DREAM, the local alignment module of MambaRec: multi-scale convolutions under channel and spatial attention.

Ren, Ju, Lee, CIKM 2025, arXiv 2509.09114, equations (1)-(6). DREAM follows the paper, ReleasedDREAM the authors' published
code. Both are usable by themselves. N rows (items), C, H, W the feature map, D the output width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DILATIONS = (6, 12, 18)


class MultiScaleBranches(nn.Module):
    """Equation (1): five views of a map, each with C channels after BatchNorm and ReLU, concatenated to 5C channels.

    A 1x1 convolution, three 3x3 convolutions of dilation 6, 12, 18, and a global average followed by a 1x1 convolution.

    A 3x3 convolution whose dilation reaches max(H, W) sees only its centre tap, the others fall into the padding. Only that
    tap is stored then, with the initial bound 1 / sqrt(9C) of the full kernel. On a 1x1 map all five branches are so linear
    maps of one vector, and are computed as one product.
    """

    def __init__(self, channels: int, height: int = 1, width: int = 1, momentum: float = 0.1):
        super().__init__()
        self.shape = (channels, height, width)
        sizes = [1, *(3 if dilation < max(height, width) else 1 for dilation in DILATIONS), 1]
        fan_in = [channels, *(9 * channels for _ in DILATIONS), channels]
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(channels, channels, size, size)) for size in sizes)
        self.bias = nn.Parameter(torch.empty(5, channels))
        for weight, bias, fan in zip(self.weights, self.bias, fan_in, strict=True):
            nn.init.uniform_(weight, -1 / math.sqrt(fan), 1 / math.sqrt(fan))
            nn.init.uniform_(bias, -1 / math.sqrt(fan), 1 / math.sqrt(fan))
        self.norm = nn.BatchNorm1d(5 * channels, momentum=momentum)  # of the concatenation: it works channel by channel

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C*H*W) -> (N, 5C, H, W), or (N, 5C) on a 1x1 map."""
        channels, height, width = self.shape
        if height == width == 1:
            weight = torch.cat([weight.flatten(1) for weight in self.weights])  # (5C, C)
            return torch.relu(self.norm(F.linear(x, weight, self.bias.flatten())))
        x = x.view(-1, *self.shape)
        weights = list(self.weights)
        local = [F.conv2d(x, weights[0])]
        for weight, dilation in zip(weights[1:4], DILATIONS, strict=True):
            full = weight.shape[-1] == 3
            local.append(F.conv2d(x, weight, padding=dilation if full else 0, dilation=dilation if full else 1))
        pooled = F.conv2d(x.mean((2, 3), keepdim=True), weights[4])  # (N, C, 1, 1)
        local_norm = self._normalize(torch.cat(local, 1) + self.bias[:4].reshape(-1, 1, 1), slice(0, 4 * channels))
        pooled_norm = self._normalize(pooled + self.bias[4].reshape(-1, 1, 1), slice(4 * channels, None))
        # bilinear upsampling of a single value is that value everywhere
        return torch.relu(torch.cat((local_norm, pooled_norm.expand(-1, -1, height, width)), 1))  # (N, 5C, H, W)

    def _normalize(self, x: Tensor, channels: slice) -> Tensor:
        """BatchNorm of some of the channels, with their own count of values in the statistics."""
        norm: Any = self.norm
        statistics = norm.running_mean[channels], norm.running_var[channels]
        affine = norm.weight[channels], norm.bias[channels]
        return F.batch_norm(x, *statistics, *affine, norm.training, norm.momentum, norm.eps)


class DREAM(nn.Module):
    """Dual representation enhancement by attention over multi-scale maps, as the paper's equations (1)-(6) have it.

    The reduced feature of an item, C*H*W wide, is read as a map of C channels. Not in the paper: BatchNorm and ReLU after
    each branch, and the projection to out_dim.
    """

    def __init__(self, channels: int, height: int, width: int, out_dim: int, attention_reduction: int = 16):
        super().__init__()
        total = 5 * channels
        hidden = max(1, total // attention_reduction)
        self.branches = MultiScaleBranches(channels, height, width)
        self.squeeze = nn.Linear(total, hidden, bias=False)
        self.excite = nn.Linear(hidden, total, bias=False)
        self.spatial = nn.Conv2d(1, 1, 1)
        self.on_map = height * width > 1
        if self.on_map:
            self.project: nn.Module = nn.Conv2d(total, channels, 1)
            flat = channels * height * width
            self.output = nn.Linear(flat, out_dim) if flat != out_dim else nn.Identity()
        else:
            self.project = nn.Linear(total, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C*H*W) -> (N, out_dim)."""
        maps = self.branches(x)  # (N, 5C, H, W) or (N, 5C), never negative
        pooled = maps.mean((2, 3)) if self.on_map else maps
        channel = torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))  # (2), (N, 5C)
        plane = maps.mean(1, keepdim=True)  # (4), (N, 1, H, W) or (N, 1)
        spatial = torch.sigmoid(plane * self.spatial.weight.flatten() + self.spatial.bias)
        if self.on_map:
            channel = channel[:, :, None, None]
        # (3), (5), (6): max(F * M_c, F * M_s) = F * max(M_c, M_s), as F >= 0
        larger = torch.where(channel >= spatial, channel, spatial)  # torch.maximum, whose gradient takes more passes
        fused = self.project(maps * larger)
        return self.output(fused.flatten(1)) if self.on_map else fused


class ReleasedDREAM(nn.Module):
    """DREAM as in the authors' published code, on vectors of width D.

    Both attentions are one scalar per item, the fused map is multiplied by the map once more, and the projection has
    BatchNorm and ReLU. The published code runs the module twice per step on the same input; once gives the same output, and
    momentum 1 - 0.9^2 = 0.19 the same running statistics.
    """

    def __init__(self, dim: int):
        super().__init__()
        momentum = 1 - (1 - 0.1) ** 2
        self.branches = MultiScaleBranches(dim, momentum=momentum)
        self.channel = nn.Linear(5 * dim, 1, bias=False)
        self.spatial = nn.Linear(5 * dim, 1, bias=False)
        self.project = nn.Linear(5 * dim, dim)
        self.norm = nn.BatchNorm1d(dim, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, D) -> (N, D)."""
        maps = self.branches(x)  # (N, 5D)
        attention = torch.maximum(torch.relu(self.channel(maps)), torch.sigmoid(self.spatial(maps)))  # (N, 1)
        return torch.relu(self.norm(self.project(maps * attention * maps)))
