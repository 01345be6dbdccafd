"""Dense item graphs under the names that models written for MMRec import; ours use the sparse ones of mambarec.nn.graph.

N items, D width of a feature. All are differentiable, for models that learn their graph.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def build_sim(context: Tensor) -> Tensor:
    """Cosine similarity of every row with every row, (N, D) -> (N, N); 0 for a row of zeros."""
    unit = F.normalize(context, dim=-1)
    return unit @ unit.T


def build_knn_neighbourhood(adj: Tensor, topk: int) -> Tensor:
    """The topk largest entries of each row, 0 elsewhere: (N, N) -> (N, N)."""
    values, columns = adj.topk(topk, dim=-1)
    return torch.zeros_like(adj).scatter(-1, columns, values)


def compute_normalized_laplacian(adj: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2, D the row sums of A, (N, N) -> (N, N); a row sum that is not positive gives weight 0."""
    scale = _power(adj.sum(-1), -0.5)
    return scale[:, None] * adj * scale


def build_knn_normalized_graph(adj: Tensor, topk: int, is_sparse: bool, norm_type: str) -> Tensor:
    """The topk largest entries of each row, normalised by the row sums D of what is kept: (N, N), sparse COO or dense.

    norm_type: 'sym' D^-1/2 A D^-1/2, 'rw' D^-1 A, 'none' A. Raises ValueError for another one.
    """
    values, columns = adj.topk(topk, dim=-1)  # (N, topk)
    degree = values.sum(-1)
    if norm_type == "sym":
        scale = _power(degree, -0.5)
        values = scale[:, None] * values * scale[columns]
    elif norm_type == "rw":
        values = _power(degree, -1.0)[:, None] * values
    elif norm_type != "none":
        raise ValueError(f"norm_type={norm_type}; expected one of sym, rw, none")
    if not is_sparse:
        return torch.zeros_like(adj).scatter(-1, columns, values)
    rows = torch.arange(len(adj), device=adj.device)[:, None].expand_as(columns)
    indices = torch.stack((rows.flatten(), columns.flatten()))
    return torch.sparse_coo_tensor(indices, values.flatten(), adj.shape, check_invariants=False)


def _power(degree: Tensor, exponent: float) -> Tensor:
    """degree ** exponent where it is positive, else 0; without NaN in the gradient."""
    positive = degree > 0
    return torch.where(positive, degree.where(positive, torch.ones_like(degree)).pow(exponent), 0.0)
