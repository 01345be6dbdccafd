"""A run's directory: what it holds, how it is named, how it resumes, and what keeps it from starting."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch

from mambarec.base.errors import ConfigError, RunError
from mambarec.data.dataset import RecDataset
from mambarec.running.directory import RunDirectory, same_result
from mambarec.running.needs import check_batches
from mambarec.running.run import assemble, run, run_path
from mambarec.training.trainer import Trainer

SRC = Path(__file__).resolve().parents[2] / "src"
FILES = "config.json environment.json train.log metrics.jsonl checkpoint.pt best.pt per_user.npz topk.npz result.json".split()


@pytest.fixture
def finished(make_config):
    """A finished run of three epochs: (config, result, directory)."""
    config = make_config("MambaRec", epochs=3)
    result = run(config)
    return config, result, RunDirectory(Path(result["directory"]))


def test_a_run_leaves_its_whole_record(finished):
    _, result, directory = finished
    assert {path.name for path in directory.path.iterdir()} >= set(FILES)
    assert not list(directory.path.glob("*.tmp"))
    rows = directory.metrics()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert rows[result["best_epoch"]]["valid"] == result["valid"]
    assert json.loads(directory.file("config.json").read_text())["embedding_size"] == 8


def test_per_user_values_and_topk_give_the_published_means(finished):
    config, result, directory = finished
    with np.load(directory.file("per_user.npz")) as values:
        for name, mean in result["test"].items():
            assert values[name].mean() == mean
        users = values["users"]
    with np.load(directory.file("topk.npz")) as lists:
        assert (lists["users"] == users).all()
        relevant = RecDataset(config)
        pairs = set(zip(relevant.users["test"].tolist(), relevant.items["test"].tolist(), strict=True))
        rows = zip(users.tolist(), lists["topk"].tolist(), strict=True)
        hits = [sum((user, item) in pairs for item in row[:20]) for user, row in rows]
    counts = np.bincount(relevant.users["test"])[users]
    assert np.mean(np.array(hits) / counts) == pytest.approx(result["test"]["recall@20"], abs=1e-12)


def test_the_saved_model_gives_the_saved_lists(finished, make_loader):
    config, _, directory = finished
    from mambarec.data.dataloader import EvalDataLoader
    from mambarec.evaluation.topk_evaluator import TopKEvaluator
    from mambarec.running.run import load_model_class

    loader = make_loader(config)
    model = load_model_class("MambaRec")(config, loader)
    model.load_state_dict(directory.load("best.pt"))
    evaluation = TopKEvaluator(config).evaluate(model, EvalDataLoader(config, loader.dataset, "test"))
    with np.load(directory.file("topk.npz")) as lists:
        assert (lists["topk"] == evaluation.topk).all()


def test_result_says_how_many_parameters_are_raw_features(finished):
    _, result, _ = finished
    assert result["parameters"] - result["parameters_without_features"] == 64 * (24 + 16)


def test_a_parameter_of_the_shape_of_the_features_is_none_of_them(make_config):
    config = make_config("MambaRec", embedding_size=24)  # as wide as the images
    trainer = assemble(config, RecDataset(config))[3]
    assert trainer.parameters - trainer.parameters_without_features == 64 * (24 + 16)


def test_one_epoch_during_which_the_machine_slept_does_not_count(make_config, monkeypatch):
    train_epoch, now = Trainer._train_epoch, [0.0]

    def slow_second(self, loader, epoch):
        now[0] += 100.0 if epoch == 1 else 1.0
        return train_epoch(self, loader, epoch)

    monkeypatch.setattr("mambarec.training.trainer.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(Trainer, "_train_epoch", slow_second)
    result = run(make_config("BPR", epochs=3))
    assert result["seconds_per_epoch"] == 1 and result["seconds_total"] == 102


def test_the_same_command_twice_gives_the_same_result_to_the_bit(make_config, tmp_path):
    first = run(make_config("MambaRec", epochs=3))
    second = run(make_config("MambaRec", epochs=3, results_dir=str(tmp_path / "elsewhere")))
    assert first["directory"] != second["directory"]
    assert same_result(first["directory"], second["directory"]) == []


def test_same_result_names_what_differs(make_config):
    first, second = run(make_config("BPR", seed=1)), run(make_config("BPR", seed=2))
    differing = set(same_result(first["directory"], second["directory"]))
    assert {"result.json", "metrics.jsonl", "best.pt", "checkpoint.pt"} <= differing


def test_a_finished_run_is_not_trained_again(finished):
    config, result, directory = finished
    before = directory.file("result.json").stat().st_mtime_ns
    assert run(config) == result
    assert directory.file("result.json").stat().st_mtime_ns == before


def test_the_name_depends_on_settings_seed_and_data_but_not_on_places(make_config, toy, tmp_path):
    def name(**overrides):
        config = make_config("BPR", **overrides)
        return run_path(config, RecDataset(config)).name

    names = {name(), name(seed=1), name(learning_rate=0.01), name(reg_weight=0.5), name(epochs=9)}
    assert len(names) == 5
    assert name(results_dir=str(tmp_path), checkpoint_seconds=7) == name()
    with (toy / "toy.inter").open("a") as file:
        file.write("0\t1\t1.0\t0\t0\n")
    assert name() not in names


def test_an_unfinished_run_is_not_overwritten_by_accident(make_config):
    config = make_config("BPR", epochs=3)
    directory = RunDirectory(Path(run(config)["directory"]))
    directory.file("result.json").unlink()
    with pytest.raises(RunError, match=r"--resume.*--restart"):
        run(config)
    assert run(config, resume=True)["epochs"] == 3
    assert run(config, restart=True)["epochs"] == 3


def test_a_run_directory_in_use_is_refused(make_config):
    config = make_config("BPR")
    directory = RunDirectory(run_path(config, RecDataset(config)))
    directory.path.mkdir(parents=True)
    with filelock.FileLock(directory.file(".lock")), pytest.raises(RunError, match="in use by another process"):
        run(config)


def test_results_that_cannot_be_written_are_refused_before_training(make_config, tmp_path):
    (tmp_path / "occupied").write_text("")
    with pytest.raises(RunError, match=r"cannot be written.*--results_dir"):
        run(make_config("BPR", results_dir=str(tmp_path / "occupied")))


def test_a_wrong_setting_leaves_nothing_on_disk(make_config, tmp_path):
    with pytest.raises(ConfigError, match=r"reduction_factor=100000: min\(24, 16\) // 100000 = 0.*use at most 16"):
        run(make_config("MambaRec", reduction_factor=100000))
    assert not (tmp_path / "results").exists()


def test_a_loss_that_is_not_finite_names_epoch_and_step(make_config):
    with pytest.raises(RunError, match=r"MambaRec: the loss is (nan|inf) at epoch \d+, step \d+.*learning_rate"):
        run(make_config("MambaRec", learning_rate=1e30))


def test_a_first_epoch_that_was_the_best_is_said_loudly(make_config):
    config = make_config("BPR", epochs=4, learning_rate=1e-12)  # nothing moves, so nothing improves
    directory = Path(run(config)["directory"])
    assert "WARNING: the first epoch was the best of 4" in (directory / "train.log").read_text()


def test_unread_keys_are_reported_once(make_config, configs):
    with (configs / "dataset" / "toy.yaml").open("a") as file:
        file.write("missing_seed: 32\n")
    directory = Path(run(make_config("BPR"))["directory"])
    log = (directory / "train.log").read_text()
    assert "toy.yaml sets 'missing_seed', but nothing read it" in log
    assert log.count("nothing read it") == 1


def test_tensorboard_writes_the_metrics_when_asked(make_config):
    pytest.importorskip("tensorboard", reason="the extra [tracking] is not installed")
    config = make_config("BPR", tensorboard=True)
    directory = Path(run(config)["directory"])
    assert len(list((directory / "tensorboard").glob("events*"))) == 1
    run(config, restart=True)
    assert len(list((directory / "tensorboard").glob("events*"))) == 1


def test_a_line_of_metrics_that_a_kill_cut_short_does_not_count(finished):
    _, _, directory = finished
    directory.file("result.json").unlink()
    with directory.file("metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')
    assert [row["epoch"] for row in directory.metrics()] == [0, 1, 2]


KILLED = """
import sys
sys.path.insert(0, {src!r})
import mambarec.config.catalogue as catalogue
from pathlib import Path
catalogue.CONFIGS = Path({configs!r})
from mambarec.training.trainer import Trainer
from mambarec.running.run import run
from mambarec.config.configurator import Config
step = Trainer._train_step
def slow_step(self, batch, number):
    import time
    print("step", self.progress.epoch, number, flush=True)
    time.sleep(600 if (self.progress.epoch, number) == (2, 3) else 0)
    return step(self, batch, number)
