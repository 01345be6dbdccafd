"""Seconds per training step and parameters of every model on one data set, measured in turn in one process.

python benchmarks/steps.py --data_path data/ -d baby --rounds 5

Where the data set has no image features, ones of width 4096 are generated beside a copy of it; the table says so.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from common.trainer import Trainer, init_seed
from experiments.run import assemble
from utils.configurator import Config, available_models
from utils.dataset import RecDataset

WARM_UP = 2


def with_images(folder: Path, scratch: Path) -> Path:
    """A copy of the data set whose image_feat.npy is generated: noise around 64 latent dimensions."""
    copy = scratch / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.tsv"))
    copy.chmod(0o755)
    rng = np.random.default_rng(0)
    n_items = len(np.load(copy / "text_feat.npy", mmap_mode="r"))
    latent = rng.normal(size=(n_items, 64)) @ rng.normal(size=(64, 4096)) / 8
    np.save(copy / "image_feat.npy", (latent + rng.normal(size=latent.shape)).astype(np.float32))
    return copy


def prepare(model: str, dataset: str, data_path: Path, **overrides):
    """(trainer, batches of one epoch's start) of a model."""
    config = Config(model, dataset, {"data_path": str(data_path), **overrides})
    init_seed(config["seed"])
    loader, _, _, trainer = assemble(config, RecDataset(config))
    trainer.model.train()
    trainer.model.pre_epoch_processing()
    return trainer, iter(loader)


def seconds(trainer: Trainer, batch: torch.Tensor) -> float:
    """Wall time of one step."""
    started = time.perf_counter()
    trainer._train_step(batch, 0).item()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-d", "--dataset", default="baby")
    parser.add_argument("--data_path", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data_path / options.dataset
        generated = not (folder / "image_feat.npy").exists()
        folder = with_images(folder, Path(scratch)) if generated else folder
        runs = {name: prepare(name, options.dataset, folder.parent) for name in available_models()}
        runs["MambaRec released"] = prepare("MambaRec", options.dataset, folder.parent, variant="released")

    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARM_UP + options.rounds):
        for name, (trainer, batches) in runs.items():
            times[name].append(seconds(trainer, next(batches)))
    medians = {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}

    print(f"{options.dataset}{', generated image features' if generated else ''}; {torch.get_num_threads()} threads")
    print(f"{'':18}{'parameters':>12}{'without features':>18}{'s/step':>9}{'over BPR':>10}")
    for name, (trainer, _) in sorted(runs.items(), key=lambda run: medians[run[0]]):
        tables = {tuple(table.shape) for table in trainer.model.features.values()}
        sizes = [(tuple(p.shape) in tables, p.numel()) for p in trainer.model.parameters()]
        total, own = sum(size for _, size in sizes), sum(size for raw, size in sizes if not raw)
        print(f"{name:18}{total:>12,}{own:>18,}{medians[name]:>9.3f}{medians[name] / medians['BPR']:>10.1f}")


if __name__ == "__main__":
    main()
