"""Distances between the vectors of two modalities: maximum mean discrepancy and InfoNCE. Usable by themselves.

Both compare every row with every row. The (B, B') comparison is made in blocks of rows that stay in the processor's cache, and
the gradient of a block is formed while it is there, so B x B' values are neither held nor read again. A batch names popular
items and active users many times: `distinct` names each once, and the distances take how often it stands there, which
gives the same value for a fraction of the work. Second derivatives are not available. benchmarks/plain.py has the plain forms.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mambarec.nn.precision import in_float32

_BLOCK_ROWS, _PART_ROWS = 256, 512  # on the CPU: of x that are taken at a time, and of y that they meet at a time
_SAFE_EXPONENT = 40.0  # exp of what is no larger, and sums of it, are far from the limits of float32
_BLOCK_ENTRIES = 2**28  # on a GPU, which takes all rows of a batch at once, but not all users against all users


class Distinct(NamedTuple):
    """A batch of ids (B,) by its distinct values (N,): inverse (B,) leads back to the batch; counts int64 (N,).

    inverse and counts are None where the batch stands as it is.
    """

    values: Tensor
    inverse: Tensor | None
    counts: Tensor | None

    def expand(self, rows: Tensor) -> Tensor:
        """Rows of the distinct values, (N, D), as rows of the batch, (B, D)."""
        return rows if self.inverse is None else F.embedding(self.inverse, rows)


def distinct(batch: Tensor) -> Distinct:
    """The distinct values of int64 (B,). On a GPU the batch as it is: to count would be to wait for the device."""
    if batch.is_cuda:
        return Distinct(batch, None, None)
    values, inverse, counts = batch.unique(return_inverse=True, return_counts=True)
    return Distinct(values, inverse, counts)


@in_float32
def mmd(
    x: Tensor,
    y: Tensor,
    bandwidth: float,
    x_counts: Tensor | None = None,
    y_counts: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """Squared maximum mean discrepancy of the L2-normalised rows of x and y, with a Gaussian kernel.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)), biased (the diagonal is
    kept). Equations (7)-(9) of MambaRec (arXiv 2509.09114); Gretton et al., JMLR 2012.

    x (B, D), y (B', D) -> scalar. x_counts (B,), y_counts (B',): how often each row stands in its set; None: once. normalize:
    False leaves rows as they are. On unit vectors |a - b|^2 = 2 - 2 <a, b>, so products suffice.
    """
    if normalize:
        x, y = unit(x), unit(y)
    x_weights, y_weights = _shares(x, x_counts), _shares(y, y_counts)

    def kernel(a: Tensor, b: Tensor, a_weights: Tensor, b_weights: Tensor) -> Tensor:
        if not normalize:  # two more columns, with which 2 - 2 <a, b> is |a - b|^2 again
            half_a, half_b = (rows.square().sum(1, keepdim=True) / 2 for rows in (a, b))
            a, b = torch.cat((a, -half_a, torch.ones_like(half_a)), 1), torch.cat((b, torch.ones_like(half_b), 1 - half_b), 1)
        return _MeanKernel.apply(a, b, a_weights, b_weights, 1 / bandwidth**2)

    same = kernel(x, x, x_weights, x_weights) + kernel(y, y, y_weights, y_weights)
    return same - 2 * kernel(x, y, x_weights, y_weights)


@in_float32
def info_nce(
    x: Tensor,
    y: Tensor,
    temperature: float,
    x_counts: Tensor | None = None,
    y_counts: Tensor | None = None,
    targets: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """InfoNCE: row i of x against row i of y, the other rows of y as negatives; cosine similarity over temperature.

    Mean of -log(exp(s_ii) / sum_j exp(s_ij)), van den Oord et al., arXiv 1807.03748; equation (10) of MambaRec.
    x (B, D), y (B', D) -> scalar. x_counts (B,), y_counts (B',): how often each row stands in its set; None: once. targets:
    int64 (B,), the rows of y to use in place of row i. normalize: False leaves rows as they are, for inner products.
    """
    targets = torch.arange(len(x), device=x.device) if targets is None else targets
    if normalize:
        x, y = unit(x), unit(y)
    counts = y.new_ones(len(y)) if y_counts is None else y_counts.to(y.dtype)
    bound = 1 / temperature if normalize else None
    return _CrossEntropy.apply(x / temperature, y, targets, _shares(x, x_counts), counts, bound)


def unit(rows: Tensor) -> Tensor:
    """F.normalize of rows (N, D), whose gradient is made in fewer passes; second derivatives are not available."""
    return _Unit.apply(rows)


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=1e-12)
        result = rows / lengths
        ctx.save_for_backward(result, lengths)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        result, lengths = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, result).unsqueeze(1)  # (N, 1)
        return torch.addcmul(grad, result, along, value=-1).div_(lengths)


def _shares(rows: Tensor, counts: Tensor | None) -> Tensor:
    """Each row's share (B,) of its set."""
    counts = rows.new_ones(len(rows)) if counts is None else counts.to(rows.dtype)
    return counts / counts.sum()