Trainer._train_step = slow_step
run(Config({model!r}, "toy", {overrides!r}), resume=True)
"""


@pytest.mark.parametrize("model", [pytest.param("MambaRec", marks=pytest.mark.slow), "LightGCN"])
def test_a_run_killed_in_the_middle_of_an_epoch_ends_like_one_never_killed(model, make_config, configs, tmp_path, toy):
    overrides = {
        "data_path": str(toy.parent),
        "results_dir": str(tmp_path / "killed"),
        "embedding_size": 8,
        "train_batch_size": 32,
        "epochs": 6,
        "use_gpu": False,
        "threads": 1,
        "checkpoint_seconds": 0,
    }
    script = KILLED.format(src=str(SRC), configs=str(configs), model=model, overrides=overrides)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("step 2 3"):  # of the fourth epoch: three are in the checkpoint
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL
    directories = list((tmp_path / "killed" / "toy" / model).iterdir())
    assert len(directories) == 1 and not (directories[0] / "result.json").exists()

    resumed = run(make_config(model, **overrides), resume=True)
    assert "resumed after epoch" in (directories[0] / "train.log").read_text()
    undisturbed = run(make_config(model, **{**overrides, "results_dir": str(tmp_path / "whole")}))
    assert resumed["epochs"] == undisturbed["epochs"]
    assert same_result(resumed["directory"], undisturbed["directory"]) == []


def test_a_start_imports_neither_the_compiler_of_torch_nor_pandas_nor_statistics():
    script = f"""
