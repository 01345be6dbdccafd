"""What libraries have dropped and models written for MMRec still use.

It is in place while such a model is imported or one of its methods runs, and at no other time: `needs` finds what a file uses
in its text, and `provided` puts just that there. A library that still has a name keeps its own, and everything is taken away
again. In a run on the CPU, two habits of code that only ever ran on a GPU get the meaning they have there: `.cuda()` stays on
the run's device, and `nn.Parameter(…).to(device)` is a tensor, not a parameter of the model.
"""

import ast
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.sparse import dok_matrix
from torch import Tensor, nn

from mambarec.base import errors, files, logger
from mambarec.base.places import MODELS
from mambarec.config import configurator
from mambarec.config.catalogue import MMREC_ROOMS
from mambarec.data import dataloader, dataset
from mambarec.evaluation import metrics, topk_evaluator
from mambarec.mmrec import dense_graphs
from mambarec.nn import (
    abstract_recommender,
    alignment,
    dream,
    encoders,
    graph,
    init,
    loss,
    multiview,
    neighbours,
    precision,
    preference,
    user_graph,
)

Provide = Callable[[ExitStack, torch.device], None]  # puts names in place until the stack is closed

_NUMPY = {
    "float": float,
    "int": int,
    "bool": bool,
    "object": object,
    "str": str,
    "complex": complex,
    "long": int,
    "float_": np.float64,
    "Inf": np.inf,
    "NaN": np.nan,
}


def needs(sources: Iterable[str]) -> list[Provide]:
    """What the texts of a model's file and of those beside it use of all this; empty where all are up to date."""
    texts = list(sources)
    found = [provide for pattern, provide in _USES.items() if any(re.search(pattern, text) for text in texts)]
    return [*found, _moved_parameters] if any(map(_moves_parameters, texts)) else found


@contextmanager
def provided(needed: Sequence[Provide], device: torch.device) -> Iterator[None]:
    """While open, what `needs` found is there, for a run on `device`."""
    with ExitStack() as stack:
        for provide in needed:
            provide(stack, device)
        yield


def _put(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """owner.name = value, until the stack is closed."""
    if name in vars(owner):
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, value)


def _put_module(stack: ExitStack, name: str, module: ModuleType) -> None:
    """Make `import name` give `module`, until the stack is closed."""
    sys.modules[name] = module
    stack.callback(sys.modules.pop, name, None)


