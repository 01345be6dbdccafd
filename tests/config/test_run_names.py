"""The names of runs: what a run of each model with its YAML's values is called, so that no run is trained a second time."""

import hashlib
import json

import pytest

from mambarec.base.settings import later
from mambarec.config.configurator import Config, available_models, declared_settings

# The hash of what names a run on the demo. It changes where a value of a YAML does. A new key has `later=` and changes none.
NAMES = {
    "BM3": "2c20bc6a5c",
    "BPR": "eed917c41c",
    "COHESION": "dcdfd8a780",
    "DRAGON": "ee9cad5a48",
    "FREEDOM": "c73a888f41",
    "GRCN": "ae7d95f2e3",
    "GUME": "ebed85785d",
    "ItemKNN": "d2359834a6",
    "LATTICE": "27f2fbfcda",
    "LGMRec": "fa73688765",
    "LightGCN": "bd1ce7e20b",
    "MambaRec": "b315c3404b",
    "MENTOR": "d300cbda93",
    "MGCN": "b1a18ffabe",
    "MMGCN": "6e37788da0",
    "PGL": "299329e15a",
    "Pop": "e3bfab6baf",
    "SLMRec": "714a999935",
    "SMORE": "72f9446cfa",
    "VBPR": "e73d70194e",
}


def name_of(config: Config) -> str:
    return hashlib.sha256(json.dumps(config.identity(), sort_keys=True).encode()).hexdigest()[:10]


@pytest.mark.parametrize("model", available_models())
def test_a_run_keeps_its_name(model):
    assert name_of(Config(model, "demo", {"use_gpu": False, "threads": 1})) == NAMES[model]


def test_a_key_that_came_later_names_a_run_only_with_another_value():
    config = Config("MambaRec", "demo", {"use_gpu": False, "threads": 1})
    assert later(declared_settings("MambaRec", config.model_file)) == {
        "mmd_normalize": None,
        "item_dropout": 0.0,
        "cold_items": "own",
        "propagation": "full",
        "fanouts": None,
        "layer_size": None,
    }
    assert "mmd_normalize" not in config.identity()
    assert Config("MambaRec", "demo", {"mmd_normalize": False}).identity()["mmd_normalize"] is False
