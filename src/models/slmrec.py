"""SLMRec: LightGCN of ids and of each modality's features, and a contrast between them as a second task.

Tao et al., *Self-supervised Learning for Multimedia Recommendation*, IEEE Transactions on Multimedia 2022. Departs from the
paper: of its self-supervised tasks this has the one that MMRec has, fine and coarse agreement of the modalities (FAC).
U users, I items, B batch, N its distinct items, D embedding_size, D_m width of a raw feature, M modalities.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.alignment import distinct, info_nce
from mambarec.nn.graph import SparseGraph, normalized_adjacency, propagate_mean
from mambarec.nn.init import xavier_uniform_initialization


class SLMRecSettings(Settings):
    """The keys of SLMRec."""

    layer_num: int = key("Layers of the user-item graph.", ge=0, le=1000)
    temp: float = key("Temperature of the main loss.", gt=0)
    ssl_temp: float = key("Temperature of the self-supervision.", gt=0)
    ssl_alpha: float = key("Weight of the self-supervision.", ge=0)


class SLMRec(GeneralRecommender):
    """Scores are inner products of fused vectors. The features stay fixed."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = config["embedding_size"]
        self.n_layers = config["layer_num"]
        self.temperature = config["temp"]
        self.ssl_temperature = config["ssl_temp"]
        self.ssl_weight = config["ssl_alpha"]
        features = self.require_features()

        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, dim)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, dim)))
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], dim) for m, table in features.items()})
        self.fuse_users = nn.Linear((1 + len(features)) * dim, dim)
        self.fuse_items = nn.Linear((1 + len(features)) * dim, dim)
        # Self-supervision: a map of the ids agrees with the first modality, a map of that map with the next, ...; the last
        # of several is the coarse one, half as wide.
        self.id_maps = nn.ModuleList(nn.Linear(dim, dim) for _ in range(max(1, len(features) - 1)))
        self.modal_maps = nn.ModuleList(nn.Linear(dim, dim) for _ in self.id_maps)
        if len(features) > 1:
            self.id_maps.append(nn.Sequential(nn.Linear(dim, dim), nn.Linear(dim, dim // 2)))
            self.modal_maps.append(nn.Linear(dim, dim // 2))
        self.apply(xavier_uniform_initialization)

        self.adjacency = SparseGraph(normalized_adjacency(dataloader.inter_matrix("coo")))
        self.scales = {m: 1 / table.norm(dim=1, keepdim=True).clamp(min=1e-12) for m, table in features.items()}  # (I, 1)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user (U, (1+M) D) and item (I, (1+M) D) vectors: LightGCN's of the ids, then of each modality."""
        items = [self.item_embedding]
        for modality, project in self.projections.items():
            # the map of the normalised features, which are not stored beside the raw ones
            product = F.linear(self.features[modality], project.weight)  # (I, D)
            items.append(product * self.scales[modality] + project.bias)
        users = self.user_embedding.repeat(1, len(items))  # (U, (1+M) D), shared by the passes, which are made at once
        views = propagate_mean(self.adjacency, torch.cat((users, torch.cat(items, 1))), self.n_layers)
        users, items = views.split((self.n_users, self.n_items))
        return users, items

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors."""
        users, items = self.forward()
        return self.fuse_users(users), self.fuse_items(items)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """InfoNCE of users and positive items + ssl_alpha * self-supervision, on a batch (3, B); a scalar."""
        users, items = self.forward()
        batch = distinct(interaction[1])
        user, item = F.embedding(interaction[0], users), F.embedding(batch.values, items)  # (B, (1+M) D), (N, (1+M) D)
        user, fused = self.fuse_users(user), self.fuse_items(item)
        loss = info_nce(user, fused, self.temperature, y_counts=batch.counts, targets=batch.inverse)
        return loss + self.ssl_weight * self.self_supervision(item, batch.counts) if self.ssl_weight else loss

    def self_supervision(self, items: Tensor, counts: Tensor | None) -> Tensor:
        """Contrast of the ids with each modality on distinct items (N, (1+M) D), by inner products; a scalar."""
        mapped, *modal = items.chunk(1 + len(self.projections), 1)  # (N, D) each
        total = items.new_zeros(())
        for id_map, modal_map, vectors in zip(self.id_maps, self.modal_maps, modal, strict=True):
            mapped = id_map(mapped)
            total = total + info_nce(mapped, modal_map(vectors), self.ssl_temperature, counts, counts, normalize=False)
        return total
