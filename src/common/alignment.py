"""Distances between the vectors of two modalities: maximum mean discrepancy and InfoNCE. Usable by themselves."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mmd(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Squared maximum mean discrepancy of the L2-normalised rows of x and y, with a Gaussian kernel.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)), biased (the diagonal is
    kept). Equations (7)-(9) of MambaRec (arXiv 2509.09114); Gretton et al., JMLR 2012.

    x (B, D), y (B', D) -> scalar. On unit vectors |a - b|^2 = 2 - 2 <a, b>, so three products suffice.
    """
    x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp((a @ b.T - 1) / bandwidth**2).mean()  # (B, B') -> scalar

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


def info_nce(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """InfoNCE: row i of x against row i of y, the other rows of y as negatives; cosine similarity over temperature.

    Mean of -log(exp(s_ii) / sum_j exp(s_ij)), van den Oord et al., arXiv 1807.03748; equation (10) of MambaRec.
    x, y: (B, D) -> scalar.
    """
    similarity = F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T / temperature  # (B, B)
    return F.cross_entropy(similarity, torch.arange(len(x), device=x.device))
