"""What DRAGON, MENTOR and COHESION share: nets that start from preferences and features, and whose vectors are scored."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import FeatureDimSettings, GeneralRecommender
from mambarec.nn.graph import FrozenItemGraphSettings, SparseGraph, frozen_item_graph, normalized_adjacency
from mambarec.nn.loss import mean_square


class PreferenceSettings(FeatureDimSettings, FrozenItemGraphSettings):
    """The keys of the three models."""

    evaluate_on: Literal["parameters", "last_forward"] = key(
        "Which vectors are scored: those of the parameters, or those of the last training step."
    )
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)


class PreferenceNet(nn.Module):
    """Trained preferences of the users, and item features through two linear layers. D_m width of a feature, D of a vector."""

    preference: Tensor

    def __init__(self, n_users: int, width: int, dim: int):
        """width: D_m; dim: D. The hidden layer is 4D wide, as in the authors' code."""
        super().__init__()
        self.preference = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_users, dim)))
        self.hidden, self.project = nn.Linear(width, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, features: Tensor, ids: Tensor | None = None) -> Tensor:
        """The vectors that the net starts from, each of length 1: (U+I, D). features: (I, D_m).

        ids: (I, D), with which the items' vectors are mixed first, as their quadratic mean (COHESION's early fusion).
        """
        items = self.project(F.leaky_relu(self.hidden(features)))  # (I, D)
        if ids is not None:
            items = torch.sqrt((ids.square() + items.square()) / 2 + 1e-8)
        return F.normalize(torch.cat((self.preference, items)))


class PreferenceRecommender(GeneralRecommender):
    """Base of the three: a net for each modality, the graphs of users and items and of items, and `evaluate_on`.

    That key says which vectors are scored. parameters: those that `vectors()` gives for the current parameters. last_forward:
    those that the last training step left, from before its update, as in the authors' code; random ones before any step.
    U users, I items, D embedding_size, D_m width of a raw feature, M modalities, W width of the vectors.
    """

    last_users: Tensor
    last_items: Tensor

    def __init__(self, config, dataloader, ids: bool = False, weighted: bool = True):
        """ids: whether W has a block of D beside those of the modalities; weighted: whether users weigh their modalities."""
        super().__init__(config, dataloader)
        self.dim, features = self.feature_dim(config), self.require_features()
        self.reg_weight, self.n_mm_layers = config["reg_weight"], config["n_mm_layers"]
        self.nets = self.new_nets()
        self.weights = None  # (U, M), which start near 1 / M
        if weighted and len(features) > 1:
            drawn = nn.init.xavier_normal_(torch.empty(self.n_users, len(features), 1))
            self.weights = nn.Parameter(torch.softmax(drawn, 1).squeeze(2))
        self.evaluate_on = config["evaluate_on"]
        if self.evaluate_on == "last_forward":
            for name, size in (("last_users", self.n_users), ("last_items", self.n_items)):
                self.register_buffer(name, nn.init.xavier_normal_(torch.empty(size, (ids + len(features)) * self.dim)))

        self.adjacency = SparseGraph(normalized_adjacency(dataloader.inter_matrix("csr")))
        self.item_graph = SparseGraph(frozen_item_graph(features, config["knn_k"], config["mm_image_weight"], self.masks))

    def new_nets(self) -> nn.ModuleDict:
        """Modality -> net."""
        widths = {modality: table.shape[1] for modality, table in self.features.items()}
        return nn.ModuleDict({modality: PreferenceNet(self.n_users, width, self.dim) for modality, width in widths.items()})

    def starts(self, nets: nn.ModuleDict, ids: Tensor | None = None) -> list[Tensor]:
        """What the net of each modality starts from, (U+I, D) each."""
        return [nets[modality](table, ids) for modality, table in self.features.items()]

    def split(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (U+I, N D) as the users' (U, N D), and the items', to which their neighbours' are added, (I, N D)."""
        users, items = vectors.split((self.n_users, self.n_items))
        view = items
        for _ in range(self.n_mm_layers):
            view = self.item_graph(view)
        return users, items + view

    def weighed(self, users: Tensor) -> Tensor:
        """Users' vectors (U, M D), each modality's times its weight."""
        if self.weights is None:
            return users
        return (users.unflatten(1, (-1, self.dim)) * self.weights.unsqueeze(2)).flatten(1)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """User (U, W) and item (I, W) vectors of the current parameters."""
        raise NotImplementedError

    def keep(self, users: Tensor, items: Tensor) -> None:
        """Note the vectors of a training step."""
        if self.evaluate_on == "last_forward":
            self.last_users.copy_(users.detach())
            self.last_items.copy_(items.detach())

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, W) and item (I, W) vectors to score with."""
        return (self.last_users, self.last_items) if self.evaluate_on == "last_forward" else self.vectors()

    def penalty(self, users: Tensor) -> Tensor:
        """Mean squares of the preferences of a batch's users (B,), in each modality, and of all weights; a scalar."""
        total = users.new_zeros((), dtype=torch.float32)
        for net in self.nets.values():
            total = total + mean_square(users, net.get_parameter("preference"))
        return total if self.weights is None else total + self.weights.square().mean()
