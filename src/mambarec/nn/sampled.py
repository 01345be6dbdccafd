"""Sampled propagation: products by a sparse graph at the rows that a batch needs, estimated from a draw of their neighbours.

A layer is drawn in two stages. Each row keeps at most `fanout` of its neighbours, all with the same chance, as in GraphSAGE
(Hamilton et al., NeurIPS 2017, arXiv 1706.02216). Of the neighbours of all rows together at most `size` are kept, the more
likely the more they weigh, as in LADIES (Zou et al., NeurIPS 2019, arXiv 1911.07323). An edge that is kept is divided by the
chance that it had, so the expectation of a layer is the full layer (Horvitz and Thompson, JASA 1952). Both stages draw
systematically (Madow, Annals of Mathematical Statistics 1949): one uniform number places a comb over the candidates, so the
number that is drawn is fixed, and none is drawn twice.

All is NumPy on the host, without a loop over nodes. A draw depends on the generator alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mambarec.base.settings import Settings, key
from mambarec.nn.graph import SparseGraph, propagate_mean

_FANOUT, _LAYER_SIZE = 10, 4  # where fanouts and layer_size are null
_BLOCK, _COLUMNS = 8192, 16  # rows, or columns, that are computed at a time where all are
_GATHERED = 128  # rows of features that are gathered at a time on the CPU


class SampledSettings(Settings):
    """The keys of models whose steps can be sampled."""

    propagation: Literal["full", "sampled"] = key(
        "sampled: a step reads the batch and a draw of its neighbours. full: the whole graph.", later="full"
    )
    fanouts: list[Annotated[int, Field(gt=0)]] | None = key(
        "With sampled propagation: neighbours that a row keeps, layer by layer. The last serves the layers beyond. null: [10].",
        min_length=1,
        later=None,
        only_with="propagation=sampled",
    )
    layer_size: int | None = key(
        "With sampled propagation: rows that a layer keeps, for each pair of the batch. null: 4.",
        gt=0,
        later=None,
        only_with="propagation=sampled",
    )


class Sampling(NamedTuple):
    """How layers are drawn. fanouts: neighbours a row keeps, layer by layer. layer_size: rows of a layer for each pair."""

    fanouts: list[int]
    layer_size: int

    def fanout(self, layer: int) -> int:
        """That of a layer, counted from 0; the last of the list serves the layers beyond it."""
        return self.fanouts[min(layer, len(self.fanouts) - 1)]


def sampling_of(config: Mapping[str, Any], new_items: Any = None) -> Sampling | None:
    """The settings of `propagation: sampled`, None of `propagation: full`; ValueError where they contradict one another.

    new_items: what a model does with these, for which it needs the full graph.
    """
    if config["propagation"] == "sampled":
        if new_items:
            raise ValueError("item_dropout and cold_items need propagation: full; leave them, or propagation: sampled, out")
        return Sampling(config["fanouts"] or [_FANOUT], config["layer_size"] or _LAYER_SIZE)
    for name in ("fanouts", "layer_size"):
        if config[name] is not None:
            raise ValueError(
                f"{name}={config[name]} has no effect with propagation: full; leave it out, or set propagation: sampled"
            )
    return None


class Layer(NamedTuple):
    """One drawn layer: columns int64 (M,), ascending, of the full graph, and the product (N, M) by these."""

    columns: np.ndarray
    graph: SparseGraph


class NeighbourSampler:
    """Draws layers of one graph. Not for two threads at once."""

    def __init__(self, graph: SparseGraph):
        parts = (getattr(graph, f"_forward_{name}") for name in ("offsets", "columns", "values"))
        self.offsets, self.columns, self.values = (part.cpu().numpy() for part in parts)
        self.n_columns = graph.shape[1]
        self._place = np.empty(self.n_columns, dtype=np.int32)  # of a column among those of the layer that is drawn

    def layer(self, rows: np.ndarray, fanout: int, size: int, generator: np.random.Generator) -> Layer:
        """Draw a layer for distinct rows (N,): `fanout` neighbours of each at most, `size` of all together at most."""
        starts = self.offsets[rows].astype(np.int64)
        degrees = self.offsets[rows + 1] - starts
        taken = np.minimum(degrees, fanout)
        step = degrees / np.maximum(taken, 1)  # 1 / the chance of a neighbour
        row = np.repeat(np.arange(len(rows)), taken)  # (E,)
        tooth = np.arange(len(row)) - np.repeat(taken.cumsum() - taken, taken) + generator.random(len(rows), np.float32)[row]
        edges = starts[row] + (tooth * step[row]).astype(np.int64)  # below the row's end: 24 random bits leave no rounding
        values = self.values[edges] * step[row]

        columns, place = self._numbered(self.columns[edges])
        if len(columns) > size:
            weights = np.sqrt(np.bincount(place, values**2))  # least variance, for vectors of one length
            chance = _chances(weights, size)
            drawn = _systematic(chance, generator.random())
            kept = drawn[place]
            row, place, values = row[kept], place[kept], values[kept]
            values = values / chance[place]
            columns, place = columns[drawn], (drawn.cumsum() - 1)[place]
        ends = np.bincount(row, minlength=len(rows)).cumsum()
        matrix = sp.csr_matrix((values, place, np.concatenate(([0], ends))), shape=(len(rows), len(columns)))
        return Layer(columns, SparseGraph(matrix))

    def layers(
        self, rows: np.ndarray, n_layers: int, sampling: Sampling, size: int, generator: np.random.Generator
    ) -> list[Layer]:
        """Draw one layer after another, each for the columns of the one before."""
        drawn: list[Layer] = []
        for number in range(n_layers):
            rows = drawn[-1].columns if drawn else rows
            drawn.append(self.layer(rows, sampling.fanout(number), size, generator))
        return drawn

    def _numbered(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The distinct of (E,), ascending, and the place of each among these: np.unique without sorting all E."""
        order = np.arange(len(columns), dtype=np.int32)
        self._place[columns] = order
        distinct = np.sort(columns[self._place[columns] == order])  # of equal ones, that whose number was left there
        self._place[distinct] = order[: len(distinct)]
        return distinct.astype(np.int64), self._place[columns]


