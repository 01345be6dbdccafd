"""What the JSON files of a run hold, checked as they are read: they may come from elsewhere.

Each function takes the text of a file, or what was parsed of it. ValueError says which key is missing or of another type than
expected.
"""

import re
from collections.abc import Mapping
from typing import Any

from mambarec.base.bounded import parse_json
from mambarec.base.settings import checked
from mambarec.config.keys import RunSettings

_NUMBER = (int, float)
_NAME = re.compile(r"\w[\w.-]*")  # folders and files take it, so no part of it may lead elsewhere
_RESULT: dict[str, Any] = {
    "model": str,
    "dataset": str,
    "seed": int,
    "best_epoch": int,
    "epochs": int,
    "valid": dict,
    "test": dict,
    "parameters": int,
    "parameters_without_features": int,
    "seconds_per_epoch": _NUMBER,
    "seconds_total": _NUMBER,
    "peak_memory_mb": (*_NUMBER, type(None)),
}
# What every reader needs, and what those of a run's directory need beside it.
_CONFIG: dict[str, Any] = {"model": str, "dataset": str, "valid_metric": str}
_CONFIG_MORE: dict[str, Any] = {"device": str, "epochs": int, "stopping_step": int, "data_path": str}
_ENVIRONMENT: dict[str, Any] = {"device": str, "threads": int}
_ENVIRONMENT_MORE: dict[str, Any] = {"data": str, "torch": str, "git": (str, type(None))}


def result(content: Any) -> dict[str, Any]:
    """result.json: names, counts, times and the metrics of both splits."""
    found = parse_json(content, _RESULT)
    for key in ("model", "dataset"):
        _check_name(key, found[key])
    for split in ("valid", "test"):
        _check_numbers(split, found[split])
    return found


def config(content: Any, complete: bool = True) -> dict[str, Any]:
    """config.json: every setting; those that readers need are there. complete: false for a record made by hand.

    A key that every run has is of its type, but for `tuned`, which names the file that was read.
    """
    found = _with_more(content, _CONFIG, _CONFIG_MORE, complete)
    for key in ("model", "dataset"):
        _check_name(key, found[key])
    for key in found.keys() & RunSettings.model_fields.keys() - {"tuned"}:
        try:
            checked(RunSettings, key, found[key])
        except ValueError as error:
            raise ValueError(f"its key '{key}' is {str(found[key])[:60]}; {error}") from None
    if not isinstance(tuned := found.get("tuned") or "", str):
        raise ValueError(f"its key 'tuned' is {str(tuned)[:60]}; expected false or the name of a file")
    return found


def pruned(content: Any) -> dict[str, Any]:
    """pruned.json: after how many epochs a search has ended the run, and by which pruner."""
    return parse_json(content, {"epochs": int, "pruner": str})


def environment(content: Any, complete: bool = True) -> dict[str, Any]:
    """environment.json: versions, machine, data and command. complete: as in config."""
    found = _with_more(content, _ENVIRONMENT, _ENVIRONMENT_MORE, complete)
    for key, kind, of in (("data_files", dict, str), ("feature_widths", dict, int), ("command", list, str)):
        value = found.get(key, kind())
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if not isinstance(value, kind) or not all(isinstance(part, of) for part in parts):
            raise ValueError(f"its key '{key}' is {str(value)[:60]}; expected a {kind.__name__} of {of.__name__}")
    return found


def epoch(content: Any) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    row = parse_json(content, {"epoch": int})
    _check_numbers("an epoch", {key: value for key, value in row.items() if key in ("loss", "seconds_train", "seconds_eval")})
    if not isinstance(row.get("valid", {}), dict):
        raise ValueError(f"its key 'valid' is {str(row['valid'])[:60]}; expected an object")
    _check_numbers("valid", row.get("valid", {}))
    return row


def _with_more(content: Any, needed: dict[str, Any], more: dict[str, Any], complete: bool) -> dict[str, Any]:
    """parse_json, where keys of `more` may be missing unless it is complete."""
    found = parse_json(content, needed)
    return parse_json(found, {key: kind for key, kind in more.items() if complete or key in found})


def _check_name(key: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"its key '{key}' is {name[:60]!r}; expected letters, digits, _, - and dots")


def _check_numbers(what: str, values: Mapping[str, Any]) -> None:
    wrong = [key for key, value in values.items() if not isinstance(value, _NUMBER) or isinstance(value, bool)]
    if wrong:
        raise ValueError(f"its {what} has {wrong[0][:60]!r}: {str(values[wrong[0]])[:60]!r}; expected a number")
