"""Uniform sampling from what a row does not contain, exact and without rejection."""

import numpy as np
import torch
from torch import Tensor


class ComplementSampler:
    """Draws, for given rows, uniform columns among those the row does not hold.

    A row holds sorted columns h_0 < h_1 < ... < h_{k-1} out of n_columns. The r-th column it does not hold is r + j,
    where j counts the held columns with h_j - j <= r. The keys row * n_columns + h_j - j are sorted, so one binary
    search answers a whole batch: no rejection, no loop, no synchronisation with the host.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray, n_rows: int, n_columns: int, device: torch.device):
        """rows, columns: int64 (E,), the held pairs, each once, in any order."""
        order = np.lexsort((columns, rows))
        rows, columns = rows[order], columns[order]
        held = np.bincount(rows, minlength=n_rows)
        offsets = np.concatenate(([0], held.cumsum()))
        rank = np.arange(len(rows)) - offsets[rows]
        self.n_columns = n_columns
        self.keys = torch.from_numpy(rows * n_columns + columns - rank).to(device)  # (E,)
        self.offsets = torch.from_numpy(offsets[:-1]).to(device)  # (n_rows,)
        self.n_free = torch.from_numpy(n_columns - held).to(device)  # (n_rows,)

    def sample(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return int64 (B,), a column for each of `rows` (B,); a row that holds every column is not allowed."""
        uniform = torch.rand(len(rows), generator=generator, device=rows.device, dtype=torch.float64)
        drawn = (uniform * self.n_free[rows]).long()  # (B,), in [0, n_free)
        below = torch.searchsorted(self.keys, rows * self.n_columns + drawn, right=True) - self.offsets[rows]
        return drawn + below
