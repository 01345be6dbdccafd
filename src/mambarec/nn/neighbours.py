"""Nearest neighbours by cosine: exact in blocks, or approximate above a size, and kept on disk between runs."""

import hashlib
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mambarec.base.bounded import read_arrays, read_bytes
from mambarec.base.extras import optional
from mambarec.base.files import is_intact, replacing, sealed

Neighbours = tuple[Tensor, Tensor]  # similarity float32 and index int64, both (N, k): the row itself, then the best first

_KEPT_ABOVE = 1e9  # multiplications; what takes less is found faster than read
_BLOCK = 1024  # rows that are compared at a time
_PROBED, _PER_CLUSTER = 32, 39  # clusters that are searched; the fewest rows of one on average, which faiss asks for
_SAMPLED = 256  # rows whose neighbours are found exactly too, to measure the recall


@dataclass
class NeighbourSearch:
    """How neighbours are found: kept in `folder`; approximately where there are more rows than `approximate_above`.

    notes: a line for each approximate search, with its recall.
    """

    folder: Path | None = None
    approximate_above: int | None = None
    notes: list[str] = field(default_factory=list)


_current = NeighbourSearch()


@contextmanager
def neighbour_search(folder: Path, approximate_above: int | None = None) -> Iterator[NeighbourSearch]:
    """While open, nearest_neighbours searches in this way; what takes long to find is kept by the content of the features."""
    global _current
    before, _current = _current, NeighbourSearch(folder, approximate_above)
    try:
        yield _current
    finally:
        _current = before


def search_limit() -> int | None:
    """The number of rows above which neighbours are found approximately; for a model that will search again in training."""
    return _current.approximate_above


def search(features: Tensor, k: int, approximate_above: int | None = None) -> Neighbours:
    """The k nearest rows of each row of float (N, D), found anew: for features that change."""
    features = features.detach()
    return approximate(features, k) if _is_above(approximate_above, features) else exact(features, k)


def _is_above(limit: int | None, features: Tensor) -> bool:
    return limit is not None and len(features) > limit


def nearest_neighbours(features: Tensor, k: int) -> Neighbours:
    """The k nearest rows of each row by cosine. The row itself is the first of them, also where others are equal to it.

    features: float (N, D). Rows are compared in blocks, so N x N is never held. ConfigError where the approximate search is
    asked for and faiss is not installed.
    """
    features = features.detach()
    n, width = features.shape
    approximately = _is_above(_current.approximate_above, features)
    path, kept = None, None
    if _current.folder is not None and n * n * width >= _KEPT_ABOVE:
        path = _current.folder / f"neighbours-{_key(approximately, features, k)}.npz"
        kept = _read(path, (n, min(k, n)), features.device)
    if kept is None:
        found = search(features, k, _current.approximate_above)
        kept = *found, recall(features, found[1]) if approximately else 1.0
        if path is not None:
            _write(path, *kept)
    similarity, neighbour, share = kept
    if approximately:
        sample = min(_SAMPLED, n)
        _current.notes.append(f"neighbours of {n:,} items found approximately: {share:.1%} of those of {sample} items")
    return similarity, neighbour


def exact(features: Tensor, k: int, block: int = _BLOCK) -> Neighbours:
    """nearest_neighbours by comparing every two rows, once: a product of two rows is a candidate for both."""
    unit = _unit(features)
    n, k = len(unit), min(k, len(unit))
    best = unit.new_full((n, k), -torch.inf), torch.zeros((n, k), dtype=torch.int64, device=unit.device)
    itself = unit.new_empty(n)  # each row's product with itself
    for start in range(0, n, block):
        products = unit[start : start + block] @ unit[start:].T  # (B, N - start)
        itself[start : start + block] = _taken_first(products)
        _merge(best, products, start, start)
        later = products[:, block:].T.contiguous()  # the same, seen from the rows below the block
        _merge(best, later, start + block, start)
    best[0][:, 0] = itself
    return best


def _taken_first(products: Tensor) -> Tensor:
    """The diagonal (R,) of products (R, C), where infinity takes its place: a row is its own first neighbour."""
    itself = products.diagonal().clone()
    products.diagonal().fill_(torch.inf)
    return itself


def _merge(best: Neighbours, products: Tensor, row: int, column: int) -> None:
    """Let rows from `row` on know their products (R, C) with rows from `column` on."""
    if not len(products):
        return
    values, indices = (part[row : row + len(products)] for part in best)
    top, place = products.topk(min(values.shape[1], products.shape[1]))
    top, order = torch.cat((values, top), 1).topk(values.shape[1])
    indices.copy_(torch.cat((indices, place + column), 1).gather(1, order))
    values.copy_(top)


