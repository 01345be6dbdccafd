"""Equality to the bit."""

from typing import Any

import torch


def identical(a: Any, b: Any) -> bool:
    """Whether nested mappings, sequences and tensors are equal to the bit."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.layout == b.layout
        if same and a.layout != torch.strided:
            a, b = a.to_sparse_coo().coalesce(), b.to_sparse_coo().coalesce()
            return a.shape == b.shape and identical((a.indices(), a.values()), (b.indices(), b.values()))
        return same and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(identical(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(identical, a, b))
    return a == b
