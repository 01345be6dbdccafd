"""Ranking metrics from a hits matrix, one value per user and cut-off.

Every metric takes `hits` (N, K) bool, whether the k-th recommendation is relevant, and `n_relevant` (N,) int64, how
many relevant items the user has (at least 1), and returns (N, K) float64: column k-1 is the metric at cut-off k.
Definitions are MMRec's, so that published tables are comparable. The benchmark's figure is the mean over users.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def _ranks(hits: Tensor) -> Tensor:
    return torch.arange(1, hits.shape[1] + 1, device=hits.device, dtype=torch.float64)  # (K,)


def recall(hits: Tensor, n_relevant: Tensor) -> Tensor:
    """Share of the relevant items that are among the first k."""
    return hits.cumsum(1) / n_relevant[:, None].double()


def precision(hits: Tensor, n_relevant: Tensor) -> Tensor:
    """Share of the first k that are relevant."""
    return hits.cumsum(1) / _ranks(hits)


def ndcg(hits: Tensor, n_relevant: Tensor) -> Tensor:
    """Discounted gain 1 / log2(rank + 1), over that of the best possible list of min(k, n_relevant) hits."""
    discount = 1 / torch.log2(_ranks(hits) + 1)  # (K,)
    ideal = discount.cumsum(0)[_reachable(hits, n_relevant) - 1]  # (N, K)
    return (hits * discount).cumsum(1) / ideal


def average_precision(hits: Tensor, n_relevant: Tensor) -> Tensor:
    """Sum of the precision at each hit, over min(k, n_relevant); its mean over users is MAP."""
    return (hits * precision(hits, n_relevant)).cumsum(1) / _reachable(hits, n_relevant)


def hit_rate(hits: Tensor, n_relevant: Tensor) -> Tensor:
    """1 if any of the first k is relevant, else 0."""
    return (hits.cumsum(1) > 0).double()


def reciprocal_rank(hits: Tensor, n_relevant: Tensor) -> Tensor:
    """1 / rank of the first hit among the first k, 0 without one; its mean over users is MRR."""
    first = hits & (hits.cumsum(1) == 1)
    return (first / _ranks(hits)).cumsum(1)


def _reachable(hits: Tensor, n_relevant: Tensor) -> Tensor:
    """min(k, n_relevant) for every user and cut-off, (N, K) int64."""
    cutoffs = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return torch.minimum(cutoffs[None, :], n_relevant[:, None])


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "map": average_precision,
    "hitrate": hit_rate,
    "mrr": reciprocal_rank,
}
