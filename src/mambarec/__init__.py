"""Multimodal recommendation: train, compare and use models, MambaRec among them."""

import importlib
from typing import Any

from mambarec.base.errors import ConfigError, DataError, ModelError, RunError, UserError
from mambarec.base.places import CHECKOUT, CODE

# A checkout has models/ and configs/ beside this folder, where MMRec has them; in an installed package they are within it.
if CHECKOUT:
    __path__.append(str(CODE))

_OF_API = ["Run", "Table", "compare", "load_run", "prepare_table", "runs", "search", "train"]
__all__ = ["ConfigError", "DataError", "ModelError", "RunError", "UserError", *_OF_API]


def __getattr__(name: str) -> Any:
    """What mambarec.api has, imported when it is first asked for: that takes a second or two."""
    if name in _OF_API:
        return getattr(importlib.import_module("mambarec.api"), name)
    raise AttributeError(f"module 'mambarec' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
