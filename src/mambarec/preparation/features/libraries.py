"""The optional libraries of feature extraction, imported when they are needed, and where they keep their weights."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

from mambarec.base.errors import ConfigError
from mambarec.base.extras import pip_install

_PACKAGES = {"PIL": "pillow", "sentence_transformers": "sentence-transformers"}  # where it has another name


def library(name: str, purpose: str) -> ModuleType:
    """Import an optional library for a purpose, which messages name.

    ConfigError says how to install it, or that torchvision is there but belongs to another torch.
    """
    if name not in ("PIL", "torchvision") and importlib.util.find_spec("torchvision"):
        library("torchvision", purpose)  # the others import it where it is installed, and hide why that fails
    try:
        module = importlib.import_module(name)
    except ImportError:
        extra = "vision" if name in ("torchvision", "timm") else "features"
        package = _PACKAGES.get(name, name)
        raise ConfigError(f"{purpose} needs the package {package}: {pip_install(extra)}") from None
    except RuntimeError as error:
        raise ConfigError(
            f"{purpose} cannot start: {name} does not import beside torch {torch.__version__} ({error}). Install the pair that "
            f"belongs together (pip install --upgrade torch torchvision), or uninstall {name}: sentence-transformers and "
            "transformers do without"
        ) from None
    if name == "transformers":
        module.utils.logging.set_verbosity_error()
        module.utils.logging.disable_progress_bar()
    return module


def hub_cache() -> Path:
    """Where sentence-transformers, transformers and timm look for what they once fetched."""
    return Path(library("huggingface_hub", "the cache of models").constants.HF_HUB_CACHE)


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def first_words(error: Exception) -> str:
    """The beginning of what a library says, on one line."""
    return " ".join(str(error).split())[:200]
