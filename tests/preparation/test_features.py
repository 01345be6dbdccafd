"""A feature table has the mean where an item has none, and goes on after a stop; without an end it has no name."""

import signal
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch

import mambarec.preparation.features.feature_table as module
from mambarec.base.errors import DataError, RunError
from mambarec.preparation.features.feature_table import Block, FeatureFiles, weights_digest

SRC = Path(__file__).resolve().parents[2] / "src"
IDS = [f"B{item}" for item in range(10)]
VECTORS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
REAL = np.array([True, False, True, True, False, True, True, True, True, False])


def blocks(start: int, fail_at: int | None = None):
    """Two items at a time, as an encoder would give them."""
    for first in range(start, 10, 2):
        if first == fail_at:
            raise KeyboardInterrupt
        real = REAL[first : first + 2]
        yield Block(VECTORS[first : first + 2][real], real)


def write(folder, made_by="a", blocks=blocks):
    FeatureFiles(folder, "text", "missing.csv").write(
        IDS, 3, {"model": made_by, "weights": "0"}, blocks, lambda item: f"reason {item}"
    )


def check(folder):
    table, mask = np.load(folder / "text_feat.npy"), np.load(folder / "text_mask.npy")
    assert table.dtype == np.float32 and mask.dtype == bool and mask.tolist() == REAL.tolist()
    np.testing.assert_array_equal(table[REAL], VECTORS[REAL])
    np.testing.assert_allclose(table[~REAL], np.tile(VECTORS[REAL].mean(axis=0), (3, 1)), atol=1e-7)
    missing = pd.read_csv(folder / "missing.csv")
    assert missing.to_numpy().tolist() == [[item, f"B{item}", f"reason {item}"] for item in (1, 4, 9)]
    names = {path.name for path in folder.iterdir()}
    assert names - {".text_feat.lock"} == {"text_feat.npy", "text_mask.npy", "missing.csv", "report.json"}


def test_items_without_a_feature_get_the_mean_and_are_listed(tmp_path):
    write(tmp_path)
    check(tmp_path)


def test_a_stopped_table_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, blocks=lambda start: blocks(start, fail_at=6))
    assert not (tmp_path / "text_feat.npy").exists()
    starts = []
    write(tmp_path, blocks=lambda start: starts.append(start) or blocks(start))
    assert starts == [6]
    check(tmp_path)


def test_rows_of_another_model_are_not_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, made_by="b", blocks=lambda start: blocks(start, fail_at=6))
    starts = []
    write(tmp_path, blocks=lambda start: starts.append(start) or blocks(start))
    assert starts == [0]
    check(tmp_path)


KILLED = """
import os, signal, sys
sys.path[:0] = [{src!r}, {here!r}]
from pathlib import Path
import mambarec.preparation.features.feature_table as module
import test_features as test
module.SAVE_SECONDS = 0.0
def blocks(start):
    for number, block in enumerate(test.blocks(start)):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield block
test.write(Path({folder!r}), blocks=blocks)
"""


def test_a_killed_table_goes_on_where_it_was(tmp_path):
    script = KILLED.format(src=str(SRC), here=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.run([sys.executable, "-c", script], check=False)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "text_feat.npy").exists()
    starts = []
    write(tmp_path, blocks=lambda start: starts.append(start) or blocks(start))
    assert starts == [6]
    check(tmp_path)


def test_a_stop_while_files_get_their_names_loses_nothing(tmp_path, monkeypatch):
    def stop(self, table, missing):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(FeatureFiles, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path)
    write(tmp_path, blocks=None)  # no block is asked for
    check(tmp_path)


def test_an_earlier_table_stays_until_the_new_one_is_complete(tmp_path):
    write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, made_by="b", blocks=lambda start: blocks(start, fail_at=2))
    np.testing.assert_array_equal(np.load(tmp_path / "text_feat.npy")[REAL], VECTORS[REAL])


def test_a_vector_that_is_not_finite_is_an_error_that_names_the_item(tmp_path):
    def damaged(start):
        yield Block(np.zeros((2, 3), np.float32), np.array([True, True]))
        yield Block(np.full((1, 3), np.nan, np.float32), np.array([False, True]))

    with pytest.raises(DataError, match="NaN or Inf for item 3"):
        write(tmp_path, blocks=damaged)


def test_without_any_feature_nothing_is_written(tmp_path):
    def empty(start):
        yield Block(np.empty((0, 3), np.float32), np.zeros(10, dtype=bool))

    with pytest.raises(DataError, match=r"no item has a feature .the first, B0: reason 0"):
        write(tmp_path, blocks=empty)
    assert {path.name for path in tmp_path.iterdir()} <= {".text_feat.lock"}


def test_a_second_process_and_a_full_disk_are_errors(tmp_path, monkeypatch):
    with filelock.FileLock(tmp_path / ".text_feat.lock"), pytest.raises(RunError, match="another process"):
        write(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(RunError, match="its disk has"):
        write(tmp_path)


def test_the_digest_tells_weights_apart():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert weights_digest(first) != weights_digest(second)
    second.load_state_dict(first.state_dict())
    assert weights_digest(first) == weights_digest(second)
