"""LATTICE: a collaborative model whose items add what an item-item graph, learned from their features, makes of them.

Zhang et al., *Mining Latent Structures for Multimedia Recommendation*, MM 2021, arXiv 2104.09036. Departs from the paper, as
MMRec does: the raw features are trained too (`train_features: false` leaves them fixed), and the item graph learns from an
epoch's first batch alone (`graph_gradient: every_batch` lets it learn from each). The graph is sparse: it holds k neighbours of
an item in each modality. LightGCN's layers take the mean of a node's neighbours and of itself (`user_item_norm: rows`), as in
MMRec; LightGCN's own normalisation is `symmetric`.
U users, I items, B batch, D embedding_size, D_m width of a raw feature, M modalities, k knn_k, E = I k edges.
"""

from typing import Annotated, Literal, NamedTuple

import scipy.sparse as sp
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.graph import (
    NeighbourGraph,
    SparseGraph,
    knn_graph,
    neighbour_mean,
    normalized_adjacency,
    propagate_mean,
)
from mambarec.nn.loss import bpr_logistic
from mambarec.nn.neighbours import search, search_limit
from mambarec.nn.precision import in_float32


class LATTICESettings(Settings):
    """The keys of LATTICE."""

    feat_embed_dim: int = key("Width of the projected features that the item-item graph is learned from.", gt=0, le=2**16)
    cf_model: Literal["lightgcn", "ngcf", "mf"] = key("The collaborative model.")
    weight_size: list[Annotated[int, Field(gt=0)]] = key(
        "A number for each of cf_model's layers. For ngcf it is the layer's width, and must be embedding_size.", min_length=1
    )
    mess_dropout: list[Annotated[float, Field(ge=0, le=1)]] = key(
        "Dropout of each of ngcf's layers. For cf_model: ngcf.", min_length=1, only_with="cf_model=ngcf"
    )
    n_layers: int = key("Layers of the item-item graph.", ge=0, le=1000)
    knn_k: int = key("Neighbours of an item in the item-item graph.", gt=0, le=10**6)
    lambda_coeff: float = key("Weight of the raw features' graph. The learned one has the rest.", ge=0, le=1)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)
    graph_gradient: Literal["first_batch", "every_batch"] = key(
        "Which batches train the item-item graph: an epoch's first, or every one, for which it is built anew."
    )
    train_features: bool = key("Whether the raw item features are trained too.")
    user_item_norm: Literal["rows", "symmetric"] = key(
        "How the user-item graph is normalised. rows: each row of it, with an edge from each node to itself, adds up to 1. "
        "symmetric: as in LightGCN.",
        later="rows",
    )


