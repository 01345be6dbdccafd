"""Where bfloat16 stops: operations that keep float32 while a training step runs under `precision: bf16`."""

import functools
from collections.abc import Callable
from typing import Any

import torch

_SHORT = (torch.bfloat16, torch.float16)


def in_float32(function: Callable) -> Callable:
    """Decorate a function of tensors: inside it autocast is off, and 16-bit arguments arrive as float32; others as they are.

    For sums over many rows and for operations that have no 16-bit form.
    """

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        device = next(argument.device.type for argument in arguments if isinstance(argument, torch.Tensor))
        if not torch.is_autocast_enabled(device):
            return function(*arguments, **options)
        with torch.autocast(device, enabled=False):
            return function(*map(_lengthened, arguments), **options)

    return wrapper


def _lengthened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _SHORT else value
