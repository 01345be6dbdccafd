"""A finished run, opened again: its configuration, its data and the model at its best epoch.

A run is taken for one of this version when it behaves like one, whatever the numbers of the versions: every key of its
config.json is known, its state fits the model, and the model's scores give the lists that the run recorded. Where one of
these fails, the error names it, with the commits on both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambarec.base.bounded import first_line
from mambarec.base.errors import ConfigError, ModelError, RunError
from mambarec.base.words import option, resumed
from mambarec.config.configurator import Config
from mambarec.config.keys import keys_with, modality_of
from mambarec.data.dataloader import EvalDataLoader, user_batches
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.topk_evaluator import TopKEvaluator, best_items, masked_scores, representations_once
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.running.directory import RunDirectory
from mambarec.running.run import assemble
from mambarec.running.surroundings import git_commit
from mambarec.training.trainer import init_seed

N_CHECKED = 256  # users whose lists are made anew when a run is opened
ROUNDING = 1e-4  # what scores of another machine may differ by, in parts of a user's largest score
METRIC_ROUNDING = 1e-3  # the same for metrics, where a tie may fall the other way

# Keys of config.json that do not go back into a configuration: named apart, chosen anew, or a place of that time.
_NOT_TAKEN = {"gpu_id", "results_dir", *keys_with("grid", "result")}


@dataclass(frozen=True)
class FinishedRun:
    """The record of a finished run, and the data that it was trained on."""

    config: Config
    dataset: RecDataset
    directory: RunDirectory

    @property
    def name(self) -> dict[str, Any]:
        """What a table needs to tell runs apart: model, dataset, seed, run (its directory)."""
        keys = ("model", "dataset", "seed")
        return {**{key: self.config[key] for key in keys}, "run": str(self.directory.path)}

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """Test users (N,) and the items (N, K) recommended to them, best first, -1 where there are fewer."""
        path = self.directory.file("topk.npz")
        if not self.config["save_recommended_topk"]:  # what is there may be of an earlier epoch
            raise RunError(f"{self.directory.path} kept no recommendations, since save_recommended_topk is false")
        if not path.exists():
            raise RunError(f"{path} does not exist; a run writes it unless save_recommended_topk is false")
        stored = self.directory.arrays(path.name)
        try:
            users, lists = stored["users"], stored["topk"]
            self._check_lists(users, lists)
        except KeyError:
            raise RunError(f"{path} cannot be read: expected users and topk, found {', '.join(stored) or 'nothing'}") from None
        except ValueError as error:
            raise RunError(f"{path} cannot be read: {error}") from None
        return users, lists

    def per_user(self) -> dict[str, np.ndarray]:
        """What per_user.npz holds: users (N,), those of the test split, and the values (N,) of each metric."""
        stored = self.directory.arrays("per_user.npz")
        try:
            self._check_users(stored["users"])
            if any(values.shape != stored["users"].shape for values in stored.values()):
                raise ValueError("its metrics have not a value for each of its users")
        except (ValueError, KeyError) as error:
            raise RunError(f"{self.directory.file('per_user.npz')} cannot be read: {first_line(error)}") from None
        return stored

    def _check_users(self, users: np.ndarray) -> None:
        tested = np.unique(self.dataset.users["test"])
        if users.dtype.kind not in "iu" or not np.array_equal(users, tested):
            raise ValueError(f"its users are not the {len(tested):,} of the test split")

    def _check_lists(self, users: np.ndarray, lists: np.ndarray) -> None:
        """ValueError unless these are users and items of the data set."""
        self._check_users(users)
        if lists.dtype.kind not in "iu" or lists.ndim != 2 or len(lists) != len(users):
            raise ValueError(f"its topk is {lists.dtype} {lists.shape}; expected a row of items for each user")
        if lists.size and not (lists.min() >= -1 and lists.max() < self.dataset.n_items):
            raise ValueError(f"its topk has items outside 0 … {self.dataset.n_items - 1}")


@dataclass(frozen=True)
class Trained(FinishedRun):
    """A finished run with the model at its best epoch, in evaluation mode."""

    model: GeneralRecommender


def open_run(path: str | Path, data_path: str | Path | None = None) -> FinishedRun:
    """Open the record of a finished run; RunError when it is unfinished, of other data, or of a version with other keys.

    data_path: the folder above the data set's, where it is no longer the one that the run read.
    """
    directory = RunDirectory(Path(path))
    config = read_config(directory, {} if data_path is None else {"data_path": f"{data_path}"})
    dataset = RecDataset(config, of_finished_run=True)
    _check_data(directory, dataset)
    return FinishedRun(config, dataset, directory)


def load_trained(path: str | Path, data_path: str | Path | None = None) -> Trained:
    """Open a finished run for use; RunError as open_run, and when the model does not recommend what the run recorded.

    Threads are set and the global generators seeded, as the run did.
    """
    run = open_run(path, data_path)
    model = build_model(run.config, run.dataset)
    load_state(model, best_state(run.directory), run)
    trained = Trained(run.config, run.dataset, run.directory, model.eval())
    _check_scores(trained)
    return trained


def read_config(directory: RunDirectory, overrides: Mapping[str, Any]) -> Config:
    """The configuration of a finished run, with `overrides`, on the kind of device that the run had if there is one.

    A key that came after the run has its default.
    """
    stored = _read_json(directory, "config.json")
    if not directory.is_finished:
        raise RunError(f"{directory.path} is not finished: it has no result.json. Go on with it: {resumed()}")
    stored["use_gpu"] = stored["device"] != "cpu"
    name = stored["model"], stored["dataset"]
    try:
        places = {key: stored[key] for key in ("mg", "model_path") if stored.get(key)}  # what says which keys there are
        default = Config(*name, places)
        # What differs from the YAMLs, and no more: a key that is given again moves to the end, and modalities have an order.
        given = {key: value for key, value in stored.items() if key not in _NOT_TAKEN and default.get(key) != value}
        place = directory.path.resolve().parents[1]  # results_dir/<data set>, of a run that lies where it was made
        results = {"results_dir": f"{place.parent}/"} if place.name == stored["dataset"] else {}
        config = Config(*name, {**places, **given, **results, **overrides})
    except ConfigError as error:
        raise RunError(f"{directory.path} does not fit this version: {error}. {_versions(directory)}") from error
    for key in set(config) - set(stored):
        if modality_of(key):  # a modality that the data set declares only now
            config[key] = None
    return config


def build_model(config: Config, dataset: RecDataset) -> GeneralRecommender:
    """The model as a run has it before its first epoch."""
    init_seed(config["seed"])
    return assemble(config, dataset)[3].model


def best_state(directory: RunDirectory) -> dict[str, Tensor]:
    """What best.pt holds; RunError when it cannot be read."""
    state = directory.load("best.pt")
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise RunError(f"{directory.file('best.pt')} cannot be read: it holds no tensors by name")
    return state


def load_state(model: GeneralRecommender, state: Mapping[str, Tensor], run: FinishedRun) -> None:
    """Put a saved state into a model; RunError names the tensors that differ."""
    there = model.state_dict()
    differing = [f"{name} is in this version's model only" for name in there if name not in state]
    differing += [f"{name} is in best.pt only" for name in state if name not in there]
    differing += [
        f"{name} is {tuple(state[name].shape)} in best.pt, {tuple(there[name].shape)} in this version's model"
        for name in there
        if name in state and state[name].shape != there[name].shape
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RunError(
            f"{run.directory.path} holds another {run.config['model']} than this version has: "
            f"{'; '.join(differing[:3])}{more}. {_versions(run.directory)}"
        )
    model.load_state_dict(state)


def _read_json(directory: RunDirectory, name: str) -> dict[str, Any]:
    if not directory.file(name).exists():
        raise RunError(f"{directory.path} is no run's directory: {name} cannot be read (it does not exist)")
    return directory.read_json(name)


def _versions(directory: RunDirectory) -> str:
    environment = _read_json(directory, "environment.json")
    then = f"commit {environment['git']} and torch {environment['torch']}"
    return f"The run is of {then}; this is commit {git_commit()} and torch {torch.__version__}"


def _check_data(directory: RunDirectory, dataset: RecDataset) -> None:
    """RunError unless the files are those of the run, by their content."""
    environment = _read_json(directory, "environment.json")
    if environment["data"] == dataset.fingerprint:
        return
    now, then = dict(dataset.digests), environment.get("data_files")
    if then is None:  # written before runs recorded the hash of each file
        difference = f"one of {', '.join(now)} is another"
    else:
        parts = [f"{name} has another content" for name in now if name in then and now[name] != then[name]]
        parts += [f"{name} is missing" for name in then if name not in now]
        parts += [f"{name} was not read" for name in now if name not in then]
        difference = ", ".join(parts) or "the files are read in another order"
    raise RunError(
        f"{dataset.folder} is not the data that {directory.path} was trained on: {difference} "
        f"(fingerprint {environment['data'][:10]} then, {dataset.fingerprint[:10]} now). Name the folder above the run's data "
        f"with {option('data_path')}"
    )


def _check_scores(trained: Trained) -> None:
    """RunError unless the model recommends what the run recorded, to rounding."""
    try:
        wrong = _differing_lists(trained) if trained.config["save_recommended_topk"] else _differing_metrics(trained)
    except ModelError as error:
        wrong = str(error)
    if wrong:
        raise RunError(
            f"{trained.directory.path}: the saved {trained.config['model']} does not recommend what the run recorded: {wrong}. "
            "Either it predicts from tensors that its state_dict does not hold, or something that it depends on has changed; "
            f"what topk.npz and result.json say stays true, but nothing can be scored anew. {_versions(trained.directory)}"
        )


@torch.no_grad()
def _differing_lists(trained: Trained) -> str | None:
    """How many of some users get lists whose scores are not the best ones."""
    users, lists = trained.lists()
    chosen = np.unique(np.linspace(0, len(users) - 1, min(N_CHECKED, len(users))).astype(int))
    stored = torch.from_numpy(lists[chosen].astype(np.int64)).to(trained.config["device"])
    n_items, n_wrong = trained.dataset.n_items, 0
    with representations_once(trained.model):
        for batch in user_batches(trained.dataset, users[chosen], trained.config):
            scores = masked_scores(trained.model, batch, trained.dataset)
            block, stored = stored[: len(scores), :n_items], stored[len(scores) :]
            best = best_items(scores, block.shape[1])[0]
            listed = scores.gather(1, block.clamp(min=0)).masked_fill(block < 0, -torch.inf)
            largest = scores.masked_fill(scores == -torch.inf, 0).abs().amax(1, keepdim=True)  # (B, 1)
            same = (best == listed) | ((best - listed).abs() <= ROUNDING * largest)
            n_wrong += int((~same).any(1).sum())
    return f"{n_wrong} of {len(chosen)} users get other items than in topk.npz" if n_wrong else None


def _differing_metrics(trained: Trained) -> str | None:
    """Which test metric is not that of the run, for one that kept no lists."""
    result = trained.directory.result() or {}
    now = TopKEvaluator(trained.config).evaluate(trained.model, EvalDataLoader(trained.config, trained.dataset, "test")).metrics
    for name, value in now.items():
        if abs(value - result["test"][name]) > METRIC_ROUNDING:
            return f"test {name} is {value:.4f}, and {result['test'][name]:.4f} in result.json"
    return None
