"""Sparse graphs: building them from interactions and features, and multiplying by them fast in both directions."""

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SparseGraph(nn.Module):
    """A constant sparse matrix (N, M) in CSR with its transpose, applied to dense matrices: `graph(x)`, x (M, D).

    The gradient of a product by A is a product by A^T, so both are laid out once. On the CPU rows are gathered and summed by
    embedding_bag, which is several times faster than torch's CSR product; the result is the same to rounding. Kept as
    buffers outside the state dict, so `.to(device)` moves them and checkpoints stay small.
    """

    def __init__(self, matrix: sp.spmatrix | sp.sparray):
        super().__init__()
        self.shape = matrix.shape
        self._register("forward", matrix.tocsr())
        self._register("backward", matrix.T.tocsr())

    def _register(self, direction: str, csr: sp.csr_matrix) -> None:
        csr.sort_indices()
        parts = {"offsets": csr.indptr, "columns": csr.indices, "values": csr.data.astype(np.float32)}
        for name, part in parts.items():
            self.register_buffer(f"_{direction}_{name}", torch.from_numpy(np.ascontiguousarray(part)), persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """Return the product (N, D) with a dense float32 (M, D)."""
        return _Product.apply(self, dense)

    def product(self, dense: Tensor, direction: str) -> Tensor:
        """The product by the matrix ('forward') or by its transpose ('backward'), without a gradient."""
        offsets, columns, values = (getattr(self, f"_{direction}_{name}") for name in ("offsets", "columns", "values"))
        if dense.is_cuda:
            size = (len(offsets) - 1, len(dense))
            return torch.sparse_csr_tensor(offsets, columns, values, size, check_invariants=False) @ dense
        return F.embedding_bag(
            columns, dense, offsets, mode="sum", per_sample_weights=values.to(dense.dtype), include_last_offset=True
        )


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, graph: SparseGraph, dense: Tensor) -> Tensor:
        ctx.graph = graph
        return graph.product(dense, "forward")

    @staticmethod
    def backward(ctx, grad: Tensor):
        return None, ctx.graph.product(grad.contiguous(), "backward")


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


def propagate_mean(graph: SparseGraph, embeddings: Tensor, n_layers: int) -> Tensor:
    """Mean over layers 0..n_layers of graph^l embeddings, (N, D) -> (N, D): LightGCN (arXiv 2002.02126), eqs (7)-(8)."""
    total = layer = embeddings
    for _ in range(n_layers):
        layer = graph(layer)
        total = total + layer
    return total / (n_layers + 1)


def nearest_neighbours(features: Tensor, k: int, block: int = 1024) -> tuple[Tensor, Tensor]:
    """Cosine similarity and index of the k nearest rows of each row, itself included: two (N, k), best first.

    features: float (N, D). Rows are compared in blocks, so N x N is never held.
    """
    unit = F.normalize(features.detach().float(), dim=-1)
    best = [(rows @ unit.T).topk(min(k, len(unit))) for rows in unit.split(block)]
    return torch.cat([values for values, _ in best]), torch.cat([indices for _, indices in best])


def knn_graph(features: Tensor, k: int) -> sp.csr_matrix:
    """Item-item graph of the k nearest neighbours by cosine: sim_ij / sqrt(deg_i deg_j), deg the row sum of kept sims.

    The item itself is one of the k. A row sum <= 0 gives weight 0. features: (I, D) -> CSR (I, I).
    """
    similarity, neighbour = (part.cpu().numpy() for part in nearest_neighbours(features, k))
    degree = similarity.sum(axis=1, dtype=np.float64)
    scale = np.zeros_like(degree)
    np.power(degree, -0.5, out=scale, where=degree > 0)
    rows = np.repeat(np.arange(len(neighbour)), neighbour.shape[1])
    columns = neighbour.ravel()
    weights = similarity.ravel() * scale[rows] * scale[columns]
    return sp.csr_matrix((weights, (rows, columns)), shape=(len(neighbour), len(neighbour)))
