"""Which settings make another model of a model: tables name them, and no search chooses among their values."""

from collections.abc import Iterable, Mapping
from typing import Any

from mambarec.config.keys import keys_with
from mambarec.config.yaml_files import parse_value

# What makes another model of any model. A model's YAML lists its own keys under model_identity; an entry KEY=VALUE is for a
# part that this one value switches off, as cl_loss=0 does.
IDENTITY_KEYS = keys_with("identity")
# Without layers a graph is switched off.
SWITCHED_OFF = ("n_layers=0", "n_ui_layers=0", "n_mm_layers=0", "num_layer=0")


def identity_names(declared: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """The keys that say which model this is, at these settings. declared: the entries of its YAML's model_identity."""
    entries = list(declared)
    names = [entry for entry in entries if "=" not in entry]
    for entry in [*entries, *SWITCHED_OFF]:
        key, sign, value = entry.partition("=")
        if sign and key in settings and settings[key] == parse_value(value):
            names.append(key)
    return [*names, *IDENTITY_KEYS]
