"""FREEDOM: a frozen item-item graph from the features, and a user-item graph thinned anew for each epoch.

Zhou and Shen, *A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation*, MM 2023,
arXiv 2211.06924. Departs from the paper: the raw features are trained too, as in MMRec.
U users, I items, B batch, E training pairs, D embedding_size, D_m width of a raw feature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import FeatureDimSettings, GeneralRecommender
from mambarec.nn.graph import (
    FrozenItemGraphSettings,
    SparseGraph,
    draw_pairs,
    frozen_item_graph,
    graph_shares,
    normalized_adjacency,
    propagate_mean,
)
from mambarec.nn.loss import bpr_logistic
from mambarec.nn.new_items import Links, NewItems, NewItemSettings, NewItemVectors, at_length
from mambarec.nn.sampled import (
    Batch,
    NeighbourSampler,
    SampledChain,
    SampledPropagation,
    SampledSettings,
    propagate_blocks,
    sampling_of,
    take_rows,
)


class FREEDOMSettings(FeatureDimSettings, FrozenItemGraphSettings, NewItemSettings, SampledSettings):
    """The keys of FREEDOM."""

    n_ui_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    dropout: float = key("Share of the training pairs that an epoch's graph leaves out.", ge=0, lt=1)
    reg_weight: float = key("Weight of the projected features' own BPR.", ge=0)


class FREEDOM(GeneralRecommender):
    """Scores are inner products of LightGCN's vectors, to which the items add those of the item-item graph."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = self.feature_dim(config)
        self.n_ui_layers, self.n_mm_layers = config["n_ui_layers"], config["n_mm_layers"]
        self.reg_weight = config["reg_weight"]
        self.dropout = config["dropout"]
        features = self.require_features()

        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, dim)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, dim)))
        self.feature_tables = nn.ParameterDict({m: nn.Parameter(table.clone()) for m, table in features.items()})
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], dim) for m, table in features.items()})

        self.interactions = dataloader.inter_matrix("csr")
        self.adjacency = SparseGraph(normalized_adjacency(self.interactions))
        self.train_adjacency = self.adjacency
        self.item_graph = SparseGraph(frozen_item_graph(features, config["knn_k"], config["mm_image_weight"], self.masks))
        self.shares = graph_shares(features, config["mm_image_weight"])
        self.new_items = NewItems.of(config, features, self.interactions, self.masks, config["knn_k"])
        self.sampling = sampling_of(config, self.new_items)
        if self.sampling:
            self.sampler, self.item_sampler = NeighbourSampler(self.adjacency), NeighbourSampler(self.item_graph)

    def pre_epoch_processing(self) -> None:
        """Draw the pairs of the epoch's graph, without replacement, in proportion to 1 / sqrt(deg_u deg_i)."""
        if self.dropout == 0:
            return
        thinned = draw_pairs(self.interactions, max(1, round(self.interactions.nnz * (1 - self.dropout))))
        self.train_adjacency = SparseGraph(normalized_adjacency(thinned)).to(self.user_embedding.device)
        if self.sampling:
            self.sampler = NeighbourSampler(self.train_adjacency)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors of LightGCN, over the epoch's graph while training and over the full one at
        evaluation, and the items' of the item-item graph (I, D)."""
        adjacency = self.train_adjacency if self.training else self.adjacency
        if self.sampling and not self.training:
            users, items = propagate_blocks(adjacency, self.user_embedding, self.item_embedding, self.n_ui_layers)
        else:
            embeddings = torch.cat((self.user_embedding, self.item_embedding))  # (U+I, D)
            users, items = propagate_mean(adjacency, embeddings, self.n_ui_layers).split((self.n_users, self.n_items))
        view = self.item_embedding
        for _ in range(self.n_mm_layers):
            view = self.item_graph(view)
        return users, items, view

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors."""
        users, items, view = self.forward()
        both = items + view
        return users, self.new_items.with_cold(both, self._of_new_items(items, view)) if self.new_items else both

    def for_new_items(self) -> NewItemVectors:
        """Vectors of new items: their neighbours' mean, to which their row of the item-item graph is added."""
        return self._of_new_items(*self.forward()[1:])

    def _of_new_items(self, items: Tensor, view: Tensor) -> NewItemVectors:
        """items, view: (I, D), of forward."""
        return lambda features, links: at_length(self.as_new(items, links), links, items + view)

    def as_new(self, items: Tensor, links: Links) -> Tensor:
        """What new items have in the place of items + view, (N, D). items: (I, D), LightGCN's."""
        view, others = links.mean(self.item_embedding), self.item_embedding
        for _ in range(self.n_mm_layers):
            rows = [share * links.through_neighbour_graph(m, view, others) for m, share in self.shares.items()]
            view, others = torch.stack(rows).sum(0), self.item_graph(others)
        return links.mean(items) + view

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR, and reg_weight * BPR of each modality's projected features, on a batch (3, B); a scalar."""
        return self._loss(interaction, *self.forward(), self.feature_tables)

    def sample(self, interaction: Tensor, generator) -> tuple[SampledPropagation, SampledChain, Tensor]:
        """The sampled layers of both graphs for a batch (3, B), and the items whose features it reads."""
        batch = Batch.of(interaction)
        chain, items = SampledChain.draw(batch, batch.items, self.item_sampler, self.n_mm_layers, self.sampling, generator)
        propagation = SampledPropagation.draw(
            batch, self.sampler, self.n_users, self.n_ui_layers, self.sampling, generator, [items]
        )
        return propagation, chain, torch.from_numpy(batch.items)

    def sampled_loss(self, sample: tuple[SampledPropagation, SampledChain, Tensor]) -> Tensor:
        """calculate_loss with vectors propagated over the sampled layers."""
        propagation, chain, numbers = sample
        read = propagation.read(self.user_embedding, self.item_embedding)
        users, items = read.propagated.split(propagation.sizes)
        view = chain(read.extra[0])
        features = {modality: take_rows(rows, numbers) for modality, rows in self.feature_tables.items()}
        return self._loss(propagation.interaction, users, items, view, features)

    def _loss(self, interaction: Tensor, users: Tensor, items: Tensor, view: Tensor, features) -> Tensor:
        user = F.embedding(interaction[0], users)  # (B, D)
        pairs = interaction[1:].flatten()  # (2B,), positives, then negatives
        vectors = F.embedding(pairs, items + view)  # (2B, D)
        if self.new_items:
            (vectors,) = self.new_items.dropped(pairs, (vectors,), lambda _, links: (self.as_new(items, links),))
        loss = bpr_logistic(user, *vectors.chunk(2))
        for modality, project in self.projections.items():
            projected = project(F.embedding(pairs, features[modality]))  # (2B, D)
            loss = loss + self.reg_weight * bpr_logistic(user, *projected.chunk(2))
        return loss
