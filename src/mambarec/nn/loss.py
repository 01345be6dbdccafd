"""Losses that recommendation models share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BPRLoss(nn.Module):
    """Bayesian personalised ranking, -mean log(gamma + sigmoid(pos - neg)) (Rendle et al., UAI 2009, arXiv 1205.2618).

    The small gamma bounds the loss, and the gradient, where the negative is far ahead.
    """

    def __init__(self, gamma: float = 1e-10):
        super().__init__()
        self.gamma = gamma

    def forward(self, pos_score: Tensor, neg_score: Tensor) -> Tensor:
        """pos_score, neg_score: (B,). Returns a scalar."""
        return -torch.log(self.gamma + torch.sigmoid(pos_score - neg_score)).mean()


class EmbLoss(nn.Module):
    """Sum of the norms of the embeddings (norms, not squares), over the number of rows of the last one."""

    def __init__(self, norm: int = 2):
        super().__init__()
        self.norm = norm

    def forward(self, *embeddings: Tensor) -> Tensor:
        """embeddings: any number of (B, D). Returns a tensor of shape (1,), as MMRec's does."""
        total = torch.stack([torch.norm(embedding, p=self.norm) for embedding in embeddings]).sum()
        return (total / embeddings[-1].shape[0]).reshape(1)


class L2Loss(nn.Module):
    """Half the sum of squares of all embeddings."""

    def forward(self, *embeddings: Tensor) -> Tensor:
        """embeddings: any number of tensors. Returns a tensor of shape (1,)."""
        return torch.stack([embedding.square().sum() for embedding in embeddings]).sum().reshape(1) * 0.5


def mean_square(rows: Tensor, table: Tensor) -> Tensor:
    """Mean of the squares of some rows (B,) of a table (N, D); a scalar."""
    return F.embedding(rows, table).square().mean()


def bpr_logistic(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """BPR as -mean logsigmoid(<user, positive> - <user, negative>), three (B, D) -> scalar: BPRLoss without its bound."""
    return F.softplus((user * negative).sum(-1) - (user * positive).sum(-1)).mean()
