"""What models are made of, written the obvious way: the forms that tests compare with and benchmarks measure against.

N rows, B batch, D width, C, H, W a feature map, E edges.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.nn.dream import DILATIONS, MultiScaleBranches
from mambarec.nn.graph import SparseGraph


def mmd(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Maximum mean discrepancy of L2-normalised rows (B, D) and (B', D) that holds every difference, B x B' x D."""
    x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        difference = a[:, None, :] - b[None, :, :]  # (B, B', D)
        return torch.exp(-difference.square().sum(-1) / (2 * bandwidth**2)).mean()

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


def info_nce(x: Tensor, y: Tensor, temperature: float, targets: Tensor | None = None, normalize: bool = True) -> Tensor:
    """InfoNCE of x (B, D) against y (B', D), from all their products; a scalar."""
    if normalize:
        x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
    targets = torch.arange(len(x), device=x.device) if targets is None else targets
    return F.cross_entropy(x @ y.T / temperature, targets)


class CooGraph(nn.Module):
    """A sparse matrix as torch's COO tensor, whose transpose is made anew for each gradient."""

    matrix: Tensor

    def __init__(self, graph: SparseGraph):
        super().__init__()
        offsets, columns, values = (getattr(graph, f"_forward_{name}") for name in ("offsets", "columns", "values"))
        rows = torch.arange(graph.shape[0]).repeat_interleave(offsets.diff())
        matrix = torch.sparse_coo_tensor(torch.stack((rows, columns)), values, graph.shape, check_invariants=True)
        self.register_buffer("matrix", matrix.coalesce(), persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """dense (M, D) -> (N, D)."""
        return torch.sparse.mm(self.matrix, dense)


def with_coo_graphs(module: nn.Module) -> None:
    """Replace every SparseGraph inside a module."""
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, SparseGraph):
                setattr(parent, name, CooGraph(child))


def propagate_mean(graph: nn.Module, embeddings: Tensor, n_layers: int) -> Tensor:
    """Mean over layers 0..n_layers of graph^l embeddings, (N, D) -> (N, D), from the stack of all layers."""
    layers = [embeddings]
    for _ in range(n_layers):
        layers.append(graph(layers[-1]))
    return torch.stack(layers, 1).mean(1)


class Edges:
    """Messages along directed edges, one (E, D) tensor for each step: source, target int64 (E,) of n nodes."""

    def __init__(self, source: Tensor, target: Tensor, n: int):
        self.source, self.target, self.n = source, target, n
        self.degree = torch.zeros(n).index_add(0, target, torch.ones(len(target)))

    def sum(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Sum of the messages that reach each node: x (n, D), weights (E,) -> (n, D)."""
        messages = x[self.source] if weights is None else weights[:, None] * x[self.source]  # (E, D)
        return x.new_zeros(self.n, x.shape[1]).index_add(0, self.target, messages)

    def mean(self, x: Tensor) -> Tensor:
        return self.sum(x) / self.degree.clamp(min=1)[:, None]

    def attention(self, x: Tensor) -> Tensor:
        """Softmax, over the edges that reach a node, of the inner products of both ends: (E,)."""
        scores = (x[self.source] * x[self.target]).sum(-1)
        top = scores.new_full((self.n,), -torch.inf).scatter_reduce(0, self.target, scores.detach(), "amax")
        exponential = torch.exp(scores - top[self.target])
        total = scores.new_zeros(self.n).index_add(0, self.target, exponential)
        return exponential / total[self.target]


class Branches(nn.Module):
    """Equation (1) of MambaRec: five branches of Conv2d, each with BatchNorm and ReLU, concatenated."""

    def __init__(self, channels: int):
        super().__init__()
        dilated = [nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS]
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 1), *dilated, nn.Conv2d(channels, channels, 1)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in self.convs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 5C, H, W)."""
        pooled = nn.AdaptiveAvgPool2d(1)(x)
        outputs = [
            torch.relu(norm(conv(pooled if conv is self.convs[-1] else x)))
            for conv, norm in zip(self.convs, self.norms, strict=True)
        ]
        outputs[-1] = F.interpolate(outputs[-1], size=x.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat(outputs, 1)

    @torch.no_grad()
    def load(self, branches: MultiScaleBranches) -> None:
        """Take the parameters of the fast form; a kernel of which it holds the centre alone is zero elsewhere."""
        norms = zip(branches.norm.weight.chunk(5), branches.norm.bias.chunk(5), strict=True)
        for conv, norm, weight, bias, (scale, shift) in zip(
            self.convs, self.norms, branches.weights, branches.bias, norms, strict=True
        ):
            margin = (conv.weight.shape[-1] - weight.shape[-1]) // 2
            conv.weight.copy_(F.pad(weight, [margin] * 4))
            conv.bias.copy_(bias)
            norm.weight.copy_(scale)
            norm.bias.copy_(shift)


class DREAM(nn.Module):
    """mambarec.nn.dream.DREAM with Conv2d throughout, as equations (1)-(6) have it."""

    def __init__(self, channels: int, height: int, width: int, out_dim: int, attention_reduction: int = 16):
        super().__init__()
        self.shape, total = (channels, height, width), 5 * channels
        hidden = max(1, total // attention_reduction)
        self.branches = Branches(channels)
        self.squeeze = nn.Conv2d(total, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, total, 1, bias=False)
        self.spatial = nn.Conv2d(1, 1, 1)
        on_map = height * width > 1
        self.project = nn.Conv2d(total, channels if on_map else out_dim, 1)
        self.output = nn.Linear(channels * height * width, out_dim) if on_map else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C*H*W) -> (N, out_dim)."""
        maps = self.branches(x.view(-1, *self.shape))  # (N, 5C, H, W)
        channel = torch.sigmoid(self.excite(torch.relu(self.squeeze(nn.AdaptiveAvgPool2d(1)(maps)))))  # (2)
        spatial = torch.sigmoid(self.spatial(maps.mean(1, keepdim=True)))  # (4)
        fused = torch.max(maps * channel, maps * spatial)  # (3), (5), (6)
        return self.output(self.project(fused).flatten(1))


class ReleasedDREAM(nn.Module):
    """The published code on maps (N, D, 1, 1); one call, of which it makes two a step."""

    def __init__(self, dim: int):
        super().__init__()
        self.branches = Branches(dim)
        self.channel = nn.Conv2d(5 * dim, 1, 1, bias=False)
        self.spatial = nn.Conv2d(5 * dim, 1, 1, bias=False)
        self.project, self.norm = nn.Conv2d(5 * dim, dim, 1), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, D) -> (N, D)."""
        maps = self.branches(x[:, :, None, None])
        by_channel = maps * torch.relu(self.channel(nn.AdaptiveAvgPool2d(1)(maps)))
        by_place = maps * torch.sigmoid(self.spatial(maps))
        return torch.relu(self.norm(self.project(torch.max(by_channel, by_place) * maps))).flatten(1)


@torch.no_grad()
def load_dream(plain: nn.Module, fast: nn.Module) -> nn.Module:
    """Give a plain DREAM, of either kind, the parameters of a fast one."""
    plain.branches.load(fast.branches)  # type: ignore[operator, union-attr]
    own = dict(plain.named_parameters())
    for name, parameter in fast.named_parameters():
        if not name.startswith("branches"):
            own[name].copy_(parameter.view_as(own[name]))
    return plain
