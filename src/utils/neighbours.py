"""Nearest neighbours by cosine: exact, in blocks, and kept on disk between runs."""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_KEPT_ABOVE = 1e9  # multiplications; what takes less is found faster than read
_folder: Path | None = None


@contextmanager
def neighbours_kept_in(folder: Path) -> Iterator[None]:
    """While open, neighbours that take long to find are kept in `folder`, by the content of the features."""
    global _folder
    before, _folder = _folder, folder
    try:
        yield
    finally:
        _folder = before


def nearest_neighbours(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosine similarity float32 and index int64 of the k nearest rows of each row, itself included: two (N, k), best first.

    features: float (N, D). Rows are compared in blocks, so N x N is never held.
    """
    features = features.detach()
    n, width = features.shape
    if _folder is None or n * n * width < _KEPT_ABOVE:
        return exact(features, k)
    path = _folder / f"neighbours-{_key(features, k)}.npz"
    found = _read(path, features.device)
    if found is None:
        found = exact(features, k)
        _write(path, *found)
    return found


def exact(features: Tensor, k: int, block: int = 1024, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """nearest_neighbours by comparing every row with every row; of the first `rows` alone where that is given."""
    unit = F.normalize(features.float(), dim=-1)
    best = [(some @ unit.T).topk(min(k, len(unit))) for some in unit[:rows].split(block)]
    return torch.cat([values for values, _ in best]), torch.cat([indices for _, indices in best])


def _key(features: Tensor, k: int) -> str:
    """Hash of the content and of what the last bits of the similarities depend on."""
    circumstances = f"{tuple(features.shape)} {k} {features.device.type} {torch.get_num_threads()} {torch.__version__}"
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
