"""Whether a run fits this machine, asked before memory is taken."""

import numpy as np
import torch

from mambarec.base.errors import ConfigError
from mambarec.base.memory import total_memory
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset

_COPIES = 4  # of each number: itself, its gradient, and Adam's two moments
_LISTED = 1000  # places of a list that any data set may have


def check_sizes(config: Config, dataset: RecDataset) -> None:
    """ConfigError where a setting asks for more than the data set has, or for more memory than there is."""
    n_items, longest = dataset.n_items, max(config["topk"])
    if longest > max(n_items, _LISTED):
        raise ConfigError(f"topk={config['topk']}: {dataset.name} has {n_items:,} items; at most {max(n_items, _LISTED):,}")
    for key in config:
        k = config.peek(key) if key.endswith("knn_k") else None
        if isinstance(k, int) and k > n_items and not _is_unread(key, config, dataset):
            raise ConfigError(f"{key}={k}: {dataset.name} has {n_items:,} items, so at most {n_items:,} neighbours")
    total = _memory(config["device"])
    size = 4 * _COPIES * (dataset.n_users + n_items) * config["embedding_size"]
    if size > total:
        raise ConfigError(
            f"embedding_size={config['embedding_size']}: the vectors of {dataset.n_users:,} users and {n_items:,} items, with "
            f"what training keeps of each number, take {size / 1e9:,.1f} GB; this machine has {total / 1e9:,.1f} GB"
        )
    n_tested = max(len(np.unique(dataset.users[split])) for split in ("valid", "test"))
    size = 8 * 4 * n_tested * longest  # lists, hits and the values of a metric at each place
    if size > total:
        raise ConfigError(
            f"topk={config['topk']}: lists of {longest:,} items for {n_tested:,} users take {size / 1e9:,.1f} GB; this machine "
            f"has {total / 1e9:,.1f} GB"
        )


def _is_unread(key: str, config: Config, dataset: RecDataset) -> bool:
    """Whether a key of neighbours serves no modality that the run reads.

    image_knn_k serves the visual modality alone, and knn_k those without a key of their own. A knn_k that the user gives is
    judged all the same.
    """
    names = {modality: {"visual": "image"}.get(modality, modality) for modality in dataset.feature_files}
    own = {modality: f"{name}_knn_k" for modality, name in names.items() if f"{name}_knn_k" in config}
    if key == "knn_k":
        return bool(own) and all(modality in own for modality in dataset.modalities) and not config.is_given(key)
    return any(key == theirs and modality not in dataset.modalities for modality, theirs in own.items())


def topk_warnings(config: Config, dataset: RecDataset) -> list[str]:
    """Cut-offs beyond the number of items."""
    beyond = [k for k in config["topk"] if k > dataset.n_items]
    if not beyond:
        return []
    return [f"topk {max(beyond)} is more than the {dataset.n_items:,} items: every list has all of them"]


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return total_memory()
