"""SMORE: features filtered and fused in the frequency domain guide item-item views, whose fused one weighs the others.

Ong and Khong, *Spectrum-based Modality Representation Fusion Graph Convolutional Network for Multimodal Recommendation*, WSDM
2025, arXiv 2412.14978. Departs from the paper, as the authors' code does: the raw features are trained too
(`train_features: false` leaves them fixed), and L2 is over the batch's final embeddings.
U users, I items, B batch, D embedding_size, D_m width of a raw feature, M modalities.
"""

from functools import reduce
from operator import mul

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.alignment import distinct, info_nce
from mambarec.nn.graph import SparseGraph, knn_graph, normalized_adjacency, normalized_interactions, propagate_mean, strongest
from mambarec.nn.loss import bpr_logistic
from mambarec.nn.multiview import Views, item_views
from mambarec.nn.precision import in_float32

TEMPERATURE = 0.2  # of the contrast; fixed in the authors' code
FUSION = "fusion"  # the view of all modalities, beside those of one


class SMORESettings(Settings):
    """The keys of SMORE."""

    n_ui_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    n_layers: int = key("Layers of the item-item graphs.", ge=0, le=1000)
    image_knn_k: int = key("Neighbours of an item in the visual item-item graph.", gt=0, le=10**6)
    text_knn_k: int = key("Neighbours of an item in the textual item-item graph.", gt=0, le=10**6)
    knn_k: int = key("Neighbours of an item in the item-item graph of any other modality.", gt=0, le=10**6)
    cl_loss: float = key("Weight of the contrastive loss.", ge=0)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)
    dropout_rate: float = key("Share of the preferences that is dropped in training.", ge=0, le=1)
    train_features: bool = key("Whether the raw item features are trained too.")


class SMORE(GeneralRecommender):
    """Scores are inner products of content + side vectors, those of the user-item view and of the fused item-item views."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = config["embedding_size"]
        self.n_ui_layers, self.n_layers = config["n_ui_layers"], config["n_layers"]
        self.cl_weight, self.reg_weight = config["cl_loss"], config["reg_weight"]
        features = self.require_features()
        views = [*features, FUSION]
        if FUSION in features:
            raise ValueError(f"{FUSION}_feature_file: {FUSION} is the name of SMORE's view of all modalities. Use another word")

        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, dim)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, dim)))
        self.feature_tables = self.feature_parameters(config)
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], dim) for m, table in features.items()})
        self.filters = nn.ParameterDict({view: nn.Parameter(torch.randn(dim // 2 + 1, 2)) for view in views})  # complex
        self.gates = nn.ModuleDict({view: nn.Linear(dim, dim) for view in views})
        self.attention = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, dim, bias=False)) for m in features}
        )
        self.preferences = nn.ModuleDict({view: nn.Linear(dim, dim) for view in views})
        self.dropout = nn.Dropout(config["dropout_rate"])

        interactions = dataloader.inter_matrix("coo")
        self.adjacency = SparseGraph(normalized_adjacency(interactions))
        self.user_items = SparseGraph(normalized_interactions(interactions))
        neighbours = {"visual": config["image_knn_k"], "text": config["text_knn_k"]}
        graphs = {m: knn_graph(table, neighbours.get(m, config["knn_k"]), self.masks.get(m)) for m, table in features.items()}
        graphs[FUSION] = strongest(list(graphs.values()))
        self.item_graphs = nn.ModuleDict({view: SparseGraph(graph) for view, graph in graphs.items()})

    def forward(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Side and content of some rows (B,) of users and items, or of all U+I: two (B, D)."""
        projected = {m: project(self.feature_tables[m]) for m, project in self.projections.items()}  # (I, D) each
        guides = in_frequencies(projected, self.filters)
        items = {view: self.item_embedding * torch.sigmoid(self.gates[view](guide)) for view, guide in guides.items()}
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        views = Views(
            propagate_mean(self.adjacency, embeddings, self.n_ui_layers),
            item_views(items, self.item_graphs, self.user_items, self.n_layers),
        )
        return self.fuse(views, rows)

    def fuse(self, views: Views, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Side and content of some rows (B,), or of all: two (B, D). rows number the users, then the items."""

        def take(table: Tensor) -> Tensor:
            return table if rows is None else F.embedding(rows, table)

        content, fusion = take(views.content), take(views.modal[FUSION])
        side = torch.zeros_like(fusion)
        for view, table in views.modal.items():
            vectors = fusion if view == FUSION else torch.softmax(self.attention[view](fusion), 1) * take(table)
            side = side + self.dropout(torch.sigmoid(self.preferences[view](content))) * vectors
        return side / len(views.modal), content

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors, content + side."""
        side, content = self.forward()
        users, items = (side + content).split((self.n_users, self.n_items))
        return users, items

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR + L2 + the contrast of side with content, on a batch (3, B) of users, positives, negatives; a scalar."""
        users, positives, negatives = interaction
        parts = [distinct(ids) for ids in (users, positives + self.n_users, negatives + self.n_users)]
        side, content = self.forward(torch.cat([part.values for part in parts]))
        sizes = [len(part.values) for part in parts]
        user, positive, negative = final = [
            part.expand(rows) for part, rows in zip(parts, (side + content).split(sizes), strict=True)
        ]  # (B, D) each

        loss = bpr_logistic(user, positive, negative)
        loss = loss + self.reg_weight * 0.5 * sum(rows.square().sum() for rows in final) / self.batch_size
        if self.cl_weight:
            for part, own, other in zip(parts[:2], side.split(sizes), content.split(sizes), strict=False):  # users, positives
                loss = loss + self.cl_weight * info_nce(own, other, TEMPERATURE, part.counts, part.counts)
        return loss


def in_frequencies(vectors: dict[str, Tensor], filters: nn.ParameterDict) -> dict[str, Tensor]:
    """Each modality's vectors (I, D), and the product of all as FUSION, filtered frequency by frequency: view -> (I, D)."""
    spectra = {modality: spectrum(table) for modality, table in vectors.items()}  # complex (I, D // 2 + 1) each
    spectra[FUSION] = reduce(mul, spectra.values())
    width = next(iter(vectors.values())).shape[1]
    return {view: filtered(values, filters[view], width) for view, values in spectra.items()}


@in_float32
def spectrum(vectors: Tensor) -> Tensor:
    """Fourier transform of each row: (I, D) -> complex (I, D // 2 + 1)."""
    return torch.fft.rfft(vectors, dim=1, norm="ortho")


def filtered(values: Tensor, weights: Tensor, width: int) -> Tensor:
    """A spectrum times weights (D // 2 + 1, 2), real and imaginary part of complex ones, as rows of that width again."""
    return torch.fft.irfft(values * torch.view_as_complex(weights), n=width, dim=1, norm="ortho")