def _chances(weights: np.ndarray, size: int) -> np.ndarray:
    """In proportion to weights (M,), at most 1, and `size` in sum."""
    certain = np.zeros(len(weights), dtype=bool)
    while True:
        left, rest = size - certain.sum(), weights[~certain].sum()
        chances = np.where(certain, 1.0, weights * (left / rest if rest > 0 else 0.0))
        more = (chances >= 1) & ~certain
        if not more.any():
            return chances
        certain |= more


def _systematic(chances: np.ndarray, uniform: float) -> np.ndarray:
    """Draw with the given chances (M,), to a mask (M,): where uniform + the sum so far passes a whole number."""
    passed = np.floor(chances.cumsum() + uniform)
    return (np.diff(passed, prepend=0.0) > 0) | (chances >= 1)


class Batch(NamedTuple):
    """A batch by its distinct ids: users (N,), items (M,), positives first; interaction: the batch in their numbers."""

    users: np.ndarray
    items: np.ndarray
    n_positives: int
    interaction: Tensor

    def layer_size(self, sampling: Sampling) -> int:
        """The most rows of a layer."""
        return sampling.layer_size * self.interaction.shape[1]

    @classmethod
    def of(cls, interaction: Tensor) -> "Batch":
        """Of int64 (3, B): users, positives, negatives."""
        users, user = np.unique(interaction[0].cpu().numpy(), return_inverse=True)
        pairs = interaction[1:].cpu().numpy()
        positives = np.unique(pairs[0])
        items = np.concatenate((positives, np.setdiff1d(pairs[1], positives)))
        order = items.argsort()
        numbers = order[np.searchsorted(items, pairs, sorter=order)]  # (2, B)
        return cls(users, items, len(positives), torch.from_numpy(np.concatenate((user[None], numbers))))


