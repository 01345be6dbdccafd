"""COHESION: nets of ids and of each modality that mix ids into the features first, then a user-user and an item-item graph.

Xu et al., *COHESION: Composite Graph Convolutional Network with Dual-Stage Fusion for Multimodal Recommendation*, SIGIR 2025,
arXiv 2504.04452. Departs from the paper, as the authors' code does: BPR has the logarithm to base 2, the weight of a modality
in the loss has no gradient, and the net of the ids is not trained (`train_id: true` trains it). Departs from that code:
evaluation uses the parameters and every training pair, where the code uses the vectors of the last training step (`evaluate_on:
last_forward`), and a user with few neighbours keeps the list that it has (`user_graph_pad: resample` extends it). The code has
weights of the modalities that enter nothing but their own penalty; they are left out.
U users, I items, B batch, E training pairs, D embedding_size, M modalities.
"""

import math

import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.graph import SparseGraph, draw_pairs, normalized_adjacency
from mambarec.nn.preference import PreferenceNet, PreferenceRecommender, PreferenceSettings
from mambarec.nn.user_graph import UserGraph, UserGraphSettings


class COHESIONSettings(PreferenceSettings, UserGraphSettings):
    """The keys of COHESION."""

    num_layer: int = key("Layers of the user-item graph.", ge=0, le=1000)
    dropout: float = key("Share of the training pairs that an epoch's graph leaves out.", ge=0, lt=1)
    train_id: bool = key("Whether the net of the ids is trained.")


class COHESION(PreferenceRecommender):
    """Scores are inner products of [id; each modality], (1 + M) D wide. The features stay fixed."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader, ids=True, weighted=False)
        self.n_layers, self.dropout = config["num_layer"], config["dropout"]
        self.item_ids = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.n_items, self.dim)))
        self.id_net = PreferenceNet(self.n_users, self.dim, self.dim).requires_grad_(config["train_id"])
        self.train_id = config["train_id"]

        self.interactions = dataloader.inter_matrix("csr")
        self.train_adjacency = self.adjacency
        self.user_graph = UserGraph(self.interactions, config["user_graph_k"], config["user_graph_pad"])

    def pre_epoch_processing(self) -> None:
        """Draw the pairs of the epoch's graph, and extend short lists of neighbours where `user_graph_pad` asks for it."""
        if self.dropout:
            self.train_adjacency = SparseGraph(normalized_adjacency(self.drawn_pairs())).to(self.device)
        self.user_graph.resample(self.device)

    def drawn_pairs(self) -> sp.csr_matrix:
        """The training pairs of an epoch's graph, CSR (U, I)."""
        return draw_pairs(self.interactions, max(1, int((1 - self.dropout) * self.interactions.nnz)))

    def vectors(self) -> tuple[Tensor, Tensor]:
        """User (U, (1 + M) D) and item (I, (1 + M) D) vectors."""
        with torch.set_grad_enabled(self.train_id and torch.is_grad_enabled()):
            ids = self.propagate([self.id_net(self.item_ids, self.item_ids)])
        modal = self.propagate(self.starts(self.nets, self.item_ids))
        users, items = self.split(torch.cat((ids, modal), 1))
        return self.user_graph(users), items

    def propagate(self, starts: list[Tensor]) -> Tensor:
        """The sum of the layers of N nets, each layer weighed by its cosine with the first: N (U+I, D) -> (U+I, N D)."""
        first = layer = total = torch.stack(starts, 1)  # (U+I, N, D)
        adjacency = self.train_adjacency if self.training else self.adjacency
        for _ in range(self.n_layers):
            layer = adjacency(layer.flatten(1)).unflatten(1, (-1, self.dim))
            lengths = torch.linalg.vector_norm(layer, dim=2).clamp(min=1e-8)
            layer = ((layer * first).sum(2) / lengths).unsqueeze(2) * layer  # the length of first is 1
            total = total + layer
        return total.flatten(1)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR whose blocks weigh more where they rank worse, and mean squares of preferences, on a batch (3, B); a scalar."""
        users, items = self.vectors()
        self.keep(users, items)
        user, pairs = F.embedding(interaction[0], users), interaction[1:].flatten()  # (B, (1 + M) D), (2B,)
        positive, negative = F.embedding(pairs, items).chunk(2)
        margins = (user * (positive - negative)).unflatten(1, (-1, self.dim)).sum(2)  # (B, 1 + M)
        weights = 1 - torch.softmax(margins.detach(), 1)
        bpr = F.softplus(-(weights * margins).sum(1)).mean() / math.log(2)
        return bpr + self.reg_weight * self.penalty(interaction[0])
