"""A stand-in of MMRec's configuration: three YAMLs merged, and None for a key that is in none."""

import re
from pathlib import Path

import yaml

_FLOAT = re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?(?:[eE][-+]?\d+)$|^[-+]?\d[\d_]*\.[\d_]*$")


class Config:
    def __init__(self, model, dataset, given):
        loader = type("Loader", (yaml.FullLoader,), {})
        loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
        self.values = {}
        for name in ("overall.yaml", f"dataset/{dataset}.yaml", f"model/{model}.yaml"):
            self.values.update(yaml.load(Path("configs", name).read_text(encoding="utf-8"), Loader=loader))
        self.values.update(given, model=model, dataset=dataset)

    def __getitem__(self, key):
        return self.values.get(key)

    def __setitem__(self, key, value):
        self.values[key] = value

    def __contains__(self, key):
        return key in self.values
