"""The multi-view encoder that MGCN and MambaRec share: behaviour-guided item-item views beside the user-item view.

Yu et al., *Multi-View Graph Convolutional Network for Multimedia Recommendation*, MM 2023, arXiv 2308.03588; section 4.4 of
MambaRec, arXiv 2509.09114. U users, I items, D width, M modalities.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.nn.graph import SparseGraph, normalized_adjacency, propagate_mean, scaled_knn_graph
from mambarec.nn.new_items import Links, NewItems
from mambarec.nn.sampled import (
    Batch,
    Layer,
    NeighbourSampler,
    SampledChain,
    SampledPropagation,
    Sampling,
    in_blocks,
    propagate_blocks,
)


class Views(NamedTuple):
    """content (U+I, D): user-item view. modal: modality -> (U+I, D), item-item views; rows are users, then items."""

    content: Tensor
    modal: dict[str, Tensor]


class SampledViews(NamedTuple):
    """The sampled layers of an encoder for a batch.

    propagation: of the user-item graph; it reads the items that each modality's chain starts from, too. chains:
    modality -> the layers of its item graph. own: places, among the rows of a chain's result, of the batch's items. bought:
    those of the columns of user_items, (batch's users, these). items: modality -> ids (M,) of the items its chain starts from.
    """

    propagation: SampledPropagation
    chains: dict[str, SampledChain]
    own: Tensor
    bought: Tensor
    user_items: SparseGraph
    items: dict[str, Tensor]


class MultiViewEncoder(nn.Module):
    """Id embeddings, purified by each modality and propagated over its item graph, beside LightGCN of the same ids."""

    def __init__(
        self,
        interactions,
        features: dict[str, Tensor],
        dim: int,
        n_ui_layers: int,
        n_layers: int,
        knn_k: int,
        adjacency=None,
        masks: Mapping[str, Tensor] | None = None,
    ):
        """interactions: SciPy (U, I), training pairs. features: modality -> (I, D_m), from which the item graphs are built.

        adjacency: SciPy CSR (U+I, U+I), of users and items; None: that of the pairs. masks: modality -> bool (I,), false at
        items without it, which have no edge in its graph.
        """
        super().__init__()
        self.n_users, self.n_items = interactions.shape
        self.n_ui_layers, self.n_layers = n_ui_layers, n_layers
        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, dim)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, dim)))
        self.gates = nn.ModuleDict({modality: nn.Linear(dim, dim) for modality in features})
        if len(features) > 1:
            self.attention = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))
            self.preferences = nn.ModuleDict({modality: nn.Linear(dim, dim) for modality in features})

        adjacency = normalized_adjacency(interactions) if adjacency is None else adjacency
        self.adjacency = SparseGraph(adjacency)
        self.user_items = SparseGraph(adjacency[: self.n_users, self.n_users :])
        graphs = {m: scaled_knn_graph(table, knn_k, (masks or {}).get(m)) for m, table in features.items()}
        self.item_graphs = nn.ModuleDict({m: SparseGraph(graph) for m, (graph, _) in graphs.items()})
        self.item_scales = {m: torch.from_numpy(scale).float() for m, (_, scale) in graphs.items()}  # (I,) each

    def forward(self, modal: dict[str, Tensor]) -> Views:
        """modal: modality -> (I, D), what guides the purifier."""
        purified = {m: self.item_embedding * torch.sigmoid(self.gates[m](vectors)) for m, vectors in modal.items()}
        views = item_views(purified, self.item_graphs, self.user_items, self.n_layers)
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        return Views(propagate_mean(self.adjacency, embeddings, self.n_ui_layers), views)

    def samplers(self) -> dict[str, NeighbourSampler]:
        """A sampler for each graph: 'adjacency', 'user_items', and each modality's."""
        graphs: dict[str, Any] = {"adjacency": self.adjacency, "user_items": self.user_items, **self.item_graphs}
        return {name: NeighbourSampler(graph) for name, graph in graphs.items()}

    def sample(
        self, batch: Batch, samplers: dict[str, NeighbourSampler], sampling: Sampling, generator: np.random.Generator
    ) -> SampledViews:
        """Draw the layers of all graphs for a batch."""
        size = batch.layer_size(sampling)
        bought: Layer = samplers["user_items"].layer(batch.users, sampling.fanout(0), size, generator)
        rows, places = np.unique(np.concatenate((batch.items, bought.columns)), return_inverse=True)
        chains, items = {}, {}
        for modality in self.item_graphs:
            chains[modality], items[modality] = SampledChain.draw(
                batch, rows, samplers[modality], self.n_layers, sampling, generator
            )
        propagation = SampledPropagation.draw(
            batch, samplers["adjacency"], self.n_users, self.n_ui_layers, sampling, generator, list(items.values())
        )
        own, of_users = torch.from_numpy(places).split((len(batch.items), len(bought.columns)))
        numbers = {modality: torch.from_numpy(ids) for modality, ids in items.items()}
        return SampledViews(propagation, chains, own, of_users, bought.graph, numbers)

    def sampled_views(self, modal: dict[str, Tensor], sample: SampledViews) -> Views:
        """The Views of the batch's users and items. modal: modality -> (M, D), of the items that its chain starts from."""
        read = sample.propagation.read(self.user_embedding, self.item_embedding)
        views = {}
        for (modality, vectors), embedded in zip(modal.items(), read.extra, strict=True):
            purified = embedded * torch.sigmoid(self.gates[modality](vectors))
            items = sample.chains[modality](purified)
            users = sample.user_items(F.embedding(sample.bought, items))
            views[modality] = torch.cat((users, F.embedding(sample.own, items)))
        return Views(read.propagated, views)

    @torch.no_grad()
    def final_vectors(self, modal: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors, side + content, in blocks, so that no view of all users is held."""
        users, items = propagate_blocks(self.adjacency, self.user_embedding, self.item_embedding, self.n_ui_layers)

        def purified(modality: str, rows: slice) -> Tensor:
            return self.item_embedding[rows] * torch.sigmoid(self.gates[modality](modal[modality][rows]))

        views = {}
        for modality in modal:
            views[modality] = in_blocks(partial(purified, modality), self.n_items)
            for _ in range(self.n_layers):
                views[modality] = self.item_graphs[modality](views[modality])

        def of_items(rows: slice) -> Tensor:
            side, content = self.fuse(Views(items[rows], {m: view[rows] for m, view in views.items()}))
            return side + content

        def of_users(rows: slice) -> Tensor:
            bought = {m: self.user_items.product_of_rows(rows, view) for m, view in views.items()}
            side, content = self.fuse(Views(users[rows], bought))
            return side + content

        in_blocks(of_users, self.n_users, users)
        return users, in_blocks(of_items, self.n_items, items)

    def new_items(self, own: dict[str, Tensor], modal: dict[str, Tensor], views: Views, links: Links) -> Views:
        """Views, of N items alone, that were not trained on: content (N, D), modal modality -> (N, D).

        own: modality -> (N, D), what guides their purifier. modal, views: what forward was given and returned. Each is linked
        to its nearest training items by a row of the item graph. Its id embedding, and its place in the user-item view, where
        it has no edge, are its neighbours' mean.
        """
        embedding, new = links.mean(self.item_embedding), {}
        for m, guide in own.items():
            vectors = embedding * torch.sigmoid(self.gates[m](guide))
            others = self.item_embedding * torch.sigmoid(self.gates[m](modal[m]))
            scale = self.item_scales[m].to(others.device)
            for _ in range(self.n_layers):
                vectors, others = links.through_knn_graph(m, vectors, others, scale), self.item_graphs[m](others)
            new[m] = vectors
        return Views(links.mean(views.content[self.n_users :]), new)

    def with_new(
        self,
        new: NewItems,
        n_users: int,
        rows: Tensor,
        fused: tuple[Tensor, Tensor],
        modal: dict[str, Tensor],
        views: Views,
    ) -> tuple[Tensor, Tensor]:
        """`fuse` of the rows of a batch (B,), n_users users before the items, with a share of the items as new ones are."""

        def as_new(items: Tensor, links: Links) -> tuple[Tensor, Tensor]:
            own = {m: F.embedding(items, table) for m, table in modal.items()}
            return self.fuse(self.new_items(own, modal, views, links))

        dropped = new.dropped(rows[n_users:] - self.n_users, tuple(part[n_users:] for part in fused), as_new)
        side, content = (torch.cat((part[:n_users], other)) for part, other in zip(fused, dropped, strict=True))
        return side, content

    def fuse(self, views: Views, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return side and content of some rows (B,), or of all: two (B, D), whose sum is the final vector.

        rows number the users, then the items.
        """

        def take(table: Tensor) -> Tensor:
            return table if rows is None else F.embedding(rows, table)

        content = take(views.content)
        stacked = torch.stack([take(view) for view in views.modal.values()])  # (M, B, D)
        if len(stacked) == 1:
            return stacked[0], content
        common = (torch.softmax(self.attention(stacked), 0) * stacked).sum(0)  # (B, D)
        preference = torch.stack([torch.sigmoid(layer(content)) for layer in self.preferences.values()])
        separate = preference * (stacked - common)
        return (separate.sum(0) + common) / (len(stacked) + 1), content


def item_views(items: dict[str, Tensor], graphs: nn.ModuleDict, user_items: SparseGraph, n_layers: int) -> dict[str, Tensor]:
    """Item vectors of each view, propagated over its item graph and then to the users: view -> (U+I, D), users first.

    items: view -> (I, D). graphs: view -> SparseGraph (I, I). user_items: (U, I).
    """
    propagated = []
    for view, vectors in items.items():
        for _ in range(n_layers):
            vectors = graphs[view](vectors)
        propagated.append(vectors)
    users = user_items(torch.cat(propagated, 1)).chunk(len(items), 1)  # all views in one product
    return {view: torch.cat(pair) for view, *pair in zip(items, users, propagated, strict=True)}
