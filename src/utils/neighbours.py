"""Nearest neighbours by cosine: exact in blocks, or approximate by faiss above a size; kept on disk between runs."""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_KEPT_ABOVE = 1e9  # multiplications; what takes less is found faster than read
_REDUCED, _CANDIDATES = 256, 4  # the approximate search: width that it compares, candidates for each neighbour


@dataclass
class _Search:
    folder: Path | None = None
    approximate_above: int | None = None


_search = _Search()


@contextmanager
def neighbour_search(folder: Path | None, approximate_above: int | None = None) -> Iterator[None]:
    """While open, neighbours are kept in `folder`, and those of more rows than approximate_above are found by faiss."""
    global _search
    before, _search = _search, _Search(folder, approximate_above)
    try:
        yield
    finally:
        _search = before


def nearest_neighbours(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosine similarity float32 and index int64 of the k nearest rows of each row, itself included: two (N, k), best first.

    features: float (N, D). Rows are compared in blocks, so N x N is never held.
    """
    features = features.detach()
    n, width = features.shape
    above = _search.approximate_above
    find = exact if above is None or n <= above else approximate
    if _search.folder is None or n * n * width < _KEPT_ABOVE:
        return find(features, k)
    path = _search.folder / f"neighbours-{_key(features, k, find.__name__)}.npz"
    found = _read(path, features.device)
    if found is None:
        found = find(features, k)
        _write(path, *found)
    return found


def exact(features: Tensor, k: int, block: int = 1024) -> tuple[Tensor, Tensor]:
    """nearest_neighbours by comparing every row with every row."""
    unit = F.normalize(features.float(), dim=-1)
    best = [(rows @ unit.T).topk(min(k, len(unit))) for rows in unit.split(block)]
    return torch.cat([values for values, _ in best]), torch.cat([indices for _, indices in best])


def approximate(features: Tensor, k: int, block: int = 256) -> tuple[Tensor, Tensor]:
    """nearest_neighbours of almost all rows: candidates from an inverted file over fewer dimensions, then ranked exactly.

    The dimensions are reduced by a random projection, the same each time. ValueError without faiss. docs/performance.md has
    the measured recall.
    """
    try:
        import faiss
    except ImportError:
        raise ValueError("approximate_knn_above needs the package faiss-cpu: pip install -e '.[serving]'") from None

    unit = F.normalize(features.float(), dim=-1).cpu()
    n, width = unit.shape
    reduced = unit
    if width > _REDUCED:
        projection = torch.randn(width, _REDUCED, generator=torch.Generator().manual_seed(0))
        reduced = F.normalize(unit @ projection, dim=-1)
    n_lists = max(1, int(2 * n**0.5))
    quantizer = faiss.IndexFlatIP(reduced.shape[1])
    index = faiss.IndexIVFFlat(quantizer, reduced.shape[1], n_lists, faiss.METRIC_INNER_PRODUCT)
    rows = reduced.numpy()
    index.train(rows[:: max(1, n // (40 * n_lists))])
    index.add(rows)
    index.nprobe = 1 + n_lists // 10

    values, indices = [], []
    for start in range(0, n, block):
        candidates = torch.from_numpy(index.search(rows[start : start + block], min(_CANDIDATES * k, n))[1])  # (b, c)
        similarity = torch.einsum("bcd,bd->bc", unit[candidates], unit[start : start + block])
        best, position = similarity.topk(min(k, n))
        values.append(best)
        indices.append(candidates.gather(1, position))
    return torch.cat(values).to(features.device), torch.cat(indices).to(features.device)


def _key(features: Tensor, k: int, method: str) -> str:
    """Hash of the content and of what the last bits of the similarities depend on."""
    circumstances = f"{tuple(features.shape)} {k} {method} {features.device.type} {torch.get_num_threads()} {torch.__version__}"
    digest = hashlib.sha256(circumstances.encode())
    digest.update(features.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:20]


def _read(path: Path, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """What _write has left there; None where there is nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            similarity, index = stored["similarity"], stored["index"].astype(np.int64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return torch.from_numpy(similarity).to(device), torch.from_numpy(index).to(device)


def _write(path: Path, similarity: Tensor, index: Tensor) -> None:
    """Keep neighbours beside the results, where these can be written."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, similarity=similarity.cpu().numpy(), index=index.cpu().numpy().astype(np.int32))
        temporary.replace(path)
    except OSError:  # to write results is tried, and refused with its reason, elsewhere
        with suppress(OSError):
            temporary.unlink()
