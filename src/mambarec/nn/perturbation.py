"""Random noise on vectors, from which contrasts make two views of one representation."""

import torch.nn.functional as F
from torch import Tensor


def perturb(vectors: Tensor, uniform: Tensor, strength: float) -> Tensor:
    """Vectors (..., D), each moved by a random vector of length `strength` that lies in its own orthant.

    x + strength * sign(x) * n / |n| (Yu et al., SIGIR 2022, arXiv 2112.08679). uniform: the n, (..., D), drawn from [0, 1).
    """
    return vectors + strength * vectors.detach().sign() * F.normalize(uniform, dim=-1)