class Rows(NamedTuple):
    """Distinct rows of the tables of users and of items that a step reads: ids of users, ids of items, ascending."""

    users: Tensor
    items: Tensor

    @classmethod
    def of(cls, n_users: int, nodes: np.ndarray) -> tuple["Rows", Tensor]:
        """The rows of some nodes (N,), users first, then items + n_users; and the places (N,) of the nodes among them."""
        distinct, places = np.unique(nodes, return_inverse=True)
        first = np.searchsorted(distinct, n_users)
        rows = cls(torch.from_numpy(distinct[:first]), torch.from_numpy(distinct[first:] - n_users))
        return rows, torch.from_numpy(places)

    def take(self, users: Tensor, items: Tensor) -> Tensor:
        """These rows (R, D) of the tables (U, D) and (I, D), users first."""
        return torch.cat((take_rows(users, self.users), take_rows(items, self.items)))


class Read(NamedTuple):
    """What a batch reads of its users and items: their propagated vectors and their embeddings, (N, D) each, users first.

    extra: the embeddings of further items that were asked for, a table for each list of them.
    """

    propagated: Tensor
    embedded: Tensor
    extra: list[Tensor]


class SampledPropagation(NamedTuple):
    """A batch, the rows of users and items that it reads, and the drawn layers of LightGCN's propagation.

    sizes: how many users and items the batch has. places: of the batch's nodes among the rows, then of the columns of each
    layer, then of each list of further items, one behind the other; lengths: how many there are of each.
    """

    interaction: Tensor
    sizes: tuple[int, int]
    rows: Rows
    graphs: list[SparseGraph]
    places: Tensor
    lengths: list[int]

    @classmethod
    def draw(
        cls,
        batch: Batch,
        sampler: NeighbourSampler,
        n_users: int,
        n_layers: int,
        sampling: Sampling,
        generator: np.random.Generator,
        extra: Sequence[np.ndarray] = (),
    ) -> "SampledPropagation":
        """Draw the layers for a batch. sampler: of the graph of users, then items. extra: items that are read too."""
        seeds = np.concatenate((batch.users, batch.items + n_users))
        layers = sampler.layers(seeds, n_layers, sampling, batch.layer_size(sampling), generator)
        nodes = [seeds, *(layer.columns for layer in layers)]
        nodes += [items + n_users for items in extra]
        rows, places = Rows.of(n_users, np.concatenate(nodes))
        sizes = len(batch.users), len(batch.items)
        return cls(batch.interaction, sizes, rows, [layer.graph for layer in layers], places, [len(part) for part in nodes])

    def read(self, users: Tensor, items: Tensor) -> Read:
        """users (U, D), items (I, D): the embeddings. All that is read of them is gathered at once, and so is its gradient.

        With A_l the l-th drawn layer, propagated is propagate_mean: (x + A_1 (x + A_2 (x + ...))) / (L + 1).
        """
        parts = F.embedding(self.places, self.rows.take(users, items)).split(self.lengths)
        layers, extra = parts[: len(self.graphs) + 1], parts[len(self.graphs) + 1 :]
        total = layers[-1]
        for graph, part in zip(reversed(self.graphs), reversed(layers[:-1]), strict=True):
            total = part + graph(total)
        return Read(total / len(layers), parts[0], list(extra))