def approximate(features: Tensor, k: int) -> Neighbours:
    """nearest_neighbours among the rows of the 32 clusters nearest to that of the row, of about 4 sqrt(N): some are missed.

    An inverted file whose lists are searched together, so that the work is matrix products; it grows with N^1.5, and with the
    square of the number of equal rows. The clusters are those of faiss's spherical k-means over 40 rows for each of them.
    Features that are mapped from a file are read in parts and never held as a whole. Repeatable to the bit.
    """
    faiss = _faiss()
    faiss.omp_set_num_threads(torch.get_num_threads())
    n, width = features.shape
    k, device = min(k, n), features.device

    n_clusters = max(1, min(round(4 * math.sqrt(n)), n // _PER_CLUSTER))
    sample = np.random.default_rng(0).permutation(n)[: n_clusters * (_PER_CLUSTER + 1)]
    clusters = faiss.Kmeans(width, n_clusters, niter=5, spherical=True, max_points_per_centroid=_PER_CLUSTER + 1)
    clusters.train(_unit(features[torch.from_numpy(np.sort(sample)).to(device)]).cpu().numpy())
    centroids = torch.from_numpy(clusters.centroids).to(device)  # (C, D)
    cluster = torch.cat([(_unit(some) @ centroids.T).argmax(1) for some in features.split(8192)])  # (N,)
    members = cluster.argsort(stable=True).split(cluster.bincount(minlength=n_clusters).tolist())
    nearest = (centroids @ centroids.T).topk(min(_PROBED, n_clusters)).indices.tolist()

    similarity, neighbour = centroids.new_empty((n, k)), cluster.new_empty((n, k))
    for own, (rows, probed) in enumerate(zip(members, nearest, strict=True)):
        candidates = torch.cat([rows, *(members[number] for number in probed if number != own)])
        if len(candidates) < k:
            candidates = torch.cat((rows, torch.nonzero(cluster != own).flatten()))
        others = _unit(features[candidates])
        for start in range(0, len(rows), _BLOCK):  # many equal rows are one large cluster
            some = rows[start : start + _BLOCK]
            products = _unit(features[some]) @ others.T
            itself = _taken_first(products[:, start:])
            values, places = products.topk(k)
            values[:, 0] = itself
            similarity[some], neighbour[some] = values, candidates[places]
    return similarity, neighbour


def recall(features: Tensor, found: Tensor) -> float:
    """Share of the k - 1 nearest others that is among those found (N, k), over a sample of rows; equally near ones count."""
    n, others = len(features), found.shape[1] - 1
    if not others:
        return 1.0
    rows = torch.linspace(0, n - 1, min(_SAMPLED, n), device=features.device).long()
    unit = _unit(features[rows])  # (S, D)
    products = torch.cat([unit @ _unit(some).T for some in features.split(8192)], 1)  # (S, N)
    products.scatter_(1, rows[:, None], -torch.inf)  # the row itself
    farthest = products.topk(others).values[:, -1:]
    near = (products.gather(1, found[rows]) >= farthest - 1e-5).sum(1).clamp(max=others)
    return near.float().mean().item() / others


def _unit(rows: Tensor) -> Tensor:
    """Rows (N, D) of length 1, float32."""
    return F.normalize(rows.float(), dim=-1)


def _faiss() -> Any:
    return optional("faiss", "faiss-cpu", "serving", "approximate_knn_above needs")


def _key(approximately: bool, features: Tensor, k: int) -> str:
    """Hash of the content and of what the last bits of the similarities depend on."""
    method = f"sample {_PROBED} {_PER_CLUSTER} {_faiss().__version__}" if approximately else "exact"
    machine = f"{features.device.type} {torch.get_num_threads()} {torch.__version__}"
    digest = hashlib.sha256(f"{method} itself first {tuple(features.shape)} {k} {machine}".encode())
    digest.update(features.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:20]


def _read(path: Path, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, float] | None:
    """What _write has left there; None where there is nothing, or something else by now."""
    try:
        content = read_bytes(path)
        if not is_intact(content):
            return None
        stored = read_arrays(io.BytesIO(content))
        similarity, index, share = stored["similarity"], stored["index"].astype(np.int64), float(stored["recall"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if similarity.shape != shape or similarity.dtype != np.float32 or index.shape != shape:
        return None
    if not (np.isfinite(similarity).all() and index.min() >= 0 and index.max() < shape[0]):
        return None
    return torch.from_numpy(similarity).to(device), torch.from_numpy(index).to(device), share


def _write(path: Path, similarity: Tensor, index: Tensor, share: float) -> None:
    """Keep neighbours beside the results, where these can be written."""
    buffer = io.BytesIO()
    np.savez(buffer, similarity=similarity.cpu().numpy(), index=index.cpu().numpy().astype(np.int32), recall=share)
    with suppress(OSError):  # to write results is tried, and refused with its reason, elsewhere
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(sealed(buffer.getvalue()))
