"""Whether a saved training is one of this model and these settings, looked at before it is taken up."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def check_saved(state: Any, fresh: Mapping[str, Any], last_epoch: int) -> None:
    """ValueError unless `state`, of a checkpoint, has the form of `fresh`, the state of a training that has not begun.

    last_epoch: the last that the training may have.
    """
    _same_form(fresh, state, "checkpoint")
    progress = state["progress"]
    counts = [progress[key] for key in ("epoch", "best_epoch", "without_improvement")]
    if not (-1 <= counts[0] <= last_epoch and -1 <= counts[1] <= counts[0] and 0 <= counts[2] <= counts[0] + 1):
        raise ValueError(f"its progress is epoch {counts[0]}, best {counts[1]}, {counts[2]} without improvement")
    if not all(math.isfinite(progress[key]) and progress[key] >= 0 for key in ("seconds_train", "seconds_eval")):
        raise ValueError("its times are no times")
    if "optimizer" in fresh:
        for group, expected in zip(state["optimizer"]["param_groups"], fresh["optimizer"]["param_groups"], strict=True):
            differing = [key for key in expected if key != "lr" and group[key] != expected[key]]
            if differing or not 0 <= group["lr"] < math.inf:
                raise ValueError(f"its optimiser has another {(differing or ['lr'])[0]} than this training")
        if state["scheduler"]["last_epoch"] != progress["epoch"] + 1 or any(
            state["scheduler"].get(key) != fresh["scheduler"].get(key) for key in ("base_lrs", "lr_lambdas")
        ):
            raise ValueError("its schedule of the learning rate is not this training's")


def _same_form(expected: Any, found: Any, place: str) -> None:
    if isinstance(expected, Tensor):
        same = isinstance(found, Tensor) and found.shape == expected.shape and found.dtype == expected.dtype
    elif isinstance(expected, Mapping):
        same = isinstance(found, Mapping) and (found.keys() == expected.keys() or not expected)
        if same and expected:
            for key, part in expected.items():
                _same_form(part, found[key], f"{place}, {key}")
        elif same and place.endswith("optimizer, state"):  # one that has not begun has none
            same = all(isinstance(one, Mapping) and all(map(_is_state, one.values())) for one in found.values())
        elif same:
            same = all(_is_whole(one) or isinstance(one, float) for one in found.values())
    elif isinstance(expected, list | tuple):
        same = isinstance(found, list | tuple) and len(found) == len(expected)
        for number, (part, other) in enumerate(zip(expected, found, strict=True) if same else ()):
            _same_form(part, other, f"{place}, {number}")
    elif _is_whole(expected):
        same = _is_whole(found)
    elif isinstance(expected, float):
        same = _is_whole(found) or (isinstance(found, float) and not math.isnan(found))
    else:
        same = type(found) is type(expected)
    if not same:
        raise ValueError(f"{place} is of another form than in this training")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_state(value: Any) -> bool:
    return value is None or isinstance(value, Tensor | int | float | bool)