import sys
sys.path.insert(0, {str(SRC)!r})
from mambarec.cli import train as main
import torch
from mambarec.training.trainer import Adam
weight = torch.nn.Parameter(torch.ones(1))
optimizer = Adam([weight], fused=True)
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print([name for name in ("torch._dynamo", "sympy", "scipy.stats", "pandas", "optuna", "ray", "faiss") if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


@pytest.mark.parametrize("key", ["use_full_sampling", "use_neighborhood_loss"])
def test_a_model_gets_no_batches_that_its_loss_does_not_read(make_config, tmp_path, key):
    with pytest.raises(ConfigError, match=f"{key}=True: the loss of DRAGON does not read such batches"):
        run(make_config("DRAGON", **{key: True}))
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "bpr.py").write_text((SRC / "models" / "bpr.py").read_text())
    check_batches(make_config("BPR", model_path=str(folder), **{key: True}))


def test_a_result_of_another_epoch_than_the_best_model_is_not_written(make_config):
    directory = RunDirectory(Path(run(make_config("BPR"))["directory"]))
    result = directory.result()
    directory.finish(result)
    with pytest.raises(RunError, match=r"its best model has test recall@20 .*, and its best epoch 0\.9000"):
        directory.finish({**result, "test": {**result["test"], "recall@20": 0.9}})


def test_a_stopped_run_that_kept_no_lists_goes_on_without_them(make_config, interrupted_after):
    with interrupted_after(1):
        run(make_config("BPR", save_recommended_topk=False))
    with pytest.raises(RunError, match=r"kept no recommendations so far \(save_recommended_topk: false\)"):
        run(make_config("BPR"), resume=True)
    assert run(make_config("BPR", save_recommended_topk=False), resume=True)["epochs"] == 2


def test_pairs_without_negatives_are_refused_where_the_loss_reads_them(make_config):
    with pytest.raises(ConfigError, match="use_neg_sampling=False: MambaRec is trained with negatives; leave it out"):
        run(make_config("MambaRec", use_neg_sampling=False))
    check_batches(make_config("BM3"))


@pytest.mark.parametrize(("key", "value"), [("end2end", True), ("is_multimodal_model", False)])
def test_a_key_that_takes_the_features_away_is_named(make_config, key, value):
    with pytest.raises(ConfigError, match=f"^{key}={value} takes the item features away, and the model reads them"):
        run(make_config("MGCN", **{key: value}))


def test_convolutions_are_of_float32_in_every_process():
    assert not torch.backends.cudnn.allow_tf32  # by an import, since a worker builds no Config
