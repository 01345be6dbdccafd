"""What is measured: data sets of a size, and models that stand before a training step, fast or plain."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import mambarec.running.run
from benchmarks.plain_models import PLAIN, PlainTrainer
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader, TrainDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.training.trainer import Trainer, init_seed

# What the benchmark calls a run -> the model, and what it sets beside its YAML.
RUNS = {
    "MambaRec/paper": ("MambaRec", {}),
    "MambaRec/released": ("MambaRec", {"variant": "released"}),
    "MambaRec/fixed": ("MambaRec", {"train_features": False}),
    **{name: (name, {}) for name in "BPR LightGCN VBPR FREEDOM MGCN SLMRec GRCN LGMRec MMGCN".split()},
    **{name: (name, {}) for name in "BM3 LATTICE PGL SMORE DRAGON GUME COHESION MENTOR".split()},
}


def source(data_path: Path, name: str) -> Path:
    """The folder of a data set; ends the process with a message where it is not there."""
    path = data_path / name / f"{name}.inter"
    if not path.exists():
        sys.exit(f"{path} does not exist; name the folder above the data set with --data_path")
    return path.parent


def with_features(folder: Path, scratch: Path, image_width: int = 4096, text_width: int = 384) -> Path:
    """A copy of a data set in which feature files that it lacks are generated: noise around 64 latent dimensions."""
    copy = scratch / folder.name
    copy.mkdir(parents=True)
    for path in [folder / f"{folder.name}.inter", *folder.glob("*_feat.npy")]:
        shutil.copyfile(path, copy / path.name)
    items = np.loadtxt(copy / f"{folder.name}.inter", delimiter="\t", skiprows=1, usecols=1, dtype=np.int64)
    for name, width in {"image_feat.npy": image_width, "text_feat.npy": text_width}.items():
        if not (copy / name).exists():
            np.save(copy / name, generated_features(int(items.max()) + 1, width))
    return copy


def generated_features(n_items: int, width: int, first: int | None = None) -> np.ndarray:
    """Noise around 64 latent dimensions, as strong as they are: float32 (I, width), the same for the same shape.

    first: the number of the first of the items, for a table that is made in parts.
    """
    rng = np.random.default_rng(width if first is None else [width, first])
    latent = rng.standard_normal((n_items, 64), np.float32)
    basis = (rng if first is None else np.random.default_rng(width)).standard_normal((64, width), np.float32) / 8
    return latent @ basis + rng.standard_normal((n_items, width), np.float32)


def _plain_class(name: str, folder: object = None) -> type:
    return PLAIN[name]


@contextmanager
def plain_forms() -> Iterator[None]:
    """While open, runs are assembled from the plain models and the plain trainer."""
    before = mambarec.running.run.load_model_class, mambarec.running.run.Trainer
    mambarec.running.run.load_model_class, mambarec.running.run.Trainer = _plain_class, PlainTrainer  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        mambarec.running.run.load_model_class, mambarec.running.run.Trainer = before  # type: ignore[misc]


class Steps:
    """A model before its next training step, on the CPU unless told otherwise; calling it makes the step, returns the loss."""

    def __init__(self, run: str, folder: Path, plain: bool = False, **overrides):
        model, own = RUNS[run]
        places = {"data_path": str(folder.parent), "results_dir": str(folder.parent / "results")}
        config = Config(model, folder.name, {"use_gpu": False, **places, **own, **overrides})
        init_seed(config["seed"])
        dataset = RecDataset(config)
        if plain:
            with plain_forms():
                assembled = mambarec.running.run.assemble(config, dataset)
        else:
            assembled = mambarec.running.run.assemble(config, dataset)
        self.loader: TrainDataLoader = assembled[0]
        self.test, self.trainer = assembled[2:]
        self.trainer: Trainer
        self.trainer.model.train()
        self.trainer.model.pre_epoch_processing()
        self.batches = self._epoch()

    def _epoch(self) -> Iterator[Any]:
        """The batches of an epoch. What a sampled step draws is drawn within the step, not in a thread beside it."""
        return self.trainer._samples(self.loader, 0) if self.trainer.is_sampled else iter(self.loader)

    def __call__(self) -> float:
        batch = next(self.batches, None)
        if batch is None:
            self.batches = self._epoch()
            batch = next(self.batches)
        return self.trainer._train_step(batch, 0).item()


def plain_evaluation(
    users: Tensor, items: Tensor, test: EvalDataLoader, cutoffs=(5, 10, 20, 50), batch: int = 4096
) -> dict[str, float]:
    """Recall, NDCG, precision and MAP of vectors (U, D) and (I, D), user by user, as a loop in Python has them."""
    dataset = test.dataset
    history, relevant = {}, {}
    for pairs, split in ((history, "train"), (relevant, test.split)):
        for user, item in zip(dataset.users[split].tolist(), dataset.items[split].tolist(), strict=True):
            pairs.setdefault(user, set()).add(item)
    sums: dict[str, float] = {}
    order = sorted(relevant)
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        scores = users[some] @ items.T
        for row, user in enumerate(some):
            scores[row, list(history.get(user, ()))] = -np.inf
        top = scores.topk(max(cutoffs)).indices.tolist()
        for user, ranked in zip(some, top, strict=True):
            hits = np.array([item in relevant[user] for item in ranked])
            ranks, n = np.arange(1, len(hits) + 1), len(relevant[user])
            gains, precision = hits / np.log2(ranks + 1), hits.cumsum() / ranks
            for k in cutoffs:
                best = min(k, n)
                values = {
                    "recall": hits[:k].sum() / n,
                    "precision": precision[k - 1],
                    "ndcg": gains[:k].sum() / (1 / np.log2(ranks[:best] + 1)).sum(),
                    "map": (precision[:k] * hits[:k]).sum() / best,
                }
                for name, value in values.items():
                    sums[f"{name}@{k}"] = sums.get(f"{name}@{k}", 0.0) + value
    return {name: total / len(order) for name, total in sums.items()}
