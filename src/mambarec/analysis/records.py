"""What finished runs left, small enough to commit: settings, results, epochs, and test metrics of each user.

A record is read from a run's directory, or from the compact file `<name>.record.npz` that `Record.save` makes of one. Per-user
values are float16 in both, so that a table is the same from either.
"""

import io
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import mambarec.config.catalogue as catalogue
import mambarec.running.schema as schema
from mambarec.base.bounded import parse_json, read_arrays, read_bytes
from mambarec.base.errors import RunError
from mambarec.base.files import is_intact, replacing, sealed
from mambarec.base.words import command
from mambarec.config.catalogue import config_file, model_yamls, shared_yaml, tuned_budget, tuned_file
from mambarec.config.keys import NEUTRAL_KEYS, keys_with, modality_of
from mambarec.config.yaml_files import read_yaml
from mambarec.running.directory import RunDirectory

SUFFIX = ".record.npz"
_ROUNDING = 1e-6  # of a mean over users
_RECORD = 2**28  # bytes of a compact file's content
MACHINE_KEYS = frozenset(keys_with("machine"))
KEPT = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")  # metrics whose values per user go into a compact file


@dataclass(frozen=True)
class Record:
    """One finished run.

    config, environment, result: the run's JSON files. epochs: the rows of metrics.jsonl. users: int32 (N,). per_user: metric ->
    float16 (N,). source: the directory or file it was read from.
    """

    config: dict[str, Any]
    environment: dict[str, Any]
    result: dict[str, Any]
    epochs: list[dict[str, Any]]
    users: np.ndarray
    per_user: dict[str, np.ndarray]
    source: Path

    @property
    def model(self) -> str:
        return self.result["model"]

    @property
    def dataset(self) -> str:
        return self.result["dataset"]

    @property
    def seed(self) -> int:
        return self.result["seed"]

    @property
    def name(self) -> str:
        """The name of the run's directory, seed<seed>-<hash>."""
        return self.source.name.removesuffix(SUFFIX).removeprefix(f"{self.model}-")

    @property
    def valid_metric(self) -> str:
        return self.config["valid_metric"].lower()

    @property
    def trial(self) -> str:
        """The run as experiments name it: its directory below results_dir."""
        return f"{self.dataset}/{self.model}/{self.name}"

    def defaults(self) -> dict[str, Any]:
        """What this version's YAMLs set for the run's model and data set, as far as they are here."""
        return _defaults(catalogue.CONFIGS, self.model, self.dataset)

    def settings(self) -> dict[str, Any]:
        """All that a run's figures depend on but the seed and the machine.

        A key that is younger than the run has the value of this version's YAMLs, or what `undeclared` says.
        """
        config = {**self.defaults(), **undeclared(self.config, self.defaults()), **self.config}
        return {key: value for key, value in config.items() if key not in NEUTRAL_KEYS | MACHINE_KEYS | {"seed"}}

    def unusual(self) -> dict[str, Any]:
        """The settings that are not those of this version's YAMLs, nor one of several that a YAML lists.

        A tuned run has its tuned file as one of them. Of a model in a folder of its own nothing is known without the folder.
        """
        yamls = model_yamls(self.model, Path(folder) if (folder := self.config.get("model_path")) else None)
        if folder and not Path(folder).is_dir():
            return {}
        more = [*yamls[:1], *([shared_yaml("mg.yaml")] if self.config.get("mg") else [])]
        more += filter(None, [config_file(self.config["tuned"]) if self.tuned() else None])
        known = dict(self.defaults())
        for path in more:
            known |= read_yaml(path)
        there = {key: value if isinstance(value, list) else [value] for key, value in known.items()}
        return {key: value for key, value in self.settings().items() if key in there and value not in (there[key], *there[key])}

    def tuned(self) -> str | None:
        """The file of src/configs/tuned that the run's values were taken from; None where they were not taken from one.

        A run with the same values that nobody called tuned is none: its table had another search, or none.
        """
        return self.config.get("tuned") or None

    def as_tuned(self) -> "Record":
        """This record as the one of a tuned run. A run with these values may be older than the command that said --tuned."""
        return replace(self, config={**self.config, "tuned": tuned_file(self.model, self.dataset)})

    def tuned_budget(self) -> str:
        """How long the search of a tuned run was; 'unknown' where the tuned file is gone or has other values by now."""
        path, settings = config_file(self.config["tuned"]), self.settings()
        if path is None or any(settings.get(key) != value for key, value in read_yaml(path).items()):
            return "unknown"
        return tuned_budget(path)

    def machine(self) -> dict[str, Any]:
        """What of a run's configuration is of the machine: its figures may differ in their last digits by it."""
        return {key: self.config[key] for key in sorted(MACHINE_KEYS) if key in self.config}

    @classmethod
    def of_run(cls, path: Path) -> "Record":
        """Read a finished run's directory; RunError when it is not one."""
        directory = RunDirectory(path)
        result = directory.result()
        if result is None:
            raise RunError(f"{path} is not finished: it has no result.json")
        try:
            config, environment = (directory.read_json(name) for name in ("config.json", "environment.json"))
            values = directory.arrays("per_user.npz")
            for name in values.keys() & result["test"].keys():
                if abs(values[name].mean(dtype=np.float64) - result["test"][name]) > _ROUNDING:
                    raise ValueError(f"result.json says {name} {result['test'][name]:.4f}, and per_user.npz another mean")
            return cls(config, environment, result, directory.metrics(), *_per_user(values), path)._checked()
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{path} cannot be read: {error}") from None

    @classmethod
    def of_file(cls, path: Path) -> "Record":
        """Read what `save` wrote; RunError when it is something else."""
        try:
            content = read_bytes(path, _RECORD)
            if is_intact(content) is False:
                raise RunError(f"{path} is damaged: its content is not what was written. Get it again, or write it anew")
            values = read_arrays(io.BytesIO(content), _RECORD)
            parts = parse_json(
                values.pop("json").tobytes(), {"config": dict, "environment": dict, "result": dict, "epochs": list}
            )
            config, environment = schema.config(parts["config"], False), schema.environment(parts["environment"], False)
            result, epochs = schema.result(parts["result"]), list(map(schema.epoch, parts["epochs"]))
            return cls(config, environment, result, epochs, *_per_user(values), path)._checked()
        except (ValueError, KeyError) as error:
            raise RunError(f"{path} is no record of a run: {error}") from None

    def _checked(self) -> "Record":
        """This record; ValueError where its parts are not of one run."""
        for split in ("valid", "test"):
            if self.valid_metric not in self.result[split]:
                raise ValueError(f"its {split} metrics lack {self.valid_metric}, by which the run was chosen")
        for name in ("model", "dataset"):
            if self.config[name] != self.result[name]:
                raise ValueError(f"its settings are of {name} {self.config[name]}, its result of {self.result[name]}")
        return self

    def save(self, folder: Path) -> Path:
        """Write the compact file into `folder`; the same record gives the same bytes. Returns its path."""
        text = {key: getattr(self, key) for key in ("config", "environment", "result", "epochs")}
        encoded = np.frombuffer(json.dumps(text, sort_keys=True).encode(), np.uint8)
        kept: dict[str, Any] = {name: values for name, values in self.per_user.items() if name in KEPT}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, json=encoded, users=self.users, **kept)
        path = folder / self.dataset / f"{self.model}-{self.name}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(sealed(buffer.getvalue()))
        return path


