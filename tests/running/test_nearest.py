"""A new run that stands beside a stopped one says in what the two differ."""

from contextlib import nullcontext
from pathlib import Path

import filelock
import pytest

from mambarec.experiments.trials import prepare, run_trials
from mambarec.running.run import run


@pytest.fixture
def stopped(make_config, interrupted_after):
    """The name of a run of BPR that was stopped after two of six epochs."""
    config = make_config("BPR", epochs=6)
    with interrupted_after(2):
        run(config)
    (path,) = (Path(config["results_dir"]) / config["dataset"] / "BPR").glob("seed*/checkpoint.pt")
    return path.parent.name


def said(result: dict) -> str:
    lines = Path(result["directory"], "train.log").read_text().splitlines()
    return "\n".join(line for line in lines if "this is a new run" in line)


@pytest.mark.parametrize(
    ("key", "value", "text"), [("learning_rate", 0.01, "learning_rate 0.001"), ("threads", 2, "threads 1")]
)
def test_resume_with_another_value_names_the_stopped_run(key, value, text, make_config, stopped):
    line = said(run(make_config("BPR", epochs=6, **{key: value}), resume=True))
    assert f"The stopped run {stopped} (2 epochs) is not the same: it has {text}" in line


def test_other_data_are_named(make_config, stopped, toy):
    file = toy / "toy.inter"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert "it has other data files" in said(run(make_config("BPR", epochs=6), resume=True))


def test_without_resume_only_the_machine_counts(make_config, stopped):
    assert stopped in said(run(make_config("BPR", epochs=6, threads=2)))
    assert said(run(make_config("BPR", epochs=6, learning_rate=0.01))) == ""


def test_the_points_of_a_grid_do_not_name_each_other(make_config, stopped):
    (outcome,) = run_trials(prepare([make_config("BPR", epochs=6, learning_rate=0.01)]))
    assert said(outcome.result) == ""


def test_a_finished_run_is_not_named(make_config):
    run(make_config("BPR", epochs=1))
    text = "this is a new run: no run of this model, data set and seed was stopped"
    assert text in said(run(make_config("BPR", epochs=1, threads=2), resume=True))


def test_a_run_that_takes_over_the_epochs_of_another_is_not_new(make_config, stopped):
    result = run(make_config("BPR", epochs=7), resume=True)
    assert said(result) == "" and f"goes on from {stopped}" in Path(result["directory"], "train.log").read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_run_is_not_named(text, make_config, stopped):
    (Path(make_config("BPR")["results_dir"]) / "toy" / "BPR" / stopped / "config.json").write_text(text)
    assert "The stopped run" not in said(run(make_config("BPR", epochs=6, threads=2), resume=True))


def test_a_run_that_another_process_trains_is_not_named(make_config, stopped):
    with filelock.FileLock(Path(make_config("BPR")["results_dir"]) / "toy" / "BPR" / stopped / ".lock"):
        assert "The stopped run" not in said(run(make_config("BPR", epochs=6, threads=2), resume=True))


def test_a_trial_that_is_stopped_says_that_its_command_goes_on(make_config, monkeypatch):
    words = []
    monkeypatch.setattr("mambarec.running.run.stop.guard", lambda unsaved, last: words.append(last()) or nullcontext())
    run_trials(prepare([make_config("BPR", epochs=1)]))
    assert words and not any("--resume" in text for text in words if text)
