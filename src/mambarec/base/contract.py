"""What a model does against its contract, told as an error that names the model and the point: see docs/plugin.md."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mambarec.base.bounded import first_line
from mambarec.base.errors import ModelError, UserError

_LIBRARIES = {"site-packages", "dist-packages", Path(traceback.__file__).parent.name}  # folders whose files nobody here wrote


@contextmanager
def contract(model: str, point: str) -> Iterator[None]:
    """While open, whatever the model's code raises becomes a ModelError that names `model` and `point`, its method."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        words = f": {first_line(error)}" if str(error).strip() else ""
        raise ModelError(f"{model}.{point} raised {type(error).__name__}{words}{_where(error)}") from error


def is_refusal(error: BaseException | None) -> bool:
    """Whether this is a ValueError of the model's own words: by a `raise` in code that is no library's."""
    if not isinstance(error, ValueError):
        return False
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return not _is_library(frame) and (frame.line or "").startswith("raise ")


def _is_library(frame: traceback.FrameSummary) -> bool:
    return bool(_LIBRARIES & set(Path(frame.filename).parts))


def _where(error: BaseException) -> str:
    """The last line of code on the way to the error that is no library's, in brackets."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def check_scores(model: str, scores: object, expected: tuple[int, int]) -> None:
    """ModelError unless full_sort_predict gave floating-point scores of the expected shape (B, I)."""
    if not isinstance(scores, torch.Tensor):
        wrong = f"a {type(scores).__name__}; expected a tensor {expected}"
    elif tuple(scores.shape) != expected:
        wrong = f"scores of shape {tuple(scores.shape)}; expected {expected}, a row per user and a column per item"
    elif not scores.is_floating_point():
        wrong = f"scores of type {scores.dtype}; expected floats"
    else:
        return
    raise ModelError(f"{model}.full_sort_predict returned {wrong}")
