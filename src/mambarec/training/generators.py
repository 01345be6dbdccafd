"""The states of the random number generators of the host: of Python, NumPy and torch on the CPU."""

import random
from typing import Any

import numpy as np
import torch


def host_generators() -> dict[str, Any]:
    """The states as torch.load(weights_only=True) reads them."""
    of_numpy: Any = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (of_numpy[0], torch.from_numpy(of_numpy[1].astype(np.int64)), *of_numpy[2:]),
        "torch": torch.get_rng_state(),
    }


def restore_host_generators(state: dict[str, Any]) -> None:
    """Put the generators where host_generators found them."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
