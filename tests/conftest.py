"""Fixtures: a small data set in MMRec's form, and configurations for it."""

import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import mambarec.config.catalogue as catalogue
from mambarec.config.configurator import Config
from mambarec.data.dataloader import TrainDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.experiments.trials import one_after_the_other
from mambarec.running.run import run
from mambarec.training.trainer import Trainer

# No deadline: a busy machine may stop a test for a while. --hypothesis-profile default draws other examples each time.
settings.register_profile("default", settings.get_profile("default"), deadline=None)
settings.register_profile("steady", settings.get_profile("default"), derandomize=True)
settings.load_profile("steady")
os.fsync = lambda file: None  # no test takes the power away, and the suite waits half a minute for disks
torch.set_num_threads(1)  # on toy data a second thread only waits
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would what tests start
GOLDEN = Path(__file__).parent / "golden"
TOY_YAML = "inter_file_name: toy.inter\nvision_feature_file: image_feat.npy\ntext_feature_file: text_feat.npy\n"


@pytest.fixture(scope="session")
def _toy_configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "configs"
    shutil.copytree(catalogue.CONFIGS, folder)
    (folder / "dataset" / "toy.yaml").write_text(TOY_YAML)
    return folder


@pytest.fixture
def known_toy(_toy_configs, monkeypatch):
    """Makes the data set 'toy' known beside those of src/configs."""
    monkeypatch.setattr(catalogue, "CONFIGS", _toy_configs)


@pytest.fixture
def configs(known_toy, tmp_path, monkeypatch):
    """A copy of src/configs, with 'toy', that a test may change."""
    folder = tmp_path / "configs"
    shutil.copytree(catalogue.CONFIGS, folder)
    monkeypatch.setattr(catalogue, "CONFIGS", folder)
    return folder


@pytest.fixture
def toy(tmp_path, known_toy):
    """A writable copy of the toy data set (48 users, 64 items, image 24, text 16); returns its folder."""
    folder = tmp_path / "data" / "toy"
    shutil.copytree(GOLDEN / "toy", folder)
    return folder


@pytest.fixture
def make_config(tmp_path, toy):
    """make_config(model, **overrides) -> Config on the toy data, on the CPU, small and fast."""

    def make(model: str, **overrides) -> Config:
        small = {"embedding_size": 8, "train_batch_size": 64, "epochs": 2, "threads": 1, "checkpoint_seconds": 0}
        places = {"data_path": str(toy.parent), "results_dir": str(tmp_path / "results")}
        return Config(model, "toy", {**places, **small, "use_gpu": False, **overrides})

    return make


@pytest.fixture
def in_this_process(monkeypatch):
    """Lets main.py and report.py train trials in the test's process, which is faster than in processes of their own."""
    from mambarec.cli import report
    from mambarec.experiments import sweep

    for program in (sweep, report):
        monkeypatch.setattr(program, "LocalProcesses", lambda jobs: one_after_the_other)


@pytest.fixture
def interrupted_after(monkeypatch):
    """`with interrupted_after(epochs):` what trains in it is interrupted behind so many epochs."""

    @contextmanager
    def interrupted(epochs: int):
        train_epoch = Trainer._train_epoch

        def train(self, loader, epoch):
            if epoch == epochs:
                raise KeyboardInterrupt
            return train_epoch(self, loader, epoch)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "_train_epoch", train)
            yield

    return interrupted


@pytest.fixture
def make_loader():
    """make_loader(config, seed=0) -> TrainDataLoader over the configured data set."""

    def make(config: Config, seed: int = 0) -> TrainDataLoader:
        return TrainDataLoader(config, RecDataset(config), torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def make_run(make_config):
    """make_run(model, **overrides) -> directory of a finished run on the toy data."""

    def make(model: str, **overrides) -> Path:
        return Path(run(make_config(model, **overrides))["directory"])

    return make
