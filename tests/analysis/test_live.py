"""Unfinished runs and the live page: what is shown of them, when the page is written, and when that ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mambarec.analysis.html import LivePage
from mambarec.analysis.live import (
    FAILED,
    QUIET,
    RUNNING,
    STOPPED,
    Live,
    Unfinished,
    finished_and_not,
    unfinished,
    until_they_end,
)
from mambarec.analysis.selection import Wanted
from mambarec.base.errors import RunError
from mambarec.base.places import CODE as SRC
from mambarec.cli import report as program
from mambarec.experiments.experiment import Experiment
from mambarec.running.directory import RunDirectory, trial_name
from tests.analysis.test_html import INJECTED, Page

NOW = 1_000_000.0


def row(epoch: int, valid: float | None = None) -> dict:
    found = {} if valid is None else {"valid": {"recall@20": valid}}
    return {"epoch": epoch, "loss": 1.0, "seconds_train": 2.0, "seconds_eval": 1.0, **found}


@pytest.fixture
def going_on(tmp_path):
    """going_on(rows, model='BPR', seed=1, log='', **config) -> the directory of an unfinished run."""

    def make(rows, model: str = "BPR", seed: int = 1, log: str = "", dataset: str = "toy", **config) -> Path:
        path = tmp_path / "results" / dataset / model / f"seed{seed}-{len(config)}"
        path.mkdir(parents=True)
        settings = {"epochs": 100, "stopping_step": 5, "min_epochs": 2, "valid_metric": "Recall@20", **config}
        (path / "config.json").write_text(json.dumps({"model": model, "dataset": dataset, "seed": seed, **settings}))
        (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        (path / "train.log").write_text(log)
        return path

    return make


def test_progress_is_that_of_the_trainer(make_run, make_config):
    path = make_run("BPR", epochs=9, stopping_step=3, min_epochs=0, learning_rate=0.5)
    progress = RunDirectory(path).load("checkpoint.pt")["progress"]
    (path / "result.json").unlink()
    best, value, without = Unfinished.of_run(path, False).progress
    assert (best, value, without) == (progress["best_epoch"], progress["best_value"], progress["without_improvement"])
    assert without > 0


def test_evaluations_count_from_min_epochs_on(going_on):
    rows = [row(0, 0.3), row(1, 0.2), row(2), row(3, 0.2), row(4, 0.1)]
    run = Unfinished.of_run(going_on(rows), False)
    assert run.progress == (0, 0.3, 2)
    words = run.words(run.changed + 5)
    assert words == ["5 of at most 100", "0.3000 in epoch 1", "2 of 5", "5 s ago", "running"]
    assert Unfinished.of_run(going_on([], seed=2), False).words(run.changed)[:3] == ["0 of at most 100", "–", "0 of 5"]


TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    f()\nValueError: no {0}\n'
LOGGED = "2026-11-26 06:00:00,123 INFO epoch   0\n"


@pytest.mark.parametrize(
    ("log", "in_use", "age", "state"),
    [
        ("", True, 9999, RUNNING),
        ("", False, QUIET / 2, RUNNING),
        ("", False, 9999, STOPPED),
        (LOGGED + TRACEBACK, False, 1, FAILED),
        (LOGGED + TRACEBACK, True, 1, RUNNING),
        (TRACEBACK + LOGGED, False, 9999, STOPPED),
    ],
)
def test_the_state_of_a_run(going_on, log, in_use, age, state):
    run = Unfinished.of_run(going_on([row(0)], log=log), in_use)
    assert run.state(run.changed + age) == state


def test_long_epochs_may_be_waited_for(going_on):
    run = Unfinished.of_run(going_on([{**row(0), "seconds_train": 600.0}]), False)
    assert run.state(run.changed + 2900) == RUNNING and run.state(run.changed + 3100) == STOPPED


def test_a_run_whose_lock_is_held_is_in_use(going_on, tmp_path):
    path, other = going_on([row(0)]), going_on([row(0)], seed=2)
    with RunDirectory(path).lock():
        held = {run.path: run.in_use for run in unfinished([tmp_path])}
    assert held == {path: True, other: False}
    assert not any(run.in_use for run in unfinished([tmp_path]))


def test_finished_and_half_made_runs_are_no_unfinished_ones(going_on, make_record, tmp_path):
    path = going_on([row(0)])
    (going_on([row(0)], model="VBPR") / "result.json").write_text("{}")
    (going_on([row(0)], seed=3) / "config.json").write_text('{"model"')
    assert [run.path for run in unfinished([tmp_path])] == [path]
    shutil.rmtree(tmp_path / "results" / "toy" / "VBPR")
    make_record("A", [0.1, 0.2]).save(tmp_path / "kept")
    finished, others = finished_and_not([tmp_path], Wanted(datasets=["TOY"]))
    assert [record.model for record in finished] == ["A"] and [run.model for run in others] == ["BPR"]
    assert finished_and_not([tmp_path], Wanted(["bpr"], ["toy"]))[0] == []
    assert finished_and_not([tmp_path], Wanted(datasets=["other"])) == ([], [])


# when it ends


class Clock:
    """Time that passes only in sleep(), at whose end `at` may change what there is to read."""

    def __init__(self, at=lambda time: None):
        self.now, self.at = NOW, at

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.at(self.now - NOW)


def test_the_page_is_written_until_nothing_has_changed_for_a_while(going_on, tmp_path):
    path = going_on([row(0)])

    def run_goes_on(passed: float) -> None:
        os.utime(path / "metrics.jsonl", (NOW + min(passed, 200), NOW + min(passed, 200)))

    for file in path.iterdir():
        os.utime(file, (NOW, NOW))
    states = list(until_they_end(lambda: finished_and_not([tmp_path], Wanted(datasets=["toy"])), 10, Clock(run_goes_on)))
    assert [live.seconds for _, live in states[:-1]] == [10] * (len(states) - 1)
    last = states[-1][1]
    assert last.seconds is None and last.runs[0].state(last.written) == STOPPED
    assert last.written - NOW == 200 + QUIET


def test_it_waits_for_the_first_run(tmp_path, going_on):
    clock = Clock(lambda passed: going_on([row(0)]) if passed == 5000 else None)
    states = until_they_end(lambda: finished_and_not([tmp_path], Wanted(datasets=["toy"])), 1000, clock)
    assert [len(live.runs) for _, live in (next(states) for _ in range(6))] == [0, 0, 0, 0, 0, 1]


# the page


def live(path: Path, seconds: int | None = 10) -> Live:
    runs = unfinished([path])
    return Live(runs, max((run.changed for run in runs), default=NOW) + 1, seconds)


@pytest.fixture
def pages():
    return LivePage("toy", [], None, ["recall@20"])


def test_before_any_run_has_finished_there_is_a_page(going_on, pages, tmp_path):
    text = pages.page([], Live([], NOW, 10))
    assert "No run has finished yet." in text and "no run is unfinished" in text and Page(text).curves == []
    going_on([row(0, 0.1), row(1, 0.3)])
    page = Page(pages.page([], live(tmp_path)))
    assert page.texts["h2"] == ["Unfinished runs", "Training"]
    (curve,) = page.curves
    assert curve["label"] == "BPR seed 1 (unfinished)" and curve["valid"] == [0.1, 0.3] and curve["best"] == 1
    there = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert "run-0" in there and {link["href"][1:] for link in page.attributes("a")} <= there


def test_it_reads_itself_anew_and_says_when_it_was_written(going_on, pages, tmp_path):
    going_on([row(0, 0.1)])
    going_on([row(0, 0.1)], seed=2, log=TRACEBACK)
    state = live(tmp_path)
    page = Page(pages.page([], state))
    assert page.attributes("html")[0]["data-reload"] == "10"
    assert [one["content"] for one in page.attributes("meta") if one.get("http-equiv") == "refresh"] == ["10"]
    assert page.texts["p"][0].startswith(f"Written {state.stamp}: 1 run goes on, 1 run failed. The page reads itself anew")
    ended = Page(pages.page([], replace(state, seconds=None)))
    assert "data-reload" not in ended.attributes("html")[0] and "does not change any more" in ended.texts["p"][0]
    assert not [one for one in ended.attributes("meta") if one.get("http-equiv") == "refresh"]


def test_what_finished_runs_say_is_found_again_when_one_more_has_finished(make_record, pages, monkeypatch):
    calls = []
    from mambarec.analysis import html

    found = html.answer
    monkeypatch.setattr(html, "answer", lambda records, *more: calls.append(len(records)) or found(records, *more))
    records = [make_record("A", [0.1, 0.2]), make_record("B", [0.2, 0.3])]
    for n in (1, 1, 2, 2):
        text = pages.page(records[:n], Live([], NOW, 10))
    assert calls == [1, 2] and "Models by Recall@20" in text


@pytest.mark.parametrize("reference", ["B", "b"])
def test_a_reference_that_has_not_finished_is_waited_for(make_record, reference):
    pages = LivePage("toy", [], reference, ["recall@20"])
    a, b = make_record("A", [0.1, 0.2] * 20), make_record("B", [0.2, 0.3] * 20)
    assert "Only A has finished runs" in pages.page([a], Live([], NOW, 10))
    assert "B is ahead of A." in pages.page([a, b], Live([], NOW, 10))


def test_failed_runs_of_one_kind_are_one_line_and_texts_are_no_markup(going_on, pages, tmp_path):
    for i, model in enumerate(["BPR", "VBPR", "<script>"]):
        going_on([], model=model, log=TRACEBACK.format(i), learner=INJECTED)
    going_on([], model="MGCN", log=TRACEBACK.replace("ValueError", "OSError").format("<i>"), learner="adam")
    page = Page(pages.page([], live(tmp_path)))
    assert sorted(page.texts["li"]) == [
        "3 runs (<script> seed 1, BPR seed 1, VBPR seed 1), the first of them: ValueError: no 2",
        "MGCN seed 1: OSError: no <i>",
    ]
    assert len(page.attributes("script")) == 2


# the command line


def test_the_command_writes_the_page_until_the_runs_have_ended(make_run, monkeypatch, capsys):
    path = make_run("BPR")
    results = path.parents[2]
    capsys.readouterr()
    clock = Clock()
    monkeypatch.setattr("mambarec.analysis.live.until_they_end.__defaults__", (clock,))
    assert program.main(["html", "--live", "20", "-d", "toy", "--results", str(results)]) == 0
    assert clock.now - NOW == QUIET
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{results / 'toy' / 'report.html'}" and out[-1] == "the runs have ended; this page is the last one"
    assert "does not change any more" in Path(out[0]).read_text(encoding="utf-8")


@pytest.mark.slow
def test_ctrl_c_leaves_a_page_that_no_longer_reads_itself(make_run):
    results = make_run("BPR").parents[2]
    command = [sys.executable, "report.py", "html", "--live", "1", "-d", "toy", "--results", str(results)]
    with subprocess.Popen(command, cwd=SRC, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "report.html" in process.stdout.readline() and "until Ctrl-C" in process.stdout.readline()
        assert 'data-reload="1"' in (results / "toy" / "report.html").read_text(encoding="utf-8")
        process.send_signal(signal.SIGINT)
        assert "holds the last state" in process.stderr.read() and process.wait() == 130
    assert "data-reload" not in (results / "toy" / "report.html").read_text(encoding="utf-8")
    assert not list(results.rglob("*.tmp"))


def plan(name: str, runs, place: Path, purpose: str = "comparison", finished: str | None = None) -> None:
    """Write down an experiment with these runs, given at a time that is its name."""
    trials = [trial_name(run) for run in runs]
    parts = [trial.split("/") for trial in trials]
    models, datasets = list({model for _, model, _ in parts}), list({dataset for dataset, *_ in parts})
    Experiment(name, purpose, models, datasets, {}, {}, [1], {}, {}, "", given=name, finished=finished, trials=trials).save(
        place
    )


def test_a_live_page_shows_the_experiment_that_goes_on_and_what_is_being_trained(going_on, make_run, tmp_path):
    place = tmp_path / "results"
    smoke, first = make_run("BPR", epochs=1), make_run("BPR")
    done = make_run("LightGCN")
    mine, other, old = going_on([row(0)], seed=5), going_on([row(0)], "VBPR", seed=6), going_on([row(0)], "VBPR", seed=7)
    plan("1", [first], place, finished="now")
    plan("2", [done, mine], place)
    plan("3", [smoke], place, "study ablation", finished="now")

    def shown(**wanted) -> list[Path]:
        finished, others = finished_and_not([place], Wanted(datasets=["toy"], **wanted))
        return sorted([record.source for record in finished] + [run.path for run in others])

    with RunDirectory(other).lock():
        assert shown() == sorted([done, mine, other])
        assert shown(experiments=["1"]) == sorted([first, other])
        assert shown(everything=True, studies=True) == sorted([smoke, first, done, mine, other, old])
        assert smoke not in shown(everything=True)
        assert shown(everything=True, studies=True, models=["bpr"], where=["epochs=1"]) == [smoke]
    plan("2", [done, mine], place, finished="now")
    assert shown() == sorted([done, mine])
    plan("0", [old], place)  # of which a run failed long ago
    assert shown() == sorted([done, mine])
    with pytest.raises(RunError, match="--experiment x: there is none of this name"):
        shown(experiments=["x"])


def test_finished_runs_that_cannot_be_compared_yet_do_not_end_a_live_page(make_record, going_on, pages, tmp_path):
    going_on([row(0, 0.1)])
    records = [make_record("A", [0.1, 0.2], seed=1), make_record("B", [0.2, 0.3], seed=2)]
    text = pages.page(records, live(tmp_path))
    assert "The finished runs cannot be compared yet: the rows of toy have no seed in common" in text
    assert "BPR seed 1 (unfinished)" in text
    assert "Models by Recall@20" in pages.page([*records, make_record("B", [0.2, 0.3], seed=1)], live(tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--live shows one data set; name it with -d"),
        (["-d", "toy", "demo"], "--live shows one data set; name it with -d"),
        (["-d", "toy", "--results", "/nowhere"], "/nowhere does not exist"),
    ],
)
def test_mistakes_are_said(words, message, capsys):
    assert program.main(["html", "--live", *words]) == 2
    assert message in capsys.readouterr().err