def _is_there(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None


def _stand_in(name: str, *functions: Callable) -> ModuleType:
    module = ModuleType(name, "A stand-in: see mambarec/mmrec/legacy.py.")
    vars(module).update({function.__name__: function for function in functions})
    return module


# NumPy, SciPy, torch


def _numpy_names(stack: ExitStack, device: torch.device) -> None:
    for name, value in _NUMPY.items():
        if name not in vars(np):
            _put(stack, np, name, value)


def _dok_update(stack: ExitStack, device: torch.device) -> None:
    def update(self: dok_matrix, entries: dict[tuple[int, int], float]) -> None:
        rows, columns = (list(part) for part in zip(*entries, strict=True)) if entries else ([], [])
        self[rows, columns] = list(entries.values())

    if not hasattr(dok_matrix, "_update"):
        _put(stack, dok_matrix, "_update", update)


def _quiet(stack: ExitStack, device: torch.device) -> None:
    """torch.sparse.FloatTensor works; only whoever wrote the file could heed the warning."""
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore", UserWarning)


# devices


def _cuda(stack: ExitStack, device: torch.device) -> None:
    if device.type == "cuda":
        stack.enter_context(torch.cuda.device(device))
        return

    def stay(self, *args, **kwargs):
        return self

    for owner in (Tensor, nn.Module):
        _put(stack, owner, "cuda", stay)


@lru_cache(maxsize=256)  # each trial of a grid asks
def _moves_parameters(source: str) -> bool:
    """Whether there is a call of the form Parameter(…).to(…)."""
    try:
        calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:  # importing the file will tell
        return False
    moves = [function.value for function in calls if isinstance(function, ast.Attribute) and function.attr in ("to", "cuda")]
    return any(isinstance(moved, ast.Call) and ast.unparse(moved.func).endswith("Parameter") for moved in moves)


def _moved_parameters(stack: ExitStack, device: torch.device) -> None:
    def to(self, *args, **kwargs):
        return Tensor.to(self, *args, **kwargs).view_as(self)

    if device.type != "cuda":
        _put(stack, nn.Parameter, "to", to)
        _put(stack, nn.Parameter, "cuda", lambda self, *args, **kwargs: self.view_as(self))


# packages


_COMMON = (abstract_recommender, encoders, init, loss, alignment, dream, multiview, preference, user_graph)
_UTILS = (configurator, dataloader, dataset, errors, files, graph, logger, metrics, neighbours, precision, topk_evaluator)
_of_folder: dict[Path, dict[str, ModuleType]] = {}  # what the files of a folder have imported of these, and need again


def mmrec_rooms(source: str, folder: Path) -> list[Provide]:
    """MMRec's packages common, models and utils, by each name, where a file of `folder` with this text imports one of them."""
    if not re.search(rf"^\s*(from|import)\s+({'|'.join(MMREC_ROOMS)})\b", source, flags=re.MULTILINE):
        return []

    def provide(stack: ExitStack, device: torch.device) -> None:
        others = _taken_out()
        if folder not in _of_folder:
            _of_folder[folder] = _rooms(folder)
        sys.modules.update(_of_folder[folder])

        def take_away() -> None:
            _of_folder[folder] = _taken_out()
            sys.modules.update(others)

        stack.callback(take_away)

    return [provide]


def _taken_out() -> dict[str, ModuleType]:
    """The modules of these names, which are imported no longer."""
    names = [name for name in sys.modules if name.split(".")[0] in MMREC_ROOMS]
    return {name: sys.modules.pop(name) for name in names}


def _rooms(folder: Path) -> dict[str, ModuleType]:
    """The packages, and the modules in them by name; `models` finds the files of `folder`, and then ours."""
    found: dict[str, ModuleType] = {}
    contents = {"common": _COMMON, "models": (), "models.common": _COMMON}  # the last was there once
    contents |= {"utils": _UTILS, "utils_package": _UTILS}
    for room, modules in contents.items():
        package = found[room] = ModuleType(room, "A stand-in for MMRec's package: see mmrec/legacy.py.")
        package.__path__ = [str(folder), str(MODELS)] if room == "models" else []
        for module in modules:
            name = module.__name__.rpartition(".")[2]
            found[f"{room}.{name}"] = vars(package)[name] = module
    for room in ("utils", "utils_package"):
        found[f"{room}.utils"] = vars(found[room])["utils"] = dense_graphs
    vars(found["models"])["common"] = found["models.common"]
    return found


def scatter(src: Tensor, index: Tensor, dim: int = -1, out=None, dim_size: int | None = None, reduce: str = "sum") -> Tensor:
    """out[index[i]] = reduction of src[i] over all i of the same index, along `dim`; 0 where there is none.

    reduce: sum, add, mean, mul, min, max. index has src's shape, or is (N,) along dim. `out` is added to, with sum only.
    """
    if index.dim() == 1:
        shape = [1] * src.dim()
        shape[dim] = -1
        index = index.view(shape)
    index = index.expand_as(src)
    if out is None:
        size = list(src.shape)
        size[dim] = dim_size if dim_size is not None else int(index.max()) + 1 if index.numel() else 0
        start = src.new_ones(size) if reduce == "mul" else src.new_zeros(size)
    else:
        start = out
    if reduce in ("sum", "add"):
        return start.scatter_add(dim, index, src)
    kind = {"mean": "mean", "mul": "prod", "min": "amin", "max": "amax"}[reduce]
    return start.scatter_reduce(dim, index, src, kind, include_self=False)


def scatter_add(src: Tensor, index: Tensor, dim: int = -1, out=None, dim_size: int | None = None) -> Tensor:
    return scatter(src, index, dim, out, dim_size, "sum")


def scatter_sum(src: Tensor, index: Tensor, dim: int = -1, out=None, dim_size: int | None = None) -> Tensor:
    return scatter(src, index, dim, out, dim_size, "sum")


def scatter_mean(src: Tensor, index: Tensor, dim: int = -1, out=None, dim_size: int | None = None) -> Tensor:
    return scatter(src, index, dim, out, dim_size, "mean")


def scatter_softmax(src: Tensor, index: Tensor, dim: int = -1, dim_size: int | None = None) -> Tensor:
    """Softmax over the entries of src (N,) of the same index (N,)."""
    exponential = torch.exp(src - scatter(src, index, dim, None, dim_size, "max").detach().index_select(dim, index))
    return exponential / scatter(exponential, index, dim, None, dim_size, "sum").index_select(dim, index)


def _torch_scatter(stack: ExitStack, device: torch.device) -> None:
    if not _is_there("torch_scatter"):
        functions = (scatter, scatter_add, scatter_sum, scatter_mean, scatter_softmax)
        _put_module(stack, "torch_scatter", _stand_in("torch_scatter", *functions))


def dropout_adj(edge_index: Tensor, edge_attr: Tensor | None = None, p: float = 0.5, training: bool = True):
    """Edges (2, E), each left out with probability p in training, and their attributes."""
    kept = torch.rand(edge_index.shape[1], device=edge_index.device) >= (p if training else 0.0)
    return edge_index[:, kept], None if edge_attr is None else edge_attr[kept]


def _dropout_adj(stack: ExitStack, device: torch.device) -> None:
    if _is_there("torch_geometric"):
        import torch_geometric.utils

        if not hasattr(torch_geometric.utils, "dropout_adj"):
            _put(stack, torch_geometric.utils, "dropout_adj", dropout_adj)


def sparsesvd(matrix: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest singular values (k,), largest first, between U^T (k, N) and V^T (k, M), of a sparse matrix (N, M)."""
    from scipy.sparse.linalg import svds  # slow to import, and few models need it

    left, values, right = svds(matrix, k=k)
    order = np.argsort(-values)
    return left.T[order], values[order], right[order]


def _sparsesvd(stack: ExitStack, device: torch.device) -> None:
    """Of 2013; it does not build any more."""
    if not _is_there("sparsesvd"):
        _put_module(stack, "sparsesvd", _stand_in("sparsesvd", sparsesvd))


_USES: dict[str, Provide] = {
    rf"\b(np|numpy)\.({'|'.join(_NUMPY)})\b": _numpy_names,
    r"\._update\(": _dok_update,
    r"torch\.sparse\.\w+Tensor|torch\.LongTensor\(": _quiet,
    r"\.cuda\(": _cuda,
    r"\btorch_scatter\b": _torch_scatter,
    r"\bdropout_adj\b": _dropout_adj,
    r"\bsparsesvd\b": _sparsesvd,
}
