"""The stopped run that a new run is nearest to: who gives --resume and gets a new run learns why."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mambarec.base.errors import RunError
from mambarec.base.words import count, value_text
from mambarec.config.configurator import Config
from mambarec.config.keys import NEUTRAL_KEYS
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import is_in_use

_OF_PLACE = ("threads", "device", "data", "graphs")  # what a run's name has from the machine and the files
_OTHER_FILES = {"data": "other data files", "graphs": "other graph files", "model_code": "another file of the model"}


def nearest_stopped(config: Config, directory: RunDirectory, here: Mapping[str, Any], asked: bool) -> list[str]:
    """A line on the stopped run of the same model, data set and seed that differs least from a new one; none without such.

    here: what `environment` says of this run. asked: whether the user asked to go on with a run. Then a run counts that differs
    in any setting. Otherwise it must differ in nothing but threads, device or data.
    """
    found = []
    for path in directory.path.parent.glob(f"seed{config['seed']}-*/config.json"):
        other = RunDirectory(path.parent)
        if other.path == directory.path or not other.is_stopped or other.is_finished or other.is_pruned:
            continue
        with suppress(RunError, OSError):  # a damaged run is passed over
            differences = _differences(config, other, here)
            if (asked or differences.keys() <= set(_OF_PLACE)) and not is_in_use(other.path):
                found.append((len(differences), other.path.name, other.n_epochs(), differences))
    if not found:
        return ["this is a new run: no run of this model, data set and seed was stopped"] if asked else []
    _, name, epochs, differences = min(found, key=lambda one: one[:2])
    has = ", ".join(_OTHER_FILES.get(key, f"{key} {value}") for key, value in differences.items())
    return [f"this is a new run. The stopped run {name} ({count(epochs, 'epoch')}) is not the same: it has {has}"]


def _differences(config: Config, other: RunDirectory, here: Mapping[str, Any]) -> dict[str, str]:
    """What another run has in place of this one's settings, threads, device and files; RunError where it cannot be read."""
    settings, there = other.read_json("config.json"), other.read_json("environment.json")
    own = config.plain()
    keys = {*own, *settings} - NEUTRAL_KEYS - {"threads", "device", "use_gpu", "seed"}
    found = {key: value_text(settings.get(key)) for key in sorted(keys) if key in settings and settings[key] != own.get(key)}
    kinds = {"device": (str(settings.get("device")).split(":")[0], config["device"].type)}
    found |= {key: value_text(value) for key, (value, ours) in kinds.items() if value != ours}
    if there.get("threads") != here["threads"]:
        found["threads"] = str(there.get("threads"))
    return found | {key: "" for key in ("data", "graphs") if (there.get(key) or None) != (here[key] or None)}
