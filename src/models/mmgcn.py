"""MMGCN: a graph convolution of its own for each modality, over the user-item graph.

Wei et al., *MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video*, MM 2019. Departs from
the paper, as MMRec does: the visual features alone are reduced first, and the regulariser is mean squares, of the id
embeddings and of the visual preferences. `train_embeddings: false` also leaves id embeddings and preferences as they were
drawn, which is what MMRec does.
U users, I items, B batch, D embedding_size, D_m width of a raw feature, W width that a net starts from.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.graph import SparseGraph, neighbour_mean
from mambarec.nn.loss import bpr_logistic, mean_square

N_LAYERS = 3  # fixed in MMRec, as is the next
VISUAL_WIDTH = 256


class MMGCNSettings(Settings):
    """The keys of MMGCN."""

    reg_weight: float = key("Weight of the penalty on id embeddings and preferences (L2).", ge=0)
    train_embeddings: bool = key("Whether id embeddings and preferences are trained.")


class MMGCN(GeneralRecommender):
    """Scores are inner products of the mean over the modalities' nets. The features stay fixed."""

    id_embedding: Tensor

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim, trained = config["embedding_size"], config["train_embeddings"]
        self.reg_weight = config["reg_weight"]
        features = self.require_features()

        interactions = dataloader.inter_matrix("csr")
        self.to_users = SparseGraph(neighbour_mean(interactions))  # (U, I), means over a user's items
        self.to_items = SparseGraph(neighbour_mean(interactions.T))  # (I, U), means over an item's users
        _draw(self, "id_embedding", (self.n_users + self.n_items, dim), trained)
        self.nets = nn.ModuleDict()
        for modality, table in features.items():
            reduced = VISUAL_WIDTH if modality == "visual" else None
            self.nets[modality] = ModalityNet(self.n_users, table.shape[1], reduced, dim, trained)

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors."""
        ids, graphs = self.id_embedding.split((self.n_users, self.n_items)), (self.to_users, self.to_items)
        users, items = zip(*(self.nets[modality](table, ids, graphs) for modality, table in self.features.items()), strict=True)
        return sum(users) / len(users), sum(items) / len(items)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR, and reg_weight * mean squares of embeddings, on a batch (3, B) of users, positives, negatives; a scalar."""
        users, items = self.representations()
        batch_users, pairs = interaction[0], interaction[1:].flatten()  # (B,), (2B,) positives, then negatives
        user = F.embedding(batch_users, users)
        positive, negative = F.embedding(pairs, items).chunk(2)
        bpr = bpr_logistic(user, positive, negative)

        penalty = mean_square(batch_users, self.id_embedding) + mean_square(pairs + self.n_users, self.id_embedding)
        if "visual" in self.nets:
            penalty = penalty + self.nets["visual"].preference.square().mean()
        return bpr + self.reg_weight * penalty


class ModalityNet(nn.Module):
    """Layers over the user-item graph, from [preferences of the users; features of the items].

    Users and items are kept apart: where features are used raw, their mean over a user's items needs no gradient.
    """

    preference: Tensor

    def __init__(self, n_users: int, feature_width: int, reduced: int | None, dim: int, trained: bool):
        """reduced: W, to which a linear map brings the features; None: W is feature_width, without a map."""
        super().__init__()
        width = feature_width if reduced is None else reduced
        self.project = nn.Identity() if reduced is None else nn.Linear(feature_width, width)
        _draw(self, "preference", (n_users, width), trained)
        self.layers = nn.ModuleList(GraphLayer(width if layer == 0 else dim, dim) for layer in range(N_LAYERS))

    def forward(
        self, table: Tensor, ids: tuple[Tensor, Tensor], graphs: tuple[SparseGraph, SparseGraph]
    ) -> tuple[Tensor, Tensor]:
        """Raw features (I, D_m), ids (U, D) and (I, D), graphs to users and to items -> (U, D) and (I, D)."""
        (user_ids, item_ids), (to_users, to_items) = ids, graphs
        users, items = F.normalize(self.preference), F.normalize(self.project(table))  # (U, W), (I, W)
        for layer in self.layers:
            users, items = layer(users, items, user_ids, to_users), layer(items, users, item_ids, to_items)
        return users, items


class GraphLayer(nn.Module):
    """x -> leaky_relu(G [leaky_relu(mean of the neighbours W), leaky_relu(linear(x)) + id])."""

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, in_dim))
        self.own = nn.Linear(in_dim, out_dim)
        self.combine = nn.Linear(in_dim + out_dim, out_dim)
        for weight in (self.weight, self.own.weight, self.combine.weight):
            nn.init.xavier_normal_(weight)

    def forward(self, x: Tensor, neighbours: Tensor, ids: Tensor, mean: SparseGraph) -> Tensor:
        """x (N, in_dim), neighbours (M, in_dim), ids (N, out_dim), mean: a graph (N, M) -> (N, out_dim)."""
        n, m = mean.shape  # the product by W commutes with the mean; it is made where there are fewer rows
        around = mean(neighbours) @ self.weight if n < m else mean(neighbours @ self.weight)  # (N, in_dim)
        around = F.leaky_relu(around, inplace=True)
        own = F.leaky_relu(self.own(x), inplace=True) + ids
        weight_around, weight_own = self.combine.weight.split((around.shape[1], own.shape[1]), dim=1)
        # G [around, own], without the copy that concatenation makes
        return F.leaky_relu(F.linear(around, weight_around) + F.linear(own, weight_own, self.combine.bias), inplace=True)


def _draw(module: nn.Module, name: str, shape: tuple[int, int], trained: bool) -> None:
    """Give a module a Xavier-normal parameter, or, where it is not trained, a buffer, which the state dict holds too."""
    values = nn.init.xavier_normal_(torch.empty(shape))
    if trained:
        module.register_parameter(name, nn.Parameter(values))
    else:
        module.register_buffer(name, values)
