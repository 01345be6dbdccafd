"""Missing modality: what is left of a trained model's metrics as items lose their images or texts, without training it again.

An item that loses a modality has the mean of all items' features in place of its own. What that means for a model:

- What it computes from raw features, a projection or a nearest-neighbour graph, is computed from the features that are left:
  the model is built anew on a data set in which the rows are replaced, and given the saved state. Items without features are
  equal to one another, hence one another's neighbours, in the order in which ties fall.
- A feature table that was trained, or is kept in the state, is loaded; its rows of the missing items are then replaced by its
  own mean, for the trained row holds what the item's features were.
- Any other tensor of the state that is not trained and depends on the features, such as a graph, is that of the model built
  anew. A trained one, such as a table of other width that was started from the features, cannot be taken back to an item
  without features, and is an error.

Which tensors these are is seen by building the model twice from the same seed, with the features and without. A model that
reads no features is what it was, by construction, and is not computed.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mambarec.analysis.given import Runs, run_places
from mambarec.base import arguments
from mambarec.base.errors import RunError
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader
from mambarec.data.dataset import RecDataset, is_graph
from mambarec.data.missing import mask_file
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.running.trained import Trained, best_state, build_model, load_state, load_trained, read_config

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def missing_modality(runs: Runs, shares: Iterable[float] = SHARES, seed: int = 0) -> pd.DataFrame:
    """Test metrics as a share of the items loses one modality, for each modality that the data set declares.

    runs: a Run, the directory of a finished run, or a list of these. RunError for any other directory, for data that have
    changed, and for a model to which an item without features means nothing. shares: of the items, 0 to 1.

    The items are the first of one order drawn from `seed`, so a larger share includes a smaller one, and all runs and
    modalities on a data set lose the same. Columns: model, dataset, seed, run, modality, read (whether the run reads it; if
    not, the figures are the run's own), share, items (how many lose it), and each test metric.
    """
    seed, shares, rows = arguments.whole("seed", seed, 0), _checked(shares), []
    for place in run_places(runs):
        trained = load_trained(*place)
        order = np.random.default_rng(seed).permutation(trained.dataset.present_items)
        own = (trained.directory.result() or {})["test"]
        for modality in trained.dataset.feature_keys:
            read = modality in trained.dataset.modalities and trained.dataset.feature_files[modality].exists()
            for share in shares:
                missing = order[: round(share * len(order))]
                metrics = metrics_without(trained, modality, missing) if read else own
                about = {"modality": modality, "read": read, "share": share, "items": len(missing)}
                rows.append(trained.name | about | metrics)
    return pd.DataFrame(rows)


def _checked(shares: Iterable[float]) -> list[float]:
    """The shares; ConfigError where they are no numbers from 0 to 1."""
    found = list(shares) if isinstance(shares, Iterable) else [shares]
    if not all(isinstance(share, float | int | np.floating) and 0 <= share <= 1 for share in found):
        raise arguments.refused("shares", shares, "a list of numbers from 0 to 1")
    return found


def metrics_without(trained: Trained, modality: str, missing: np.ndarray) -> dict[str, float]:
    """Test metrics of a trained model when the items `missing` (N,) have lost a modality that it reads.

    RunError where these are not defined: what is kept of the last training step, or was trained, does not change with the
    features.
    """
    if trained.config.get("evaluate_on") == "last_forward":
        raise RunError(
            f"{trained.config['model']} scores the vectors of its last training step (evaluate_on: last_forward), which do not "
            "change with the features; train it with --evaluate_on parameters"
        )
    with _data_without(trained, modality, missing) as (config, dataset):
        model = build_model(config, dataset)
        state = _state_without(trained, model, modality, missing)
        load_state(model, state, trained)
        return TopKEvaluator(config).evaluate(model, EvalDataLoader(config, dataset, "test")).metrics


@contextmanager
def _data_without(trained: Trained, modality: str, missing: np.ndarray) -> Iterator[tuple[Config, RecDataset]]:
    """The run's configuration and data, in a folder of their own, with the mean row in place of the missing ones.

    A folder, so that a model that reads the files itself, or keeps a graph beside them, meets these features alone.
    """
    source = trained.dataset
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / source.name
        here.mkdir()
        for path in source.folder.iterdir():
            if not is_graph(path):  # it is made of the whole features
                (here / path.name).symlink_to(path.resolve())
        file = Path(folder) / f"{modality}.npy"
        np.save(file, with_mean_rows(torch.from_numpy(source.features()[modality]), missing).numpy())
        if (mask := source.masks().get(modality)) is not None:
            np.save(mask_file(file), mask)
        config = read_config(trained.directory, {"data_path": folder})
        config[source.feature_keys[modality]] = str(file)  # absolute, so it holds wherever it is joined to a folder
        yield config, RecDataset(config, of_finished_run=True)


def _state_without(trained: Trained, fresh: GeneralRecommender, modality: str, missing: np.ndarray) -> Mapping[str, Tensor]:
    """The saved state for a model `fresh` that was built on data without the missing features."""
    state: dict[str, Any] = dict(best_state(trained.directory))
    before, after = build_model(trained.config, trained.dataset).state_dict(), fresh.state_dict()
    table = torch.from_numpy(trained.dataset.features()[modality])
    trainable = {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}
    for name in state:
        if torch.equal(before[name], after[name]):
            continue
        if before[name].shape == table.shape and torch.equal(before[name].cpu(), table):
            state[name] = with_mean_rows(state[name], missing)
        elif name not in trainable:
            state[name] = after[name]
        else:
            raise RunError(
                f"{trained.config['model']} starts its trained {name} from the {modality} features without keeping them as "
                "they are, so what an item without features has there is not defined"
            )
    return state


def with_mean_rows(table: Tensor, missing: np.ndarray) -> Tensor:
    """A copy of a table (I, D) whose rows `missing` (N,) are the mean of all its rows."""
    table = table.clone()
    table[torch.from_numpy(missing)] = table.mean(0)
    return table
