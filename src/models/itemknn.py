"""ItemKNN: an item is recommended for its likeness to what the user has, by content or by the users that items share.

Sarwar et al., *Item-based Collaborative Filtering Recommendation Algorithms*, WWW 2001. Nothing is trained. `similarity:
interactions` is the cosine of the items' columns of the training pairs, at the k items that share most users; `content` that of
their raw features, at the k nearest, the mean over modalities. A user's score is the sum over those of them that the user has.
U users, I items, B batch.
"""

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.graph import SparseGraph, most_shared
from mambarec.nn.new_items import TrainingItems

Similarity = Literal["content", "interactions"]


class ItemKNNSettings(Settings):
    """The keys of ItemKNN."""

    similarity: Similarity = key("content: the cosine of the items' features. interactions: the cosine of the items' users.")
    knn_k: int = key("Neighbours of an item that count.", gt=0, le=10**6)


class ItemKNN(GeneralRecommender):
    """Scores are sums over the user's training items; there are no vectors and no parameters."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.interactions = dataloader.inter_matrix("csr")
        by = self._by_content if config["similarity"] == "content" else self._by_interactions
        similarity = by(config["knn_k"])
        self.similarity = SparseGraph(similarity)  # (I, I), a row for the neighbours of each item
        self.history = self.interactions.astype(np.float32)

    def _by_content(self, k: int) -> sp.csr_matrix:
        """Cosine of the k nearest training items in each modality, the mean over the modalities that an item has: (I, I)."""
        features, items = self.require_features(), torch.arange(self.n_items, device=self.device)
        trained = torch.from_numpy(np.flatnonzero(np.bincount(self.interactions.indices, minlength=self.n_items)))
        links = TrainingItems(features, trained.to(self.device), k, self.masks).link(features, self.masks, items)
        total = sp.csr_matrix((self.n_items, self.n_items))
        for modality, neighbour in links.neighbour.items():
            values = links.similarity[modality].flatten().cpu().numpy()
            offsets = np.arange(self.n_items + 1) * neighbour.shape[1]
            total = total + sp.csr_matrix((values, neighbour.flatten().cpu().numpy(), offsets), shape=total.shape)
        every = torch.ones(self.n_items, dtype=torch.bool, device=self.device)
        has = [self.masks.get(modality, every) for modality in features]
        n_modalities = torch.stack(has).sum(0).clamp(min=1).cpu().numpy()  # (I,)
        return sp.csr_matrix(sp.diags(1 / n_modalities) @ total)

    def _by_interactions(self, k: int) -> sp.csr_matrix:
        """Users that share two items over the root of the product of the users of each, at the k that share most: (I, I)."""
        offsets, neighbours, shared = most_shared(self.interactions.T, k)
        users = np.bincount(self.interactions.indices, minlength=self.n_items)
        rows = np.repeat(np.arange(self.n_items), np.diff(offsets))
        return sp.csr_matrix(
            (shared / np.sqrt(users[rows] * users[neighbours]), neighbours, offsets), shape=(self.n_items,) * 2
        )

    def full_sort_predict(self, interaction: list[Tensor]) -> Tensor:
        """Scores (B, I) of every item for the users interaction[0] (B,)."""
        history = torch.from_numpy(self.history[interaction[0].cpu().numpy()].toarray()).to(self.device)  # (B, I)
        return self.similarity(history.T.contiguous()).T.contiguous()
