"""MambaRec in MMRec: what is copied, what is never overwritten, and that it trains there as it does here."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambarec.mmrec import export as export_plugin
from mambarec.running.run import assemble, init_seed, open_dataset

STAND_IN = Path(__file__).parent / "checkout"
MMREC_FILES = {  # of its src/, beside the models
    *(f"common/{name}.py" for name in ("abstract_recommender", "encoders", "init", "loss", "trainer")),
    *(f"utils/{name}.py" for name in ("configurator", "data_utils", "dataloader", "dataset", "logger", "metrics", "misc")),
    *(f"utils/{name}.py" for name in ("quick_start", "topk_evaluator", "utils")),
}


@pytest.fixture
def checkout(tmp_path):
    return shutil.copytree(STAND_IN, tmp_path / "MMRec")


def test_no_file_that_mmrec_has_is_copied():
    names = {path.as_posix() for path in export_plugin.files()}
    assert {"models/mambarec.py", "common/dream.py", "configs/model/MambaRec.yaml"} <= names
    assert not names & MMREC_FILES


def test_what_is_copied_needs_no_declaration_of_keys():
    for path, text in export_plugin.files().items():
        assert "pydantic" not in text and "Settings" not in text, path


def test_what_is_copied_imports_only_what_mmrec_has():
    known = {"torch", "numpy", "scipy", "common", "utils", *sys.stdlib_module_names}
    for path, text in export_plugin.files().items():
        tree = ast.parse(text if path.suffix == ".py" else "")
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]  # those of functions are lazy
        names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in names} <= known, path


def test_it_trains_there_as_here_on_the_same_batches(checkout, make_config, toy, tmp_path):
    config = make_config("MambaRec", embedding_size=64, train_batch_size=32)
    init_seed(config["seed"])
    dataset = open_dataset(config)
    train, _, _, trainer = assemble(config, dataset)
    batches = list(train)
    stored = {f"batch{i:03}": batch.numpy() for i, batch in enumerate(batches)}
    pairs = np.stack((dataset.users["train"], dataset.items["train"]))
    np.savez(tmp_path / "batches.npz", pairs=pairs, shape=(dataset.n_users, dataset.n_items), **stored)
    here = trainer._train_epoch(batches, 0) * len(batches)

    assert export_plugin.main([str(checkout)]) == 0
    words = [sys.executable, "main.py", f"{toy.parent}/", str(tmp_path / "batches.npz"), str(config["seed"])]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(words, cwd=checkout / "src", env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    there = json.loads(ended.stdout)
    assert there["loss"] == pytest.approx(here, rel=1e-5)
    assert all(0 <= item < dataset.n_items for items in there["lists"] for item in items)
    assert {"models.mambarec", "common.dream", "common.abstract_recommender"} <= set(there["modules"])


def test_nothing_is_overwritten_without_force(checkout, capsys):
    theirs = checkout / "src" / "models" / "mambarec.py"
    theirs.write_text("mine = True\n")
    assert export_plugin.main([str(checkout)]) == 2
    assert "has other files of these names: src/models/mambarec.py. Nothing was copied" in capsys.readouterr().err
    assert theirs.read_text() == "mine = True\n" and not (checkout / "src" / "common" / "dream.py").exists()
    assert export_plugin.main([str(checkout), "--force"]) == 0
    assert "class MambaRec" in theirs.read_text()
    assert export_plugin.main([str(checkout)]) == 0  # the same files are no others


def test_it_says_what_to_run_from_where_mmrec_looks_for_its_settings(checkout, capsys):
    export_plugin.main([str(checkout)])
    assert f"cd {checkout / 'src'} && python main.py -m MambaRec -d baby" in capsys.readouterr().out
    (checkout / "src" / "utils" / "configurator.py").write_text("folder = 'src/configs'\n")
    export_plugin.main([str(checkout)])
    assert f"cd {checkout} && python src/main.py -m MambaRec -d baby" in capsys.readouterr().out


def test_another_folder_is_no_checkout(tmp_path, capsys):
    assert export_plugin.main([str(tmp_path)]) == 2
    assert f"{tmp_path} is no MMRec checkout: there is no src/common/abstract_recommender.py" in capsys.readouterr().err