class SampledChain(NamedTuple):
    """Layers of a graph one after another at some rows, from drawn layers: A_1 A_2 ... A_L x."""

    graphs: list[SparseGraph]

    @classmethod
    def draw(
        cls,
        batch: Batch,
        rows: np.ndarray,
        sampler: NeighbourSampler,
        n_layers: int,
        sampling: Sampling,
        generator: np.random.Generator,
    ) -> tuple["SampledChain", np.ndarray]:
        """Draw the layers for distinct rows (N,), all neighbours of each; returns the rows (M,) they start from, too."""
        whole = Sampling([sampler.n_columns], sampling.layer_size)
        layers = sampler.layers(rows, n_layers, whole, batch.layer_size(sampling), generator)
        return cls([layer.graph for layer in layers]), layers[-1].columns if layers else rows

    def __call__(self, table: Tensor) -> Tensor:
        """table (M, D), the vectors of the rows it starts from -> (N, D)."""
        for graph in reversed(self.graphs):
            table = graph(table)
        return table


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, rows: Tensor) -> Tensor:
        ctx.shape = table.shape
        ctx.save_for_backward(rows)
        return F.embedding(rows, table)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (rows,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(rows[None], grad, ctx.shape, check_invariants=False), None


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Distinct rows (N,) of a table (R, D), as float32; a trained table gets a sparse gradient, of these rows alone."""
    return _TakeRows.apply(table, rows) if table.requires_grad else F.embedding(rows, table).float()


class _ProjectRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.table, ctx.rows, ctx.size = table, rows, len(rows) if rows.is_cuda else _GATHERED
        result = weight.new_empty(len(rows), len(weight))
        for part, into in zip(rows.split(ctx.size), result.split(ctx.size), strict=True):
            torch.mm(F.embedding(part, table).float(), weight.T, out=into)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        of_weight = grad.new_zeros(grad.shape[1], ctx.table.shape[1])
        for part, of_part in zip(ctx.rows.split(ctx.size), grad.split(ctx.size), strict=True):
            of_weight.addmm_(of_part.T, F.embedding(part, ctx.table).float())
        return None, None, of_weight


def project_rows(layer: nn.Module, table: Tensor, rows: Tensor) -> Tensor:
    """A linear layer without a bias, of distinct rows (N,) of a table (R, D_m): (N, D). The gradient of the table is sparse.

    Of a table that is not trained, few rows are gathered at a time, forwards and backwards, so that they stay in the
    processor's cache and N x D_m values are never held.
    """
    if table.requires_grad or torch.is_autocast_enabled(table.device.type):
        return layer(take_rows(table, rows))
    return _ProjectRows.apply(table, rows, layer.weight)


@torch.no_grad()
def propagate_blocks(graph: SparseGraph, users: Tensor, items: Tensor, n_layers: int) -> tuple[Tensor, Tensor]:
    """propagate_mean of user (U, D) and item (I, D) vectors, some columns at a time, so that no further table is held."""
    results = torch.empty_like(users), torch.empty_like(items)
    for tables in zip(*(table.split(_COLUMNS, 1) for table in (users, items, *results)), strict=True):
        parts = propagate_mean(graph, torch.cat(tables[:2]), n_layers).split((len(users), len(items)))
        for result, part in zip(tables[2:], parts, strict=True):
            result.copy_(part)
    return results


@torch.no_grad()
def in_blocks(function: Callable[[slice], Tensor], n_rows: int, result: Tensor | None = None) -> Tensor:
    """The rows (n_rows, D) of which function(slice) gives some, for some thousand at a time; without a gradient.

    result: a table to write them into, of which `function` reads no rows but those of its slice.
    """
    for start in range(0, n_rows, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n_rows))
        block = function(rows)
        result = block.new_empty((n_rows, *block.shape[1:])) if result is None else result
        result[rows] = block
    assert result is not None  # a data set has users and items
    return result


def modal_in_blocks(encoders: nn.ModuleDict, tables: Any) -> dict[str, Tensor]:
    """modality -> its encoder's vectors (I, D) of all rows of its table, in blocks."""

    def encoded(encode: nn.Module, table: Tensor) -> Tensor:
        return in_blocks(lambda rows: encode(table[rows].float()), len(table))

    return {modality: encoded(encode, tables[modality]) for modality, encode in encoders.items()}


def on_device(value: Any, device: torch.device) -> Any:
    """A sample, made of tuples, lists and dictionaries of tensors and graphs, on a device."""
    if isinstance(value, Tensor | nn.Module):
        return value.to(device)
    if isinstance(value, dict):
        return {key: on_device(part, device) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(on_device(part, device) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(on_device(part, device) for part in value)
    return value
