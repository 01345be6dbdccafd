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
                is_first = known is not None and known() is value
                if not is_first or (value._version != version and not self._is_in_the_state(value)):
                    found[name] = _detached(value)
            elif name not in self._plain or self._plain[name] != value:
                found[name] = value
        return found

    def restore(self, values: Any) -> None:
        """Give the model what `changed` returned; ValueError where this is of something else."""
        if not isinstance(values, dict) or not all(map(self._may_have, values, values.values())):
            raise ValueError("its attributes are not the model's")
        device = next((one.device for one in self.model.parameters()), torch.device("cpu"))
        for name, value in values.items():
            if isinstance(value, Tensor):
                now = vars(self.model).get(name)
                value = value.to(now.device if isinstance(now, Tensor) else device)
            vars(self.model)[name] = value

    def _own(self) -> list[tuple[str, Any]]:
        """The attributes that a checkpoint can hold. NumPy's numbers are Python's there, where these are the same."""
        own = [(name, _as_pythons(value)) for name, value in vars(self.model).items()]
        return [(name, value) for name, value in own if self._may_have(name, value)]

    def _is_in_the_state(self, value: Tensor) -> bool:
        """Whether a tensor shares its memory with a parameter or buffer, as one does that an embedding was made of."""
        if value.layout != torch.strided:
            return False
        state = [*self.model.parameters(), *self.model.buffers()]
        held = {one.untyped_storage().data_ptr() for one in state if one.layout == torch.strided}
        return value.untyped_storage().data_ptr() in held

    def _may_have(self, name: Any, value: Any) -> bool:
        """Whether a checkpoint can hold this value, and the name means nothing else in the model's class."""
        if not isinstance(name, str) or name in _OF_TORCH:
            return False
        if type(value) not in _PLAIN and (type(value) is not Tensor or value.is_inference()):
            return False
        return not hasattr(type(self.model), name) or type(getattr(type(self.model), name)) in _PLAIN


def _as_pythons(value: Any) -> Any:
    return value.item() if isinstance(value, np.float64 | np.int64 | np.bool_ | np.str_) else value


def _detached(value: Tensor) -> Tensor:
    """The tensor without its history; a copy where it is a part of a larger one, which would be saved with it."""
    value = value.detach()
    if value.layout == torch.strided and value.untyped_storage().nbytes() > value.numel() * value.element_size():
        return value.clone()
    return value
