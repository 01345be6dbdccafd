"""DRAGON: a graph net for each modality over the user-item graph, then a user-user and an item-item graph.

Zhou et al., *Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation*, ECAI 2023, arXiv 2301.12097.
Departs from the paper, as the authors' code does: BPR has the logarithm to base 2, and the weights of a user's modalities start
from a softmax and are then trained freely. Departs from that code: a user with few neighbours keeps the list that it has, where
the code extends it at random (`user_graph_pad: resample`), and evaluation uses the parameters, where the code uses the vectors
of the last training step (`evaluate_on: last_forward`).
U users, I items, B batch, D embedding_size, D_m width of a raw feature, M modalities.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.loss import bpr_logistic, mean_square
from common.preference import PreferenceNet, PreferenceRecommender, modality_weights, weigh
from common.user_graph import UserGraph
from utils.graph import SparseGraph, frozen_item_graph, normalized_adjacency

N_LAYERS = 2  # over the user-item graph; fixed in the authors' code


class DRAGON(PreferenceRecommender):
    """Scores are inner products of the modalities' vectors side by side, M D wide. The features stay fixed."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = self.feature_dim(config)
        self.reg_weight, self.n_mm_layers = config["reg_weight"], config["n_mm_layers"]
        features, interactions = self.require_features(), dataloader.inter_matrix("csr")
        self.nets = nn.ModuleDict({m: PreferenceNet(self.n_users, table.shape[1], dim) for m, table in features.items()})
        self.weights = modality_weights(self.n_users, len(features)) if len(features) > 1 else None
        self.remember(len(features) * dim)

        self.adjacency = SparseGraph(normalized_adjacency(interactions))
        self.item_graph = SparseGraph(frozen_item_graph(features, config["knn_k"], config["mm_image_weight"]))
        self.user_graph = UserGraph(interactions, config["user_graph_k"], config["user_graph_pad"])

    def pre_epoch_processing(self) -> None:
        """Extend short lists of neighbours, where `user_graph_pad` asks for it."""
        self.user_graph.resample(self.device)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """User (U, M D) and item (I, M D) vectors."""
        layer = total = torch.cat([self.nets[m](table) for m, table in self.features.items()], 1)  # (U+I, M D)
        for _ in range(N_LAYERS):
            layer = self.adjacency(layer)
            total = total + layer
        users, items = total.split((self.n_users, self.n_items))
        view = items
        for _ in range(self.n_mm_layers):
            view = self.item_graph(view)
        users = users if self.weights is None else weigh(users, self.weights)
        return self.user_graph(users), items + view

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR, and reg_weight * mean squares of preferences and weights, on a batch (3, B); a scalar."""
        users, items = self.vectors()
        self.keep(users, items)
        user, pairs = F.embedding(interaction[0], users), interaction[1:].flatten()  # (B, M D), (2B,)
        bpr = bpr_logistic(user, *F.embedding(pairs, items).chunk(2)) / math.log(2)
        return bpr + self.reg_weight * self.penalty(interaction[0])

    def penalty(self, users: Tensor) -> Tensor:
        """Mean squares of the preferences of a batch's users (B,), in each modality, and of all weights; a scalar."""
        total = sum(mean_square(users, net.preference) for net in self.nets.values())
        return total if self.weights is None else total + self.weights.square().mean()
