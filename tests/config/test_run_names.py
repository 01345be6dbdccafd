"""The names of runs: what a run of each model with its YAML's values is called, so that no run is trained a second time."""

import hashlib
import json

import pytest

from mambarec.base.settings import later
from mambarec.config.catalogue import available_models, declared_settings
from mambarec.config.configurator import Config

# The hash of what names a run on the demo. It changes where a value of a YAML does. A new key has `later=` and changes none.
NAMES = {
    "BM3": "31ac4b1126",
    "BPR": "e2c5d041e7",
    "COHESION": "ecc4e98da4",
    "DRAGON": "78c2a121a0",
    "FREEDOM": "80da421080",
    "GRCN": "4678ee6f25",
    "GUME": "ebed85785d",
    "ItemKNN": "84e7ce557e",
    "LATTICE": "27f2fbfcda",
    "LGMRec": "a8576986d7",
    "LightGCN": "0f3034e503",
    "MambaRec": "b315c3404b",
    "MENTOR": "5bcfa4ae59",
    "MGCN": "b1a18ffabe",
    "MMGCN": "d5c946cd57",
    "PGL": "299329e15a",
    "Pop": "7462a8e217",
    "SLMRec": "5c5bdbf6d4",
    "SMORE": "72f9446cfa",
    "VBPR": "a58df2057d",
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


@pytest.mark.parametrize(
    "spelled",
    [
        {"valid_metric": "recall@20"},
        {"learner": "Adam"},
        {"metrics": ["recall", "ndcg", "precision", "map", "hitrate", "mrr"]},
        {"learning_rate_scheduler": [1.0, 50.0]},
        {"reg_weight": 0.1},
    ],
    ids=lambda value: next(iter(value)),
)
def test_another_spelling_of_a_default_is_the_same_run(spelled):
    assert Config("BPR", "demo", spelled).identity() == Config("BPR", "demo").identity()
