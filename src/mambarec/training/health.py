"""What a run must not pass over in silence: data, trainings and scores that break nothing and mean little.

Each function gives a line for each finding. The run logs them as warnings and keeps them in result.json.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.nn.graph import EdgeGraph, SparseGraph

SAME_ROWS = 0.5  # share of items with the features of another item; pictures of Amazon's products repeat, fewer than this
ZERO_ROWS = 0.5  # share of items without any feature but zeros
SAME_COLUMNS = 0.5  # share of features with one value for all items
STILL = 10  # evaluations without any change; few users may give the same value for some
ONE_WAY = 0.999  # length of the mean of all items' directions, 1 when they are one
_ROWS = 8192  # of a table that are looked at
_SPARSE = (torch.sparse_coo, torch.sparse_csr)  # layouts


def feature_warnings(features: Mapping[str, Tensor]) -> list[str]:
    """Of item features, modality -> (I, D): rows that are the same, rows of zeros, columns of one value."""
    lines = []
    for modality, table in features.items():
        rows = torch.linspace(0, len(table) - 1, min(_ROWS, len(table)), device=table.device).long().unique()
        some = table.detach()[rows].cpu()  # (R, D)
        kinds = Counter(hashlib.sha256(row).digest() for row in some.numpy())
        same = sum(count for count in kinds.values() if count > 1) / len(some)
        zero = (some == 0).all(1).float().mean().item()
        columns = (some == some[0]).all(0).float().mean().item()
        if len(kinds) == 1 and len(some) > 1:
            lines.append(f"the {modality} features are the same for all items, so they tell nothing")
            continue
        if same > SAME_ROWS:
            lines.append(f"{same:.0%} of the items have the {modality} features of another item (more than {SAME_ROWS:.0%})")
        if zero > ZERO_ROWS:
            lines.append(f"{zero:.0%} of the items have only zeros as {modality} features (more than {ZERO_ROWS:.0%})")
        if columns > SAME_COLUMNS:
            lines.append(f"{columns:.0%} of the {modality} features are one value for all items (more than {SAME_COLUMNS:.0%})")
    return lines


def graph_warnings(model: nn.Module) -> list[str]:
    """Of a model before training: graphs without an edge."""
    lines = []
    for name, module in model.named_modules():
        empty = [name] if isinstance(module, SparseGraph | EdgeGraph) and not module.n_edges else []
        buffers = module.named_buffers(recurse=False)
        empty += [name or own for own, buffer in buffers if buffer.layout in _SPARSE and not buffer._nnz()]
        lines += [f"the graph {graph} of the model has no edge, so it passes nothing on" for graph in empty]
    return lines


def training_warnings(rows: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """Of the rows of metrics.jsonl: a loss, or a validation metric, that was the same in all epochs."""
    lines = []
    losses = [row["loss"] for row in rows if "loss" in row]
    if len(losses) > 1 and len(set(losses)) == 1:
        lines.append(f"the training loss was {losses[0]:g} in all {len(losses)} epochs: nothing was learned")
    values = [row["valid"][metric] for row in rows if metric in row.get("valid", {})]
    if values and not any(values):
        lines.append(f"validation {metric} was 0 throughout: no list had a relevant item, so the best epoch means nothing")
    elif len(values) >= STILL and len(set(values)) == 1:
        lines.append(f"validation {metric} was {values[0]:.5f} in all {len(values)} evaluations: it never moved")
    return lines


@torch.no_grad()
def score_warnings(scores: Iterable[Tensor]) -> list[str]:
    """Of scores (B, I), -inf where an item is hidden: users whose scores are all equal."""
    n_equal = n_users = 0
    for block in scores:
        hidden = block == -torch.inf
        largest = block.amax(1)
        smallest = block.masked_fill(hidden, torch.inf).amin(1)
        n_equal += int(((largest == smallest) & ((~hidden).sum(1) > 1)).sum())
        n_users += len(block)
    if not n_equal:
        return []
    who = "all" if n_equal == n_users else f"{n_equal:,} of"
    return [f"for {who} {n_users:,} users looked at the scores of all items are equal: their lists are in no order of liking"]


@torch.no_grad()
def vector_warnings(items: Tensor) -> list[str]:
    """Of item vectors (I, D): all of one direction."""
    together = F.normalize(items.float(), dim=1).mean(0).norm().item()
    if len(items) > 1 and together > ONE_WAY:
        return [f"all item vectors point the same way (their mean direction has length {together:.4f}): they have collapsed"]
    return []
