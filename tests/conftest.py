"""Fixtures: a small data set in MMRec's form, and configurations for it."""

import shutil
from pathlib import Path

import pytest
import torch

import utils.configurator as configurator
from utils.configurator import Config
from utils.dataloader import TrainDataLoader
from utils.dataset import RecDataset

torch.set_num_threads(1)  # on toy data a second thread only waits
GOLDEN = Path(__file__).parent / "golden"
TOY_YAML = "inter_file_name: toy.inter\nvision_feature_file: image_feat.npy\ntext_feature_file: text_feat.npy\n"


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A copy of src/configs that a test may change; it has the data set 'toy' as well."""
    folder = tmp_path / "configs"
    shutil.copytree(configurator.CONFIGS, folder)
    (folder / "dataset" / "toy.yaml").write_text(TOY_YAML)
    monkeypatch.setattr(configurator, "CONFIGS", folder)
    return folder


@pytest.fixture
def toy(tmp_path, configs):
    """A writable copy of the toy data set (48 users, 64 items, image 24, text 16); returns its folder."""
    folder = tmp_path / "data" / "toy"
    shutil.copytree(GOLDEN / "toy", folder)
    return folder


@pytest.fixture
def make_config(tmp_path, toy):
    """make_config(model, **overrides) -> Config on the toy data, on the CPU, small and fast."""

    def make(model: str, **overrides) -> Config:
        small = {"embedding_size": 8, "train_batch_size": 32, "epochs": 2, "use_gpu": False, "threads": 1, "checkpoint_seconds": 0}
        places = {"data_path": str(toy.parent), "results_dir": str(tmp_path / "results")}
        return Config(model, "toy", {**places, **small, **overrides})

    return make


@pytest.fixture
def make_loader():
    """make_loader(config, seed=0) -> TrainDataLoader over the configured data set."""

    def make(config: Config, seed: int = 0) -> TrainDataLoader:
        return TrainDataLoader(config, RecDataset(config), torch.Generator().manual_seed(seed))

    return make