def _per_user(values: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Users, int32, and the values of each metric, float16; ValueError where these are not one a user."""
    users = values.pop("users")
    if users.ndim != 1 or users.dtype.kind not in "iu" or not len(users):
        raise ValueError(f"its users are {users.dtype} {users.shape}; expected whole numbers")
    for name, column in values.items():
        if column.shape != users.shape or column.dtype.kind != "f" or not np.isfinite(column).all():
            raise ValueError(
                f"its {name} is {column.dtype} {column.shape}; expected a finite number for each of {len(users)} users"
            )
    return users.astype(np.int32), {name: column.astype(np.float16) for name, column in values.items()}


def undeclared(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, None]:
    """None for each feature file among `values` that the data set did not declare yet when a run with `config` was made."""
    reads_features = config.get("is_multimodal_model") and not config.get("end2end")
    return {key: None for key in values if reads_features and key not in config and modality_of(key)}


@cache
def _defaults(configs: Path, model: str, dataset: str) -> dict[str, Any]:
    """What overall.yaml sets, and the YAMLs of the data set and of the model, if they are here."""
    paths = [configs / "overall.yaml", config_file(f"dataset/{dataset}.yaml"), configs / "model" / f"{model}.yaml"]
    contents = [read_yaml(path) for path in paths if path and path.exists()]
    return {key: value for content in contents for key, value in content.items() if not isinstance(value, dict)}


def _refuse(error: OSError) -> None:
    """Of a folder that cannot be read: to leave its runs out would give other figures."""
    raise error


def has_runs(path: Path) -> bool:
    """Whether load_records finds something there: a file, or a folder with a finished run or a record below it."""
    return path.is_file() or any(itertools.chain(path.rglob("result.json"), path.rglob(f"*{SUFFIX}")))


def finished_file(place: Path, trial: str) -> Path:
    """The file that a finished trial has in a results_dir or a folder of records: its result.json, or else its record."""
    dataset, model, run = trial.split("/")
    result = place / dataset / model / run / "result.json"
    return result if result.exists() else place / dataset / f"{model}-{run}{SUFFIX}"


def load_records(paths: Iterable[Path]) -> list[Record]:
    """Records of run directories, of compact files, and of all of these below a folder; RunError where there is none."""
    records = []
    for path in map(Path, paths):
        if path.name.endswith(SUFFIX):
            found = [Record.of_file(path)]
        else:
            walk = os.walk(path, onerror=_refuse) if path.exists() else ()
            runs = sorted(Path(place) for place, _, names in walk if "result.json" in names)
            found = [*map(Record.of_run, runs), *map(Record.of_file, sorted(path.rglob(f"*{SUFFIX}")))]
        if not found:
            raise RunError(
                f"{path}: no finished run and no *{SUFFIX} there. Train first (`{command('train')}`), or name another place"
            )
        records += found
    return records
