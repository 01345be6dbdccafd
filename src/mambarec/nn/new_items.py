"""Items that a model was not trained on: their nearest training items, and what a new item takes from these.

A new item has features and nothing else. What a model keeps for each item, such as its id embedding, is taken from the nearest
training items by the cosine of the raw features: their mean, weighed by the inverse of the squared distance of the unit vectors
(Shepard, *A two-dimensional interpolation function for irregularly-spaced data*, ACM 1968), then the mean over modalities. So
an item with the features of a training item gets what that one has. A mean of vectors that point apart is shorter than they
are, and scores are inner products: so the vector that scores gets the mean length of the neighbours' (`at_length`).

DropoutNet (Volkovs, Yu and Poutanen, NeurIPS 2017) trains a model for such items: `item_dropout` puts, in each batch, a share
of the items in the place of new ones. N new items, I items, k neighbours, D width.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mambarec.base.settings import Settings, key

NEIGHBOURS = 10  # of a model without the key knn_k
_CLOSEST = 1e-4  # added to squared distances, which may be 0
_BLOCK = 256  # new items that are compared at a time


class NewItemSettings(Settings):
    """The keys of models that can be trained for new items."""

    item_dropout: float = key(
        "Share of a batch's items that are trained as new ones: their neighbours' id embedding takes the place of theirs.",
        ge=0,
        lt=1,
        later=0.0,
    )
    cold_items: Literal["own", "neighbours"] = key(
        "own: an item without a training pair keeps its untrained embedding. neighbours: it is scored as a new item.",
        later="own",
    )


class Links(NamedTuple):
    """The nearest training items of N items by modality: similarity and weight float32, neighbour int64, (N, k), best first.

    Weights add up to 1 over the modalities that an item has; those of a modality that it lacks are 0, and so are similarities.
    """

    similarity: dict[str, Tensor]
    neighbour: dict[str, Tensor]
    weight: dict[str, Tensor]

    def rows(self, items: Tensor) -> "Links":
        """The links of some of the items (B,)."""
        return Links(*({m: F.embedding(items, table) for m, table in part.items()} for part in self))

    def mean(self, table: Tensor) -> Tensor:
        """What the items take of a table of the training items: (I, D) -> (N, D)."""
        return torch.stack([_gather(self.neighbour[m], self.weight[m], table) for m in self.neighbour]).sum(0)

    def mean_of(self, modality: str, table: Tensor) -> Tensor:
        """The same by the neighbours in one modality alone."""
        weight = self.weight[modality]
        share = weight / weight.sum(1, keepdim=True).clamp(min=1e-12)
        return _gather(self.neighbour[modality], share, table)

    def through_knn_graph(self, modality: str, own: Tensor, others: Tensor, scale: Tensor) -> Tensor:
        """A row of `nn.graph.knn_graph` times [own; others]: the item itself and its k - 1 nearest. (N, D), (I, D) -> (N, D).

        scale (I,): the training items' 1 / sqrt(row sum), as they had it in training.
        """
        nearest, index = self.similarity[modality][:, :-1], self.neighbour[modality][:, :-1]
        there = self.weight[modality].sum(1, keepdim=True) > 0  # (N, 1)
        degree = 1 + nearest.sum(1, keepdim=True)
        own_scale = torch.where(degree > 0, degree.clamp(min=1e-12).rsqrt(), 0)
        row = own_scale.square() * own + _gather(
            index, nearest * own_scale * F.embedding(index, scale[:, None])[..., 0], others
        )
        return row * there

    def through_neighbour_graph(self, modality: str, own: Tensor, others: Tensor) -> Tensor:
        """A row of `nn.graph.neighbour_graph` times [own; others]: 1 / k at the item itself and its k - 1 nearest."""
        index = self.neighbour[modality]
        there = self.weight[modality].sum(1, keepdim=True) > 0  # (N, 1)
        k = max(index.shape[1], 1)  # none where no training item has the modality
        return (own + _gather(index[:, :-1], torch.ones_like(self.weight[modality][:, :-1]), others)) / k * there


def _gather(index: Tensor, weights: Tensor, table: Tensor) -> Tensor:
    """Weighted sums of rows: index and weights (N, k), table (I, D) -> (N, D)."""
    if not index.shape[1]:
        return table.new_zeros(len(index), table.shape[1])
    return F.embedding_bag(index, table, per_sample_weights=weights.to(table.dtype), mode="sum")


class TrainingItems:
    """The items that new ones are linked to: those with a training pair, by the raw features of each modality.

    features: modality -> float (I, D_m). trained: int64 (T,). masks: modality -> bool (I,), false at items without it.
    """

    def __init__(self, features: Mapping[str, Tensor], trained: Tensor, k: int, masks: Mapping[str, Tensor] | None = None):
        masks = masks or {}
        self.rows = {m: trained[masks[m][trained]] if m in masks else trained for m in features}
        self.units = {m: F.normalize(table[self.rows[m]].float(), dim=-1) for m, table in features.items()}  # (T_m, D_m)
        self.k = {m: min(k, len(self.rows[m])) for m in features}

    def link(
        self, features: Mapping[str, Tensor], has: Mapping[str, Tensor] | None = None, items: Tensor | None = None
    ) -> Links:
        """Links of N items by their features, modality -> (N, D_m).

        has: modality -> bool (N,), false at items without it. items (N,): which items of the data set these are; none of them
        is its own neighbour.
        """
        links = Links({}, {}, {})
        for m, table in features.items():
            k = min(self.k[m], len(self.rows[m]) - 1) if items is not None else self.k[m]
            parts = []
            for start in range(0, len(table), _BLOCK):
                products = F.normalize(table[start : start + _BLOCK].float(), dim=-1) @ self.units[m].T  # (B, T_m)
                if items is not None:
                    products.masked_fill_(items[start : start + _BLOCK, None] == self.rows[m], -torch.inf)
                parts.append(products.topk(max(k, 0)))
            values = torch.cat([part.values for part in parts])
            weight = 1 / (2 - 2 * values).clamp(min=0).add(_CLOSEST)
            weight = weight / weight.sum(1, keepdim=True)
            if has and m in has:
                weight, values = (part * has[m][:, None] for part in (weight, values))
            links.similarity[m], links.weight[m] = values, weight
            links.neighbour[m] = self.rows[m][torch.cat([part.indices for part in parts])]
        count = torch.stack([weight.sum(1) > 0 for weight in links.weight.values()]).sum(0).clamp(min=1)  # (N,)
        return Links(links.similarity, links.neighbour, {m: weight / count[:, None] for m, weight in links.weight.items()})


NewItemVectors = Callable[[Mapping[str, Tensor], Links], Tensor]  # features, modality -> (N, D_m), and links -> vectors (N, D)


class NewItems:
    """What a model does with new items while it is trained and evaluated: `item_dropout` and `cold_items`.

    known: the training items. cold (C,): the items of the data set without a training pair. links: of every item.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor],
        interactions,
        k: int,
        dropout: float,
        replaces_cold: bool,
        masks: Mapping[str, Tensor] | None = None,
    ):
        """interactions: SciPy (U, I), training pairs."""
        device = next(iter(features.values())).device
        degree = torch.from_numpy(np.asarray(interactions.sum(axis=0)).ravel()).to(device)
        self.features, self.masks = features, masks or {}
        self.cold = torch.arange(len(degree), device=device)[degree == 0]
        self.dropout, self.replaces_cold = dropout, replaces_cold and len(self.cold) > 0
        self.known = TrainingItems(features, torch.arange(len(degree), device=device)[degree > 0], k, masks)
        self.links = self.known.link(features, self.masks, torch.arange(len(degree), device=device))

    @classmethod
    def of(cls, config, features: Mapping[str, Tensor], interactions, masks: Mapping[str, Tensor], k: int) -> "NewItems | None":
        """As `item_dropout` and `cold_items` say; None where they ask for nothing."""
        dropout, replaces = config["item_dropout"] or 0.0, config["cold_items"] == "neighbours"
        return cls(features, interactions, k, dropout, replaces, masks) if dropout or replaces else None

    def dropped(self, items: Tensor, own: tuple[Tensor, ...], as_new: Callable[[Tensor, Links], tuple[Tensor, ...]]):
        """own, vectors (B, D) of some items (B,), with those of a random share as new items have them.

        as_new: of items and their links, what is to stand in the place of `own`.
        """
        if not self.dropout:
            return own
        chosen = (torch.rand(len(items), device=items.device) < self.dropout)[:, None]  # (B, 1)
        return tuple(torch.where(chosen, new, old) for new, old in zip(as_new(items, self.links.rows(items)), own, strict=True))

    def with_cold(self, items: Tensor, vectors: NewItemVectors) -> Tensor:
        """The item vectors (I, D), those of the cold items as new items have them."""
        if not self.replaces_cold:
            return items
        features = {m: table[self.cold] for m, table in self.features.items()}
        return items.index_copy(0, self.cold, vectors(features, self.links.rows(self.cold)))


def at_length(vectors: Tensor, links: Links, items: Tensor) -> Tensor:
    """Vectors of new items (N, D) at the mean length of their neighbours' vectors among the items' (I, D)."""
    return F.normalize(vectors, dim=1) * links.mean(torch.linalg.vector_norm(items, dim=1, keepdim=True))


def moved(features: Tensor, links: Links, modality: str, trained: Tensor, raw: Tensor) -> Tensor:
    """Features of new items (N, D_m), moved as training has moved those of their neighbours: trained - raw, (I, D_m) each."""
    if trained is raw:
        return features
    return features + links.mean_of(modality, trained - raw)