class LATTICE(GeneralRecommender):
    """Scores are inner products of the collaborative vectors, to which the items add those of the item graph, normalised."""

    epoch_graph: "LearnedGraph | None"  # a constant, for the batches after an epoch's first

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim, k = config["embedding_size"], config["knn_k"]
        self.knn_k, self.approximate_above = k, search_limit()
        self.n_layers = config["n_layers"]
        self.lambda_coeff, self.reg_weight = config["lambda_coeff"], config["reg_weight"]
        self.collaborative = config["cf_model"]
        self.gradient = config["graph_gradient"]
        widths, dropouts = config["weight_size"], config["mess_dropout"]
        self.n_ui_layers = len(widths)
        features = self.require_features()

        if len(features) > 1:
            self.modal_weight = nn.Parameter(torch.full((len(features),), 1 / len(features)))
        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, dim)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, dim)))
        self.ngcf_layers = nn.ModuleList()
        if self.collaborative == "ngcf":
            if widths != [dim] * len(widths):
                raise ValueError(
                    f"weight_size={widths}: the mean of NGCF's layers needs every width to be embedding_size={dim}"
                )
            if len(dropouts) != len(widths):
                raise ValueError(f"mess_dropout={dropouts}: expected {len(widths)} values, one for each layer of weight_size")
            self.ngcf_layers.extend(NGCFLayer(dim, rate) for rate in dropouts)
        self.feature_tables = self.feature_parameters(config)
        feature_dim = config["feat_embed_dim"]
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], feature_dim) for m, table in features.items()})

        interactions = dataloader.inter_matrix("coo")
        self.user_item_graph = SparseGraph(user_item_graph(interactions, config["user_item_norm"]))
        self.raw_graphs = nn.ModuleDict(
            {m: SparseGraph(knn_graph(table, k, self.masks.get(m))) for m, table in features.items()}
        )
        self.linked = {m: torch.nonzero(mask).flatten() for m, mask in self.masks.items()}  # items that may have an edge
        self.epoch_graph = None

    def pre_epoch_processing(self) -> None:
        """Let the item graph be built anew."""
        self.epoch_graph = None

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors, over an item graph of the current parameters."""
        return self.forward(self.learned_graph())

    def forward(self, learned: "LearnedGraph") -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors over a learned item graph."""
        users, items = self.propagate().split((self.n_users, self.n_items))
        view = self.item_embedding
        for _ in range(self.n_layers):
            raw = sum(weight * graph(view) for weight, graph in zip(learned.mixture, self.raw_graphs.values(), strict=True))
            view = (1 - self.lambda_coeff) * learned(view) + self.lambda_coeff * raw
        return users, items + F.normalize(view)

    def propagate(self) -> Tensor:
        """Vectors of the collaborative model `cf_model`, (U+I, D)."""
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        if self.collaborative == "mf":
            return embeddings
        if self.collaborative == "lightgcn":
            return propagate_mean(self.user_item_graph, embeddings, self.n_ui_layers)
        layer = total = embeddings
        for convolve in self.ngcf_layers:
            layer = convolve(layer, self.user_item_graph)
            total = total + F.normalize(layer)
        return total / (self.n_ui_layers + 1)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR + L2 on a batch (3, B) of users, positives, negatives; a scalar. The item graph learns from an epoch's first."""
        learned = self.epoch_graph or self.learned_graph()
        if self.gradient == "first_batch":
            self.epoch_graph = learned.detach()
        users, items = self.forward(learned)
        user = F.embedding(interaction[0], users)  # (B, D)
        positive, negative = F.embedding(interaction[1:].flatten(), items).chunk(2)
        l2 = 0.5 * sum(rows.square().sum() for rows in (user, positive, negative)) / self.batch_size
        return bpr_logistic(user, positive, negative) + self.reg_weight * l2

    def learned_graph(self) -> "LearnedGraph":
        """The graph of the k nearest items by the projected features, in each modality; differentiable."""
        mixture = torch.softmax(self.modal_weight, 0) if len(self.projections) > 1 else self.item_embedding.new_ones(1)
        edges, weights = [], []
        for share, (modality, project) in zip(mixture, self.projections.items(), strict=True):
            vectors, linked = project(self.feature_tables[modality]), self.linked.get(modality)
            graph, cosines = nearest(vectors, self.knn_k, linked, self.approximate_above)
            edges.append(graph)
            weights.append(share * cosines)
        degree = sum(graph.row_sums(shared) for graph, shared in zip(edges, weights, strict=True))  # (I, 1)
        known = degree > 0  # the others have no edges
        return LearnedGraph(edges, weights, torch.where(known, degree, 1).rsqrt() * known, mixture)


def user_item_graph(interactions: sp.spmatrix, norm: str) -> sp.csr_matrix:
    """CSR (U+I, U+I) of the pairs (U, I), normalised as the key `user_item_norm` says."""
    if norm == "symmetric":
        return normalized_adjacency(interactions)
    adjacency = sp.bmat([[None, interactions], [interactions.T, None]])
    return neighbour_mean(adjacency + sp.eye(adjacency.shape[0]))


class LearnedGraph(NamedTuple):
    """N(M), M_ij / sqrt(r_i r_j) with the row sums r, of the weighted sum M of the modalities' graphs.

    edges, weights: the k edges from each item in each modality, and their weights in M, (E,). scale: r^-1/2 (I, 1).
    mixture: the weights of the modalities (M,).
    """

    edges: list[NeighbourGraph]
    weights: list[Tensor]
    scale: Tensor
    mixture: Tensor

    def __call__(self, items: Tensor) -> Tensor:
        """Item vectors (I, D) -> (I, D)."""
        scaled = self.scale * items
        pairs = zip(self.edges, self.weights, strict=True)
        return self.scale * sum(graph.weighted_sum(weights, scaled, "rows") for graph, weights in pairs)

    def detach(self) -> "LearnedGraph":
        """The same graph as a constant."""
        return LearnedGraph(
            self.edges, [weights.detach() for weights in self.weights], self.scale.detach(), self.mixture.detach()
        )


class NGCFLayer(nn.Module):
    """Neural graph collaborative filtering (Wang et al., SIGIR 2019, arXiv 1905.08108), one layer."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.sum, self.product = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, graph: SparseGraph) -> Tensor:
        """Vectors (U+I, D) -> (U+I, D)."""
        around = graph(vectors)
        return self.dropout(F.leaky_relu(self.sum(around)) + F.leaky_relu(self.product(vectors * around)))


@in_float32
def nearest(
    vectors: Tensor, k: int, items: Tensor | None = None, approximate_above: int | None = None
) -> tuple[NeighbourGraph, Tensor]:
    """The k nearest rows of each row of (I, D) by cosine, itself included, and the cosines (E,); these are differentiable.

    items: int64 (R,), ascending, the rows that have neighbours and are neighbours; None: all. approximate_above: the number of
    rows above which the search is approximate.
    """
    unit = F.normalize(vectors)
    found = search(unit if items is None else unit[items], k, approximate_above)[1]
    graph = NeighbourGraph(found if items is None else items[found], len(unit), items)
    return graph, graph.dot(unit, unit)
