"""Records made by hand, for tests of tables and of statistics."""

from pathlib import Path

import numpy as np
import pytest

from mambarec.analysis.comparison import METRICS
from mambarec.analysis.records import Record


@pytest.fixture
def make_record():
    """make_record(model, values, seed=1, valid=.1, dataset='toy', **config): a record whose users have these Recall@20.

    ended: how many epochs it trained. command: the program that made it. name: of its directory.
    """

    def make(
        model: str,
        values,
        seed: int = 1,
        valid: float = 0.1,
        dataset: str = "toy",
        data: str = "a",
        ended: int = 5,
        command: str = "main.py",
        name: str | None = None,
        **config,
    ) -> Record:
        values = np.asarray(values, dtype=np.float16)
        test = {metric: float(values.astype(np.float64).mean()) for metric in METRICS}
        result = {
            "model": model,
            "dataset": dataset,
            "seed": seed,
            "best_epoch": 3,
            "epochs": ended,
            "valid": {"recall@20": valid},
            "test": test,
            "parameters": 1234,
            "parameters_without_features": 1000,
            "seconds_per_epoch": 0.5,
            "seconds_total": 3.0,
            "peak_memory_mb": 256.0,
        }
        return Record(
            config={"model": model, "dataset": dataset, "seed": seed, "valid_metric": "Recall@20", **config},
            environment={"device": "cpu", "threads": 1, "data_files": {"toy.inter": data}, "command": [command]},
            result=result,
            epochs=[],
            users=np.arange(len(values), dtype=np.int32),
            per_user=dict.fromkeys(METRICS, values),
            source=Path(name or f"{model}-{seed}"),
        )

    return make
