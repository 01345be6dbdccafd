"""The optional libraries of feature extraction, imported when they are needed, and where they keep their weights."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mambarec.base.errors import ConfigError
from mambarec.base.extras import pip_install
from mambarec.base.logger import get_logger

_PACKAGES = {"PIL": "pillow", "sentence_transformers": "sentence-transformers"}  # where it has another name
_VISION = ("torchvision", "timm")  # these do not work without a torchvision that belongs to the installed torch

_SECONDS = 10.0  # that the hub has for its answer


def library(name: str, purpose: str) -> ModuleType:
    """Import an optional library for a purpose, which messages name.

    ConfigError says how to install it, or that torchvision is there but belongs to another torch. Libraries that do not need
    torchvision get along without it then.
    """
    package = _PACKAGES.get(name, name)
    if name not in ("PIL", "torchvision"):
        _without_broken_torchvision(needed=name in _VISION, purpose=purpose)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if name == "torchvision" and error.name != name:
            raise _unfit(purpose, error) from None
        extra = "vision" if name in _VISION else "features"
        raise ConfigError(f"{purpose} needs the package {package}: {pip_install(extra)}") from None
    except (RuntimeError, OSError) as error:
        if name == "torchvision":
            raise _unfit(purpose, error) from None
        raise ConfigError(
            f"{purpose} cannot start: the package {package} does not import ({first_words(error)}). Install it again"
        ) from None
    if name == "transformers":
        module.utils.logging.set_verbosity_error()
        module.utils.logging.disable_progress_bar()
    return module


def _without_broken_torchvision(needed: bool, purpose: str) -> None:
    """Hide a torchvision that does not import from the libraries that would use it; ConfigError where it is needed."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # of another torch, it fails in many ways
        if needed:
            raise _unfit(purpose, error) from None
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment] # as if it were not installed
        get_logger().warning("torchvision does not import beside torch %s; going on without it", torch.__version__)


def _unfit(purpose: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{purpose} cannot start: torchvision does not import beside torch {torch.__version__} ({first_words(error)}). Install "
        "the two that belong together; the page Install has the commands for CPU and CUDA"
    )


def hub_cache() -> Path:
    """Where sentence-transformers, transformers and timm look for what they once fetched."""
    return Path(library("huggingface_hub", "the cache of models").constants.HF_HUB_CACHE)


def fetched(name: str, repository: str, download: bool, load: Callable[[bool], Any], otherwise: str) -> Any:
    """What `load(local_files_only)` returns: from this machine or, where `download` is true, from the hub.

    The hub is asked once whether it answers, since libraries ask again and again for more than a minute. ConfigError where it
    does not and the model is not on this machine; otherwise: what to do then. Errors of `load` are the library's.
    """
    unreachable = _unreachable(repository) if download and not Path(repository).is_dir() else ""
    if not unreachable:
        return load(not download)
    try:
        return load(True)
    except (OSError, ValueError):
        raise ConfigError(f"{name} is not on this machine, and {unreachable}. Check the network. {otherwise}") from None


def _unreachable(repository: str) -> str:
    """Why the hub does not answer. '' where it answers, whatever that is, and where no repository can have this name."""
    hub = library("huggingface_hub", "a download")
    try:
        hub.HfApi().model_info(repository, timeout=_SECONDS)
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError):
        return ""
    except Exception as error:  # httpx's, or the one of requests in older versions
        return f"{hub.constants.ENDPOINT} cannot be reached ({first_words(error)})"
    return ""


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def first_words(error: Exception) -> str:
    """The beginning of what a library says, on one line."""
    return " ".join(str(error).split())[:200]