def _row_blocks(x: Tensor, n_columns: int) -> list[slice]:
    size = max(1, _BLOCK_ENTRIES // n_columns) if x.is_cuda else _BLOCK_ROWS
    return [slice(start, start + size) for start in range(0, len(x), size)]


class _MeanKernel(torch.autograd.Function):
    """Weighted sum over all pairs of exp(sharpness * (<a_i, b_j> - 1)): a (B, D), b (B', D), weights (B,) and (B',)."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, a_weights: Tensor, b_weights: Tensor, sharpness: float) -> Tensor:
        with_gradient, symmetric = any(ctx.needs_input_grad), a is b
        total, scaled = a.new_zeros(()), b.T * sharpness  # (D, B')
        weighted_a, weighted_b = a * a_weights[:, None], b * b_weights[:, None]
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        for rows in _row_blocks(a, len(b)):
            kernel = torch.addmm(a.new_full((), -sharpness), a[rows], scaled).exp_()  # (rows, B')
            total += a_weights[rows] @ (kernel @ b_weights)
            if with_gradient:
                torch.mm(kernel, weighted_b, out=grad_a[rows])
                if not symmetric:
                    grad_b.addmm_(kernel.T, weighted_a[rows])
        grad_a *= a_weights[:, None]
        if symmetric:
            grad_b = grad_a  # the same by symmetry; autograd adds the two
        else:
            grad_b *= b_weights[:, None]
        ctx.save_for_backward(grad_a, grad_b)
        ctx.sharpness = sharpness
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        grad_a, grad_b = ctx.saved_tensors
        factor = grad * ctx.sharpness
        return grad_a * factor, grad_b * factor, None, None, None


class _CrossEntropy(torch.autograd.Function):
    """Weighted sum over i of log(sum_j counts_j exp(<x_i, y_j>)) - <x_i, y_targets[i]>: x (B, D), y (B', D).

    bound: no product is larger; None: not known. A block of rows meets y in parts, so that the products of a part are in the
    cache while they are used.
    """

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, targets: Tensor, weights: Tensor, counts: Tensor, bound: float | None) -> Tensor:
        with_gradient, shifts = any(ctx.needs_input_grad), bound is None or bound > _SAFE_EXPONENT
        partners, weighted = F.embedding(targets, y), x * weights[:, None]  # (B, D) each
        grad_x, grad_y = torch.zeros_like(x), torch.zeros_like(y)
        n = len(y) if y.is_cuda else _PART_ROWS
        parts = list(zip(y.split(n), counts.split(n), (y * counts[:, None]).split(n), grad_y.split(n), strict=True))
        blocks = _row_blocks(x, len(y))
        buffers = [x.new_empty(min(len(x), blocks[0].stop), len(part)) for part, *_ in parts]

        total = -(weighted * partners).sum()
        for rows in blocks:
            block = x[rows]
            sums, of_block = x.new_zeros(len(block)), grad_x[rows] if with_gradient else None
            products = [buffer[: len(block)] for buffer in buffers]  # (rows, part) each
            for product, (part, count, counted, _) in zip(products, parts, strict=True):
                torch.mm(block, part.T, out=product)
                if not shifts:
                    _add_exponentials(product, count, counted, sums, of_block)
            if shifts:
                largest = torch.stack([product.amax(1) for product in products]).amax(0)  # (rows,)
                for product, (_, count, counted, _) in zip(products, parts, strict=True):
                    _add_exponentials(product.sub_(largest[:, None]), count, counted, sums, of_block)
                total += weights[rows] @ largest
            total += weights[rows] @ sums.log()
            if of_block is not None:
                share = (weights[rows] / sums)[:, None]
                of_block *= share
                scaled = block * share
                for product, (*_, of_part) in zip(products, parts, strict=True):
                    of_part.addmm_(product.T, scaled)
        if with_gradient:
            grad_x -= weights[:, None] * partners
            grad_y *= counts[:, None]
            grad_y.index_add_(0, targets, -weighted)
        ctx.save_for_backward(grad_x, grad_y)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        grad_x, grad_y = ctx.saved_tensors
        return grad_x * grad, grad_y * grad, None, None, None, None


def _add_exponentials(product: Tensor, counts: Tensor, counted: Tensor, sums: Tensor, grad: Tensor | None) -> None:
    """exp of products (B, N), in place; adds their sums weighed by counts (N,) to sums (B,), by counted (N, D) to grad."""
    sums.addmv_(product.exp_(), counts)
    if grad is not None:
        grad.addmm_(product, counted)
