"""DRAGON: a graph net for each modality over the user-item graph, then a user-user and an item-item graph.

Zhou et al., *Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation*, ECAI 2023, arXiv 2301.12097.
Departs from the paper, as the authors' code does: BPR has the logarithm to base 2, and the weights of a user's modalities start
from a softmax and are then trained freely. Departs from that code: a user with few neighbours keeps the list that it has, where
the code extends it at random (`user_graph_pad: resample`), and evaluation uses the parameters, where the code uses the vectors
of the last training step (`evaluate_on: last_forward`).
U users, I items, B batch, D embedding_size, M modalities.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mambarec.nn.loss import bpr_logistic
from mambarec.nn.preference import PreferenceRecommender, PreferenceSettings
from mambarec.nn.user_graph import UserGraph, UserGraphSettings

N_LAYERS = 2  # over the user-item graph; fixed in the authors' code


class DRAGONSettings(PreferenceSettings, UserGraphSettings):
    """The keys of DRAGON."""


class DRAGON(PreferenceRecommender):
    """Scores are inner products of the modalities' vectors side by side, M D wide. The features stay fixed."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.user_graph = UserGraph(dataloader.inter_matrix("csr"), config["user_graph_k"], config["user_graph_pad"])

    def pre_epoch_processing(self) -> None:
        """Extend short lists of neighbours, where `user_graph_pad` asks for it."""
        self.user_graph.resample(self.device)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """User (U, M D) and item (I, M D) vectors."""
        layer = total = torch.cat(self.starts(self.nets), 1)  # (U+I, M D)
        for _ in range(N_LAYERS):
            layer = self.adjacency(layer)
            total = total + layer
        users, items = self.split(total)
        return self.user_graph(self.weighed(users)), items

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR, and reg_weight * mean squares of preferences and weights, on a batch (3, B); a scalar."""
        users, items = self.vectors()
        self.keep(users, items)
        user, pairs = F.embedding(interaction[0], users), interaction[1:].flatten()  # (B, M D), (2B,)
        bpr = bpr_logistic(user, *F.embedding(pairs, items).chunk(2)) / math.log(2)
        return bpr + self.reg_weight * self.penalty(interaction[0])
