"""LightGCN: mean of the layers of a linear graph convolution over the user-item graph.

He et al., SIGIR 2020, arXiv 2002.02126. Departs from the paper: norms in place of squared norms as the regulariser, as MMRec
has it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.graph import SparseGraph, normalized_adjacency, propagate_mean
from mambarec.nn.loss import BPRLoss, EmbLoss
from mambarec.nn.sampled import Batch, NeighbourSampler, SampledPropagation, SampledSettings, propagate_blocks, sampling_of


class LightGCNSettings(SampledSettings):
    """The keys of LightGCN."""

    n_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)


class LightGCN(GeneralRecommender):
    """Scores are inner products of propagated embeddings, U users, I items, D embedding_size."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.n_layers = config["n_layers"]
        self.whole_batch = config["train_batch_size"]
        self.reg_weight = config["reg_weight"]
        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, config["embedding_size"])))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, config["embedding_size"])))
        self.adjacency = SparseGraph(normalized_adjacency(dataloader.inter_matrix("coo")))
        self.bpr_loss, self.reg_loss = BPRLoss(), EmbLoss()
        self.sampling = sampling_of(config)
        self.sampler = NeighbourSampler(self.adjacency) if self.sampling else None

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors after propagation."""
        if self.sampling and not self.training:
            return propagate_blocks(self.adjacency, self.user_embedding, self.item_embedding, self.n_layers)
        embeddings = torch.cat((self.user_embedding, self.item_embedding))  # (U+I, D)
        users, items = propagate_mean(self.adjacency, embeddings, self.n_layers).split((self.n_users, self.n_items))
        return users, items

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR on propagated vectors + reg_weight * EmbLoss on the embeddings of a batch (3, B); shape (1,)."""
        embedded = self.user_embedding, self.item_embedding
        return self._bpr(interaction, *self.representations()) + self.reg_weight * self._penalty(interaction, *embedded)

    def sample(self, interaction: Tensor, generator) -> SampledPropagation:
        """The sampled layers of a batch (3, B)."""
        return SampledPropagation.draw(
            Batch.of(interaction), self.sampler, self.n_users, self.n_layers, self.sampling, generator
        )

    def sampled_loss(self, sample: SampledPropagation) -> Tensor:
        """calculate_loss with vectors propagated over the sampled layers."""
        read = sample.read(self.user_embedding, self.item_embedding)
        propagated, embedded = (vectors.split(sample.sizes) for vectors in (read.propagated, read.embedded))
        # Each of several processes has a part of the batch. A norm shrinks with the root of its rows, and EmbLoss divides by
        # their number.
        weight = self.reg_weight * (self.batch_size / self.whole_batch) ** 0.5
        return self._bpr(sample.interaction, *propagated) + weight * self._penalty(sample.interaction, *embedded)

    def _bpr(self, interaction: Tensor, users: Tensor, items: Tensor) -> Tensor:
        user, positive, negative = interaction
        pos_score = (F.embedding(user, users) * F.embedding(positive, items)).sum(-1)  # (B,)
        neg_score = (F.embedding(user, users) * F.embedding(negative, items)).sum(-1)
        return self.bpr_loss(pos_score, neg_score)

    def _penalty(self, interaction: Tensor, users: Tensor, items: Tensor) -> Tensor:
        user, positive, negative = interaction
        return self.reg_loss(F.embedding(user, users), F.embedding(positive, items), F.embedding(negative, items))
