"""A run whose cap of epochs is raised goes on from where the run of the smaller cap is, where that gives the same result."""

from pathlib import Path

import filelock
import pytest

from mambarec.base.errors import RunError
from mambarec.config.configurator import Axis
from mambarec.experiments.trials import prepare, run_trials
from mambarec.running.directory import RunDirectory, same_result
from mambarec.running.run import run
from mambarec.running.trained import load_trained
from mambarec.training.trainer import Trainer

EARLY = {"stopping_step": 1, "min_epochs": 0, "learning_rate": 1e-12}  # nothing improves after the first epoch


@pytest.fixture
def elsewhere(tmp_path):
    """Settings of a results_dir that holds no shorter run."""
    return {"results_dir": f"{tmp_path}/elsewhere/"}


def log_of(result: dict) -> str:
    return Path(result["directory"], "train.log").read_text()


@pytest.mark.parametrize("model", ["MambaRec", "LightGCN"])
def test_it_ends_like_one_that_had_the_larger_cap_from_the_start(model, make_config, elsewhere):
    shorter = run(make_config(model, epochs=2))
    longer = run(make_config(model, epochs=5))
    name = Path(shorter["directory"]).name
    assert f"goes on from {name}, the run with at most 2 epochs, after epoch 2" in log_of(longer)
    assert same_result(longer["directory"], run(make_config(model, epochs=5, **elsewhere))["directory"]) == []
    assert longer["directory"] != shorter["directory"] and run(make_config(model, epochs=2)) == shorter


def test_it_goes_on_from_the_longest_that_was_stopped_or_finished(make_config, elsewhere, interrupted_after):
    run(make_config("BPR", epochs=2))
    with interrupted_after(3):
        run(make_config("BPR", epochs=6))
    longer = run(make_config("BPR", epochs=7))
    assert "the run with at most 6 epochs, after epoch 3" in log_of(longer)
    assert same_result(longer["directory"], run(make_config("BPR", epochs=7, **elsewhere))["directory"]) == []


def test_one_that_ended_early_only_ends_again(make_config, elsewhere, monkeypatch):
    shorter = run(make_config("BPR", epochs=5, **EARLY))
    assert shorter["stopped_by"] == "patience" and shorter["epochs"] == 2
    expected = run(make_config("BPR", epochs=50, **EARLY, **elsewhere))
    monkeypatch.setattr(Trainer, "_train_epoch", lambda *_: pytest.fail("trained"))
    longer = run(make_config("BPR", epochs=50, **EARLY))
    assert same_result(longer["directory"], expected["directory"]) == []
    assert longer["peak_memory_mb"] >= shorter["peak_memory_mb"]


def test_a_last_epoch_that_was_evaluated_out_of_turn_is_no_start(make_config, elsewhere):
    run(make_config("BPR", epochs=5, eval_step=2))
    longer = run(make_config("BPR", epochs=8, eval_step=2))
    assert "evaluated after epoch 5 only because that was its last (eval_step=2)" in log_of(longer)
    assert "resumed" not in log_of(longer)
    assert same_result(longer["directory"], run(make_config("BPR", epochs=8, eval_step=2, **elsewhere))["directory"]) == []
    run(make_config("BPR", epochs=3, eval_step=2))
    assert "at most 8 epochs, after epoch 8" in log_of(run(make_config("BPR", epochs=10, eval_step=2)))


def test_evaluations_come_after_every_so_many_epochs_and_after_the_last(make_config):
    rows = RunDirectory(Path(run(make_config("BPR", epochs=7, eval_step=3))["directory"])).metrics()
    assert [row["epoch"] + 1 for row in rows if "valid" in row] == [3, 6, 7]


def test_other_settings_seeds_and_larger_caps_are_no_start(make_config):
    for other in {"seed": 1}, {"reg_weight": 0.5}, {"epochs": 4}:
        run(make_config("BPR", **{"epochs": 2, **other}))
    assert "goes on from" not in log_of(run(make_config("BPR", epochs=3)))


def test_a_model_that_reads_the_cap_starts_anew(make_config, tmp_path):
    source = Path(make_config("BPR").model_file).read_text()
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "scheduled.py").write_text(source.replace("class BPR", "class Scheduled") + "\nCAP = 'epochs'\n")
    (folder / "Scheduled.yaml").write_text("reg_weight: 0.1\n")
    place = {"model_path": str(folder)}
    run(make_config("Scheduled", **place))
    assert "scheduled.py reads 'epochs', so that its training may" in log_of(run(make_config("Scheduled", epochs=3, **place)))


def test_a_shorter_run_in_use_is_no_start(make_config):
    shorter = Path(run(make_config("BPR", epochs=2))["directory"])
    with filelock.FileLock(shorter / ".lock"):
        assert "is in use by another process" in log_of(run(make_config("BPR", epochs=3)))


def test_a_restart_begins_at_the_first_epoch(make_config):
    run(make_config("BPR", epochs=2))
    assert "goes on from" not in log_of(run(make_config("BPR", epochs=3), restart=True))
    (outcome,) = run_trials(prepare([make_config("BPR", epochs=4)], anew=True))
    assert "goes on from" not in log_of(outcome.result)


def test_a_grid_goes_on_from_a_grid(make_config):
    def grid(epochs: int):
        return prepare(make_config("BPR", reg_weight=Axis([0.1, 0.01]), epochs=epochs).trials())

    run_trials(grid(2))
    assert all("after epoch 2" in log_of(outcome.result) for outcome in run_trials(grid(3)))


def test_a_start_after_one_that_left_no_checkpoint_says_that_it_starts_anew(make_config, monkeypatch):
    config = make_config("BPR")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_train_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(config)
    text = log_of(run(config))
    assert "an earlier start of this run was stopped before its first checkpoint: it starts anew" in text


def test_lists_of_an_earlier_epoch_are_not_kept(make_config):
    first = RunDirectory(Path(run(make_config("BPR", epochs=2, learning_rate=0.05))["directory"]))
    assert first.file("topk.npz").exists()
    longer = run(make_config("BPR", epochs=20, save_recommended_topk=False, learning_rate=0.05))
    assert longer["best_epoch"] > 1, "the test needs a better epoch after those that are taken over"
    assert not Path(longer["directory"], "topk.npz").exists()
    with pytest.raises(RunError, match="kept no recommendations"):
        load_trained(longer["directory"]).lists()
