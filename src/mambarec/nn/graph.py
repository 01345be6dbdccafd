"""Sparse graphs: building them from interactions and features, and multiplying by them fast in both directions."""

import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mambarec.base.settings import Settings, key
from mambarec.nn.neighbours import nearest_neighbours
from mambarec.nn.precision import in_float32


class FrozenItemGraphSettings(Settings):
    """The keys of models that add layers over `frozen_item_graph`."""

    n_mm_layers: int = key("Layers of the item-item graph.", ge=0, le=1000)
    knn_k: int = key("Neighbours of an item in the item-item graph.", gt=0, le=10**6)
    mm_image_weight: float = key("Weight of the visual item-item graph. The other modalities share the rest.", ge=0, le=1)


class SparseGraph(nn.Module):
    """A constant sparse matrix (N, M) in CSR with its transpose, applied to dense matrices: `graph(x)`, x (M, D).

    The gradient of a product by A is a product by A^T, so both are laid out once. On the CPU rows are gathered and summed by
    embedding_bag, which is several times faster than torch's CSR product; the result is the same to rounding. Kept as
    buffers outside the state dict, so `.to(device)` moves them and checkpoints stay small.
    """

    _forward_offsets: Tensor
    _forward_columns: Tensor
    _forward_values: Tensor

    def __init__(self, matrix: sp.spmatrix | sp.sparray):
        super().__init__()
        self.shape = matrix.shape
        self._register("forward", matrix.tocsr())
        self._register("backward", matrix.T.tocsr())

    @property
    def n_edges(self) -> int:
        """How many entries the matrix has."""
        return len(self._forward_columns)

    def _register(self, direction: str, csr: sp.csr_matrix) -> None:
        csr.sort_indices()
        parts = {"offsets": csr.indptr, "columns": csr.indices, "values": csr.data.astype(np.float32)}
        for name, part in parts.items():
            self.register_buffer(f"_{direction}_{name}", torch.from_numpy(np.ascontiguousarray(part)), persistent=False)

    @in_float32
    def forward(self, dense: Tensor) -> Tensor:
        """Return the product (N, D) with a dense float32 (M, D)."""
        return _Product.apply(self, dense)

    def product_of_rows(self, rows: slice, dense: Tensor) -> Tensor:
        """The product (B, D) of some rows, one after another, with a dense float32 (M, D), without a gradient."""
        offsets = self._forward_offsets[rows.start : rows.stop + 1]
        edges = slice(int(offsets[0]), int(offsets[-1]))
        return _csr_product(offsets - offsets[0], self._forward_columns[edges], self._forward_values[edges], dense)

    def product(self, dense: Tensor, direction: str) -> Tensor:
        """The product by the matrix ('forward') or by its transpose ('backward'), without a gradient."""
        offsets, columns, values = (getattr(self, f"_{direction}_{name}") for name in ("offsets", "columns", "values"))
        return _csr_product(offsets, columns, values, dense)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, graph: SparseGraph, dense: Tensor) -> Tensor:
        ctx.graph = graph
        return graph.product(dense, "forward")

    @staticmethod
    def backward(ctx, grad: Tensor):
        return None, ctx.graph.product(grad.contiguous(), "backward")


