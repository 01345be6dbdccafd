"""GUME: MGCN's encoder over a graph with item-item edges, and users who have interests in each modality beyond their items.

Lin et al., *GUME: Graphs and User Modalities Enhancement for Long-Tail Multimodal Recommendation*, CIKM 2024, arXiv 2407.12338.
Departs from the paper, as the authors' code does: the raw features are trained too (`train_features: false` leaves them fixed),
and L2 is over the batch's final embeddings.
U users, I items, B batch, N distinct users of it, D embedding_size, D_m width of a raw feature, M modalities.
"""

from collections.abc import Mapping
from functools import reduce

import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.alignment import Distinct, distinct, info_nce
from mambarec.nn.graph import neighbour_graph, normalized_by_rows, propagate_mean
from mambarec.nn.loss import bpr_logistic
from mambarec.nn.multiview import MultiViewEncoder, Views
from mambarec.nn.perturbation import perturb


class GUMESettings(Settings):
    """The keys of GUME."""

    n_ui_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    n_layers: int = key("Layers of the item-item graphs.", ge=0, le=1000)
    knn_k: int = key("Neighbours of an item in the item-item graph.", gt=0, le=10**6)
    train_features: bool = key("Whether the raw item features are trained too.")
    vt_loss: float = key("Weight of the distance between the modalities' views.", ge=0)
    bm_loss: float = key("Weight of the contrast between side and content.", ge=0)
    bm_temp: float = key("Temperature of the contrast between side and content.", gt=0)
    um_loss: float = key("Weight of the users' contrasts.", ge=0)
    um_temp: float = key("Temperature of the users' contrasts.", gt=0)
    noise: float = key("Length of the noise on a vector.", ge=0)
    reg_weight_1: float = key("Weight of the penalty on the final vectors (L2).", ge=0)
    reg_weight_2: float = key("Weight of the penalty on the extended vectors of the positive items (L2).", ge=0)


class GUME(GeneralRecommender):
    """Scores are inner products of content + side vectors, those of the user-item view and of the fused item-item views."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = config["embedding_size"]
        self.reg_weight_1, self.reg_weight_2 = config["reg_weight_1"], config["reg_weight_2"]
        self.variance_weight = config["vt_loss"]
        self.behaviour_weight, self.behaviour_temperature = config["bm_loss"], config["bm_temp"]
        self.user_weight, self.user_temperature = config["um_loss"], config["um_temp"]
        self.noise = config["noise"]
        features, interactions = self.require_features(), dataloader.inter_matrix("csr")
        adjacency = enhanced_adjacency(interactions, shared_neighbours(features, config["knn_k"], self.masks))
        sizes = config["n_ui_layers"], config["n_layers"], config["knn_k"]
        self.encoder = MultiViewEncoder(interactions, features, dim, *sizes, adjacency, self.masks)
        self.user_tables = nn.ParameterDict(
            {m: nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, dim))) for m in features}
        )
        self.feature_tables = self.feature_parameters(config)
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], dim) for m, table in features.items()})

    def views(self) -> Views:
        """The user-item view, and the item-item view of each modality, (U+I, D) each."""
        return self.encoder({m: project(self.feature_tables[m]) for m, project in self.projections.items()})

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors, content + side."""
        side, content = self.encoder.fuse(self.views())
        users, items = (side + content).split((self.n_users, self.n_items))
        return users, items

    def extended(self, views: Views) -> Tensor:
        """Users' interests and items' features over the whole graph, the mean over modalities: (U+I, D).

        The graph is linear, so that the mean may be taken before it.
        """
        users = torch.stack(tuple(self.user_tables.values())).mean(0)
        items = torch.stack([view[self.n_users :] for view in views.modal.values()]).mean(0)
        return propagate_mean(self.encoder.adjacency, torch.cat((users, items)), self.encoder.n_ui_layers)

    def draw(self, number: int) -> Tensor:
        """Uniform numbers for the noise on all users, (U, D): 0 and 1 are for their side vectors, 2 and 3 for the extended."""
        return torch.rand_like(self.encoder.user_embedding)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR, two L2, the distance of the views, and the contrasts, on a batch (3, B); a scalar."""
        users, positives, negatives = interaction
        parts = [distinct(ids) for ids in (users, positives + self.n_users, negatives + self.n_users)]
        sizes = [len(part.values) for part in parts]
        views = self.views()
        extended = self.extended(views)
        side, content = self.encoder.fuse(views, torch.cat([part.values for part in parts]))
        final = [part.expand(rows) for part, rows in zip(parts, (side + content).split(sizes), strict=True)]  # (B, D) each

        loss = bpr_logistic(*final)
        loss = loss + self.reg_weight_1 * self.l2(*final)
        loss = loss + self.reg_weight_2 * self.l2(F.embedding(positives + self.n_users, extended))
        loss = loss + self.variance_weight * distance(views.modal)
        if self.behaviour_weight:
            for part, own, other in zip(parts[:2], side.split(sizes), content.split(sizes), strict=False):  # users, positives
                contrast = info_nce(own, other, self.behaviour_temperature, part.counts, part.counts)
                loss = loss + self.behaviour_weight * contrast
        if self.user_weight:
            of_users = F.embedding(parts[0].values, extended)
            loss = loss + self.user_weight * self.user_contrast(side[: sizes[0]], of_users, parts[0])
        return loss

    def l2(self, *rows: Tensor) -> Tensor:
        return 0.5 * torch.stack([part.square().sum() for part in rows]).sum() / self.batch_size

    def user_contrast(self, side: Tensor, extended: Tensor, users: Distinct) -> Tensor:
        """Extended vectors against side vectors (N, D), and each under one noise against itself under another; a scalar."""

        def noisy(rows: Tensor, number: int) -> Tensor:
            return perturb(rows, F.embedding(users.values, self.draw(number)), self.noise) if self.noise else rows

        pairs = (
            (extended, side),
            (noisy(side, 0), noisy(side, 1)),
            (noisy(extended, 2), noisy(extended, 3)),
        )
        temperature, counts = self.user_temperature, users.counts
        return torch.stack([info_nce(one, other, temperature, counts, counts) for one, other in pairs]).sum()


def distance(views: dict[str, Tensor]) -> Tensor:
    """Distances of variance and mean between every two views (U+I, D); a scalar."""
    moments = torch.stack([torch.stack(torch.var_mean(view)) for view in views.values()])  # (M, 2)
    return (moments[:, None] - moments).abs().sum() / 2  # each pair is there twice


def shared_neighbours(features: dict[str, Tensor], k: int, masks: Mapping[str, Tensor] | None = None) -> sp.csr_matrix:
    """1 where an item is among the k nearest of another, the row's, in every modality. CSR (I, I). masks: as in knn_graph."""
    graphs = [neighbour_graph(table, k, (masks or {}).get(modality)) for modality, table in features.items()]
    shared = sp.csr_matrix(reduce(lambda one, other: one.multiply(other), graphs).sign())
    return shared - sp.diags(shared.diagonal())  # an item is a neighbour of its own


def enhanced_adjacency(interactions: sp.spmatrix, item_edges: sp.spmatrix) -> sp.csr_matrix:
    """The normalised user-item adjacency to which edges between items (I, I) were added. CSR (U+I, U+I)."""
    return normalized_by_rows(sp.bmat([[None, interactions], [interactions.T, item_edges]]))
