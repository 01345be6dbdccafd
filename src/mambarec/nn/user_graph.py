"""The user-user graph of DRAGON and COHESION: each user's neighbours are those who share most training items with them."""

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.graph import SparseGraph, most_shared

_PLACES = 2**24  # of the extended lists that are drawn at a time


class UserGraphSettings(Settings):
    """The keys of models with a user-user graph."""

    user_graph_k: int = key("Neighbours of a user in the user-user graph.", gt=0, le=10**6)
    user_graph_pad: Literal["none", "resample"] = key(
        "Lists of fewer neighbours than user_graph_k stay short (none), or are extended at random in each epoch (resample)."
    )


class UserGraph(nn.Module):
    """Adds to each user's vector the weighted mean of its neighbours' (Zhou et al., arXiv 2301.12097).

    The neighbours are the k other users who share most training items, equal ones by number. The weights are the softmax of
    how many they share. A user who shares nothing with anyone gets nothing added. U users, D width of a vector.
    """

    def __init__(self, interactions: sp.spmatrix, k: int, pad: str):
        """interactions: training pairs (U, I). pad: what `resample` does with lists shorter than k; `none`: nothing."""
        super().__init__()
        self.k, self.pad = k, pad
        self.offsets, self.neighbours, counts = most_shared(interactions, k)
        self.sizes = np.diff(self.offsets)
        self.users = np.repeat(np.arange(len(self.sizes)), self.sizes)  # the user of each entry
        first = np.minimum(self.offsets[:-1], max(len(counts) - 1, 0))
        self.exponentials = np.exp(counts - counts[first][self.users]) if len(counts) else counts.astype(float)
        self.graph = SparseGraph(self._weighted(self.exponentials))
        self.train_graph = self.graph

    def resample(self, device: torch.device) -> None:
        """With pad `resample`, extend the lists shorter than k for an epoch: entries drawn from the growing list repeat.

        An entry that then stands there r times weighs r times as much. Without it, or where no list is short, nothing is drawn.
        """
        short = np.flatnonzero((self.sizes > 0) & (self.sizes < self.k))
        if self.pad == "none" or not len(short):
            return
        repeats = np.where(self.sizes[self.users] < self.k, 0, 1)
        size = max(1, _PLACES // self.k)
        for start in range(0, len(short), size):
            self._count_repeats(short[start : start + size], repeats)
        self.train_graph = SparseGraph(self._weighted(self.exponentials * repeats)).to(device)

    def _count_repeats(self, users: np.ndarray, repeats: np.ndarray) -> None:
        """Draw the lists of some users (S,) whose own are short; adds to repeats (E,) how often each entry stands there."""
        entries = np.tile(np.arange(self.k), (len(users), 1))  # (S, k), the place in the list that each place repeats
        drawn = (torch.rand(self.k, len(users), dtype=torch.float64).numpy() * np.arange(self.k)[:, None]).astype(np.int64)
        rows = np.arange(len(users))
        for place in range(1, self.k):
            entries[:, place] = np.where(place < self.sizes[users], place, entries[rows, drawn[place]])
        repeats += np.bincount((self.offsets[users][:, None] + entries).ravel(), minlength=len(self.users))

    def forward(self, users: Tensor) -> Tensor:
        """users: (U, D) -> (U, D). The extended lists count in training, the lists as they are at evaluation."""
        return users + (self.train_graph if self.training else self.graph)(users)

    def _weighted(self, weights: np.ndarray) -> sp.csr_matrix:
        """The matrix (U, U) with these weights of the entries, each row divided by its sum."""
        n_users = len(self.sizes)
        total = np.bincount(self.users, weights, minlength=n_users)
        return sp.csr_matrix((weights / total[self.users], self.neighbours, self.offsets), shape=(n_users, n_users))
