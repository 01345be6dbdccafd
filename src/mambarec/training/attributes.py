"""What a model of another folder changes in plain attributes while it trains: counters, switches, tensors that it makes anew.

Many of MMRec's models keep such things outside their state_dict, and a training that goes on after a stop needs them. The
models of src/models keep everything in parameters and buffers.
"""

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None))
_OF_TORCH = vars(nn.Module()).keys()  # `training` among them


class Attributes:
    """The attributes of a model that are numbers, words, truth values, None or tensors; what has changed since it was made."""

    def __init__(self, model: nn.Module):
        self.model = model
        self._plain = {name: value for name, value in self._own() if not isinstance(value, Tensor)}
        self._tensors = {name: (weakref.ref(value), value._version) for name, value in self._own() if isinstance(value, Tensor)}

    def changed(self) -> dict[str, Any]:
        """Name -> value of those that have another value now, or are new."""
        found: dict[str, Any] = {}
        for name, value in self._own():
            if isinstance(value, Tensor):
                known, version = self._tensors.get(name, (None, 0))
                if known is None or known() is not value or value._version != version:
                    found[name] = value.detach().clone()
            elif name not in self._plain or self._plain[name] != value:
                found[name] = value
        return found

    def restore(self, values: Any) -> None:
        """Give the model what `changed` returned; ValueError where this is of something else."""
        if not isinstance(values, dict) or not all(map(self._may_have, values, values.values())):
            raise ValueError("its attributes are not the model's")
        device = next((one.device for one in self.model.parameters()), torch.device("cpu"))
        for name, value in values.items():
            vars(self.model)[name] = value.to(device) if isinstance(value, Tensor) else value

    def _own(self) -> list[tuple[str, Any]]:
        """The attributes that a checkpoint can hold. NumPy's numbers are Python's there, where these are the same."""
        found = []
        for name, value in vars(self.model).items():
            if isinstance(value, np.float64 | np.int64 | np.bool_ | np.str_):
                value = value.item()
            if name not in _OF_TORCH and (type(value) in _PLAIN or type(value) is Tensor):
                found.append((name, value))
        return found

    def _may_have(self, name: Any, value: Any) -> bool:
        if not isinstance(name, str) or name in _OF_TORCH or not (type(value) in _PLAIN or type(value) is Tensor):
            return False
        return not hasattr(type(self.model), name) or type(getattr(type(self.model), name)) in _PLAIN