class _MeanOfLayers(torch.autograd.Function):
    """propagate_mean over a SparseGraph: the same numbers, with fewer passes over memory."""

    @staticmethod
    def forward(ctx, graph: SparseGraph, embeddings: Tensor, n_layers: int) -> Tensor:
        ctx.graph, ctx.n_layers = graph, n_layers
        layer = graph.product(embeddings, "forward")
        total = embeddings + layer
        for _ in range(n_layers - 1):
            layer = graph.product(layer, "forward")
            total += layer
        return total.div_(n_layers + 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        share = grad / (ctx.n_layers + 1)
        total = share
        for _ in range(ctx.n_layers):
            total = ctx.graph.product(total, "backward").add_(share)
        return None, total, None


class EdgeGraph(nn.Module):
    """E edges between N row nodes and M column nodes, whose weights are computed, and trained, anew in each step.

    Scores and weights are (E,), in the order of CSR: row by row, columns ascending. `side`, 'rows' or 'columns', is the end of
    an edge at which a softmax or a sum is taken. All are differentiable, and none makes an (E, D) tensor: the gradient of
    a weighted sum with respect to the weights is a dot product per edge, and that of a dot product a weighted sum.
    """

    _rows_offsets: Tensor
    _rows_neighbours: Tensor
    _order: Tensor

    def __init__(self, matrix: sp.spmatrix | sp.sparray):
        """matrix: (N, M); its entries are the edges, their values are not used."""
        super().__init__()
        by_row = sp.csr_matrix(matrix, copy=True)
        by_row.sum_duplicates()
        by_row.data = np.arange(by_row.nnz)  # the number of each edge
        by_column = by_row.tocsc()
        parts = {
            "rows_offsets": by_row.indptr,
            "rows_neighbours": by_row.indices,
            "rows_nodes": np.repeat(np.arange(by_row.shape[0]), np.diff(by_row.indptr)),  # this end of each edge
            "columns_offsets": by_column.indptr,
            "columns_neighbours": by_column.indices,
            "columns_nodes": by_row.indices.astype(np.int64),
            "order": by_column.data,  # of the edges, column by column
        }
        self._register({name: torch.from_numpy(part) for name, part in parts.items()})

    @property
    def n_edges(self) -> int:
        """E, how many edges there are."""
        return len(self._rows_neighbours)

    def _register(self, parts: dict[str, Tensor]) -> None:
        for name, part in parts.items():
            self.register_buffer(f"_{name}", part, persistent=False)

    @in_float32
    def dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner product of the two ends of each edge: left (N, D), right (M, D) -> (E,)."""
        return _EdgeDot.apply(self, left, right)

    @in_float32
    def softmax(self, scores: Tensor, side: str) -> Tensor:
        """Softmax over the edges of each node on that side: (E,) -> (E,)."""
        nodes, size = getattr(self, f"_{side}_nodes"), len(getattr(self, f"_{side}_offsets")) - 1
        top = scores.new_zeros(size).scatter_reduce(0, nodes, scores.detach(), "amax", include_self=False)
        exponential = torch.exp(scores - top[nodes])
        total = scores.new_zeros(size).index_add(0, nodes, exponential)
        return exponential / total.index_select(0, nodes)

    @in_float32
    def weighted_sum(self, weights: Tensor, vectors: Tensor, side: str) -> Tensor:
        """For each node on that side, the weighted sum of the vectors at the other ends of its edges; 0 without edges.

        weights (E,); with side 'rows', vectors (M, D) -> (N, D); with 'columns', (N, D) -> (M, D).
        """
        return _EdgeSum.apply(self, weights, vectors, side)

    def take(self, table: Tensor, side: str) -> Tensor:
        """The row of each edge's node on that side: table (N, C) or (M, C) -> (E, C)."""
        return F.embedding(getattr(self, f"_{side}_nodes"), table)


class NeighbourGraph(EdgeGraph):
    """An EdgeGraph of k edges from each row, laid out on the device without waiting for it: for neighbours that change."""

    def __init__(self, neighbours: Tensor, n_columns: int, items: Tensor | None = None):
        """neighbours: int64 (R, k), distinct columns of each row; the edges take them in ascending order. n_columns: M.

        items: int64 (R,), ascending: the graph is (M, M), and these rows alone have edges, which lead to one another. None: all
        rows have edges.
        """
        nn.Module.__init__(self)
        (n, self.k), device = neighbours.shape, neighbours.device
        self.items, self.n_rows = items, n if items is None else n_columns
        rows = torch.arange(n, device=device) if items is None else items
        columns = neighbours.sort(1).values.flatten()  # (E,)
        order = columns.argsort(stable=True)
        bounds = torch.arange(n_columns + 1, device=device)
        parts = {
            "rows_offsets": torch.searchsorted(rows, torch.arange(self.n_rows + 1, device=device)) * self.k,
            "rows_neighbours": columns,
            "columns_offsets": torch.searchsorted(columns[order], bounds),
            "columns_neighbours": rows[order // self.k],
        }
        parts = {name: part.int() for name, part in parts.items()}  # as SciPy has them
        nodes = rows[:, None].expand(n, self.k).flatten()
        self._register(parts | {"rows_nodes": nodes, "columns_nodes": columns, "order": order})

    def row_sums(self, weights: Tensor) -> Tensor:
        """The sum of the weights (E,) of each row's edges: (N, 1)."""
        sums = weights.view(-1, self.k).sum(1, keepdim=True)
        return sums if self.items is None else sums.new_zeros(self.n_rows, 1).index_copy(0, self.items, sums)


def _edge_dot(graph: EdgeGraph, left: Tensor, right: Tensor) -> Tensor:
    pattern = _csr(graph._rows_offsets, graph._rows_neighbours, left.new_zeros(len(graph._order)), len(right))
    return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()


def _edge_sum(graph: EdgeGraph, weights: Tensor, vectors: Tensor, side: str) -> Tensor:
    if side == "columns":
        weights = weights[graph._order]
    return _csr_product(getattr(graph, f"_{side}_offsets"), getattr(graph, f"_{side}_neighbours"), weights, vectors)


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, graph: EdgeGraph, left: Tensor, right: Tensor) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(left, right)
        return _edge_dot(graph, left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        left, right = ctx.saved_tensors
        _, of_left, of_right = ctx.needs_input_grad
        grad_left = _edge_sum(ctx.graph, grad, right, "rows") if of_left else None
        return None, grad_left, _edge_sum(ctx.graph, grad, left, "columns") if of_right else None


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, graph: EdgeGraph, weights: Tensor, vectors: Tensor, side: str) -> Tensor:
        ctx.graph, ctx.side = graph, side
        ctx.save_for_backward(weights, vectors)
        return _edge_sum(graph, weights, vectors, side)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        weights, vectors = ctx.saved_tensors
        _, of_weights, of_vectors, _ = ctx.needs_input_grad
        grad, at_rows = grad.contiguous(), ctx.side == "rows"
        ends = (grad, vectors) if at_rows else (vectors, grad)
        grad_weights = _edge_dot(ctx.graph, *ends) if of_weights else None
        grad_vectors = _edge_sum(ctx.graph, weights, grad, "columns" if at_rows else "rows") if of_vectors else None
        return None, grad_weights, grad_vectors, None


def _csr(offsets: Tensor, columns: Tensor, values: Tensor, n_columns: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR tensors beta, once in a process
        return torch.sparse_csr_tensor(offsets, columns, values, (len(offsets) - 1, n_columns), check_invariants=False)


def _csr_product(offsets: Tensor, columns: Tensor, values: Tensor, dense: Tensor) -> Tensor:
    if dense.is_cuda:
        return _csr(offsets, columns, values, len(dense)) @ dense
    return F.embedding_bag(
        columns, dense, offsets, mode="sum", per_sample_weights=values.to(dense.dtype), include_last_offset=True
    )


def neighbour_mean(interactions: sp.spmatrix) -> sp.csr_matrix:
    """The binary matrix with each row divided by its sum: times x, the mean over a row's columns; 0 in an empty row. CSR."""
    binary = sp.csr_matrix(interactions, dtype=np.float64)
    degree = np.asarray(binary.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(1 / np.maximum(degree, 1)) @ binary)


def normalized_interactions(interactions: sp.spmatrix, epsilon: float = 1e-7) -> sp.csr_matrix:
    """R with r_ui / sqrt(deg_u deg_i), degrees + epsilon: the user-item block of normalized_adjacency. CSR (U, I)."""
    binary = sp.csr_matrix(interactions, dtype=np.float64)
    user_scale = 1 / np.sqrt(np.asarray(binary.sum(axis=1)).ravel() + epsilon)
    item_scale = 1 / np.sqrt(np.asarray(binary.sum(axis=0)).ravel() + epsilon)
    return sp.csr_matrix(sp.diags(user_scale) @ binary @ sp.diags(item_scale))


def normalized_adjacency(interactions: sp.spmatrix, epsilon: float = 1e-7) -> sp.csr_matrix:
    """D^-1/2 [[0, R], [R^T, 0]] D^-1/2 of the binary user-item matrix R (U, I), degrees + epsilon. CSR (U+I, U+I)."""
    block = normalized_interactions(interactions, epsilon)
    return sp.csr_matrix(sp.bmat([[None, block], [block.T, None]]))


def draw(weights: Tensor, size: int) -> Tensor:
    """Index of `size` of the weights (E,), drawn without replacement, each time in proportion to the weights that are left.

    The smallest of independent exponential variables with the weights as their rates are such a draw (Efraimidis and
    Spirakis, Information Processing Letters 2006). torch.multinomial does the same, for at most 2^24 weights.
    """
    return (torch.empty_like(weights).exponential_() / weights).topk(size, largest=False).indices


def draw_pairs(interactions: sp.csr_matrix, size: int) -> sp.csr_matrix:
    """`size` of the pairs (U, I), drawn without replacement, in proportion to 1 / sqrt(deg_u deg_i). CSR (U, I).

    The draw is of torch's global generator.
    """
    weights = torch.from_numpy(normalized_interactions(interactions).data)  # (E,)
    kept = draw(weights, size).numpy()
    pairs = interactions.tocoo()
    return sp.csr_matrix((pairs.data[kept], (pairs.row[kept], pairs.col[kept])), shape=pairs.shape)


def propagate_mean(graph: SparseGraph, embeddings: Tensor, n_layers: int) -> Tensor:
    """Mean over layers 0..n_layers of graph^l embeddings, (N, D) -> (N, D): LightGCN (arXiv 2002.02126), eqs (7)-(8)."""
    if isinstance(graph, SparseGraph) and n_layers:
        return _mean_of_layers(graph, embeddings, n_layers)
    total = layer = embeddings
    for _ in range(n_layers):
        layer = graph(layer)
        total = total + layer
    return total / (n_layers + 1)


@in_float32
def _mean_of_layers(graph: SparseGraph, embeddings: Tensor, n_layers: int) -> Tensor:
    return _MeanOfLayers.apply(graph, embeddings, n_layers)


def knn_graph(features: Tensor, k: int, mask: Tensor | None = None) -> sp.csr_matrix:
    """Item-item graph of the k nearest neighbours by cosine: sim_ij / sqrt(deg_i deg_j), deg the row sum of kept sims.

    The item itself is one of the k. A row sum <= 0 gives weight 0. features: (I, D) -> CSR (I, I). mask: bool (I,); items where
    it is false have no edge.
    """
    return scaled_knn_graph(features, k, mask)[0]


def scaled_knn_graph(features: Tensor, k: int, mask: Tensor | None = None) -> tuple[sp.csr_matrix, np.ndarray]:
    """knn_graph, and each item's 1 / sqrt(deg) (I,), 0 where the mask is false."""
    similarity, neighbour, items = _neighbours(features, k, mask)
    scale = np.zeros(len(features))
    scale[items] = _inverse_root(similarity.sum(axis=1, dtype=np.float64))
    rows = np.repeat(items, neighbour.shape[1])
    columns = neighbour.ravel()
    weights = similarity.ravel() * scale[rows] * scale[columns]
    return sp.csr_matrix((weights, (rows, columns)), shape=(len(features), len(features))), scale


def _neighbours(features: Tensor, k: int, mask: Tensor | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity and index (M, k) of the neighbours of some items, and these items (M,): all, or those of a mask."""
    items = torch.arange(len(features), device=features.device) if mask is None else torch.nonzero(mask).flatten()
    similarity, neighbour = nearest_neighbours(features if mask is None else features[items], k)
    return similarity.cpu().numpy(), items[neighbour].cpu().numpy(), items.cpu().numpy()


def normalized_by_rows(matrix: sp.spmatrix) -> sp.csr_matrix:
    """M_ij / sqrt(r_i r_j) with the row sums r, also where M is not symmetric. A row sum <= 0 gives weight 0. CSR (N, N)."""
    scale = sp.diags(_inverse_root(np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()))
    return sp.csr_matrix(scale @ matrix @ scale)


def _inverse_root(sums: np.ndarray) -> np.ndarray:
    """sums (N,) ** -1/2, 0 where they are not above 0."""
    scale = np.zeros_like(sums)
    np.power(sums, -0.5, out=scale, where=sums > 0)
    return scale


def strongest(graphs: Sequence[sp.csr_matrix]) -> sp.csr_matrix:
    """The entrywise maximum over the entries that there are: one that only one graph has keeps its value. CSR (N, M)."""
    parts, n_columns = [graph.tocoo() for graph in graphs], graphs[0].shape[1]
    places = np.concatenate([part.row.astype(np.int64) * n_columns + part.col for part in parts])
    values = np.concatenate([part.data for part in parts])
    order = np.lexsort((values, places))
    places, values = places[order], values[order]
    largest = np.append(places[1:] != places[:-1], True)
    rows, columns = np.divmod(places[largest], n_columns)
    return sp.csr_matrix((values[largest], (rows, columns)), shape=graphs[0].shape)


def frozen_item_graph(
    features: dict[str, Tensor], k: int, visual_weight: float, masks: Mapping[str, Tensor] | None = None
) -> sp.csr_matrix:
    """Weighted sum of the modalities' nearest-neighbour graphs, each row of which holds 1 / k at k items. CSR (I, I).

    FREEDOM's item graph (arXiv 2211.06924). The weights are those of `graph_shares`. Unweighted edges over sqrt(out-degree of
    both ends) are 1 / k, as every out-degree is k. masks: modality -> bool (I,); items where one is false have no edge in that
    modality.
    """
    shares = graph_shares(features, visual_weight)
    order = sorted(features, key=lambda modality: modality == "visual")  # it is added last, which decides the last bit
    graphs = (shares[modality] * neighbour_graph(features[modality], k, (masks or {}).get(modality)) for modality in order)
    return sp.csr_matrix(sum(graphs))


def graph_shares(modalities: Iterable[str], visual_weight: float) -> dict[str, float]:
    """What each modality's graph weighs in frozen_item_graph: the visual one visual_weight. The others share the rest."""
    names = list(modalities)
    if "visual" not in names or len(names) == 1:
        return dict.fromkeys(names, 1 / len(names))
    return {name: visual_weight if name == "visual" else (1 - visual_weight) / (len(names) - 1) for name in names}


def neighbour_graph(table: Tensor, k: int, mask: Tensor | None = None) -> sp.csr_matrix:
    """1 / k at the k nearest neighbours of each row by cosine, itself included: (N, D) -> CSR (N, N). mask: as in knn_graph."""
    _, neighbours, items = _neighbours(table, k, mask)  # (M, k)
    n, k = len(table), neighbours.shape[1]
    offsets = np.zeros(n + 1, dtype=np.int64)
    offsets[items + 1] = k
    return sp.csr_matrix((np.full(neighbours.size, 1 / k), neighbours.ravel(), offsets.cumsum()), shape=(n, n))


def most_shared(interactions: sp.spmatrix, k: int, block: int = 1024) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of a binary matrix, the up to k other rows that share most columns with it, and how many they share.

    Most first, equal ones by number; rows that share nothing are not among them. Returns offsets (N+1,), neighbours and counts:
    those of row n stand from offsets[n] to offsets[n + 1]. The product by the transpose is made for `block` rows at a time.
    """
    binary = sp.csr_matrix(interactions, dtype=np.int64).sign()
    columns_by_row, n = binary.T.tocsr(), binary.shape[0]
    lengths, neighbours, counts = [], [], []
    for start in range(0, n, block):
        shared = (binary[start : start + block] @ columns_by_row).tocoo()
        others = shared.row + start != shared.col
        row, column, count = (part[others].astype(np.int64) for part in (shared.row, shared.col, shared.data))
        most = count.max(initial=0)
        order = np.sort((row * (most + 1) + most - count) * n + column)  # by row, then most shared, then number
        rank, column = np.divmod(order, n)
        row, behind = np.divmod(rank, most + 1)
        size = np.bincount(row, minlength=shared.shape[0])
        kept = np.arange(len(row)) - np.repeat(size.cumsum() - size, size) < k
        lengths.append(np.minimum(size, k))
        neighbours.append(column[kept])
        counts.append(most - behind[kept])
    return np.concatenate(([0], *lengths)).cumsum(), np.concatenate(neighbours), np.concatenate(counts)
