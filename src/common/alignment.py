"""Distances between the vectors of two modalities: maximum mean discrepancy and InfoNCE. Usable by themselves.

Both compare every row with every row. The (B, B') comparison is made in blocks of rows that stay in the processor's cache, and
the gradient of a block is formed while it is there, so B x B' values are neither held nor read again. Second derivatives
are not available. tests/common/test_alignment.py has the plain forms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK_ROWS = 128  # on the CPU; a GPU takes all rows at once


def mmd(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Squared maximum mean discrepancy of the L2-normalised rows of x and y, with a Gaussian kernel.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)), biased (the diagonal is
    kept). Equations (7)-(9) of MambaRec (arXiv 2509.09114); Gretton et al., JMLR 2012.

    x (B, D), y (B', D) -> scalar. On unit vectors |a - b|^2 = 2 - 2 <a, b>, so products suffice.
    """
    x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    sharpness = 1 / bandwidth**2
    return _MeanKernel.apply(x, x, sharpness) + _MeanKernel.apply(y, y, sharpness) - 2 * _MeanKernel.apply(x, y, sharpness)


def info_nce(x: Tensor, y: Tensor, temperature: float, targets: Tensor | None = None, normalize: bool = True) -> Tensor:
    """InfoNCE: row i of x against row i of y, the other rows of y as negatives; cosine similarity over temperature.

    Mean of -log(exp(s_ii) / sum_j exp(s_ij)), van den Oord et al., arXiv 1807.03748; equation (10) of MambaRec.
    x (B, D), y (B', D) -> scalar. targets: int64 (B,), the rows of y to use in place of row i. normalize: False leaves
    rows as they are, and compares by inner products.
    """
    targets = torch.arange(len(x), device=x.device) if targets is None else targets
    if normalize:
        x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    return _CrossEntropy.apply(x / temperature, y, targets)


def _row_blocks(x: Tensor) -> list[slice]:
    size = len(x) if x.is_cuda else _BLOCK_ROWS
    return [slice(start, start + size) for start in range(0, len(x), size)]


class _MeanKernel(torch.autograd.Function):
    """Mean over all pairs of exp(sharpness * (<a_i, b_j> - 1)), a (B, D), b (B', D)."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, sharpness: float) -> Tensor:
        with_gradient, symmetric = any(ctx.needs_input_grad), a is b
        total, scaled = a.new_zeros(()), b.T * sharpness  # (D, B')
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        for rows in _row_blocks(a):
            kernel = torch.addmm(a.new_tensor(-sharpness), a[rows], scaled).exp_()  # (rows, B')
            total += kernel.sum()
            if with_gradient:
                torch.mm(kernel, b, out=grad_a[rows])
                if not symmetric:
                    grad_b.addmm_(kernel.T, a[rows])
        pairs = len(a) * len(b)
        if symmetric:
            grad_b = grad_a  # the same by symmetry; autograd adds the two
        ctx.save_for_backward(grad_a, grad_b)
        ctx.scale = sharpness / pairs
        return total / pairs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        grad_a, grad_b = ctx.saved_tensors
        factor = grad * ctx.scale
        return grad_a * factor, grad_b * factor, None


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of the products x_i y_j, (B, B'), against j = targets[i]."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, targets: Tensor) -> Tensor:
        with_gradient = any(ctx.needs_input_grad)
        total = x.new_zeros(())
        grad_x, grad_y = torch.empty_like(x), torch.zeros_like(y)
        for rows in _row_blocks(x):
            probability = torch.log_softmax(x[rows] @ y.T, dim=1)  # (rows, B'), still its logarithm
            target = targets[rows, None]
            total -= probability.gather(1, target).sum()
            if with_gradient:
                probability.exp_().scatter_add_(1, target, probability.new_full(target.shape, -1.0))
                torch.mm(probability, y, out=grad_x[rows])
                grad_y.addmm_(probability.T, x[rows])
        ctx.save_for_backward(grad_x, grad_y)
        return total / len(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        grad_x, grad_y = ctx.saved_tensors
        factor = grad / len(grad_x)
        return grad_x * factor, grad_y * factor, None
