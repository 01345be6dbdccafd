"""LightGCN: mean of the layers of a linear graph convolution over the user-item graph.

He et al., SIGIR 2020, arXiv 2002.02126. Departs from the paper: norms in place of squared norms as the regulariser, as MMRec
has it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.graph import SparseGraph, normalized_adjacency, propagate_mean
from mambarec.nn.loss import BPRLoss, EmbLoss


class LightGCNSettings(Settings):
    """The keys of LightGCN."""

    n_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)


class LightGCN(GeneralRecommender):
    """Scores are inner products of propagated embeddings, U users, I items, D embedding_size."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.n_layers = config["n_layers"]
        self.reg_weight = config["reg_weight"]
        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, config["embedding_size"])))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, config["embedding_size"])))
        self.adjacency = SparseGraph(normalized_adjacency(dataloader.inter_matrix("coo")))
        self.bpr_loss, self.reg_loss = BPRLoss(), EmbLoss()

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors after propagation."""
        embeddings = torch.cat((self.user_embedding, self.item_embedding))  # (U+I, D)
        users, items = propagate_mean(self.adjacency, embeddings, self.n_layers).split((self.n_users, self.n_items))
        return users, items

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR on propagated vectors + reg_weight * EmbLoss on the embeddings of a batch (3, B); shape (1,)."""
        users, items = self.representations()
        user, positive, negative = interaction
        pos_score = (F.embedding(user, users) * F.embedding(positive, items)).sum(-1)  # (B,)
        neg_score = (F.embedding(user, users) * F.embedding(negative, items)).sum(-1)
        layer_0 = (
            F.embedding(user, self.user_embedding),
            F.embedding(positive, self.item_embedding),
            F.embedding(negative, self.item_embedding),
        )
        return self.bpr_loss(pos_score, neg_score) + self.reg_weight * self.reg_loss(*layer_0)
