"""Damaged and hostile runs: every file of a run's directory, compact records, the cache of neighbours."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given

import mambarec.nn.neighbours as neighbours
from faults.fuzzing import accepts, changed, fuzz, mutated, unlisted
from mambarec.analysis.breakdown import by_user_activity
from mambarec.analysis.comparison import compare
from mambarec.analysis.html import report
from mambarec.analysis.records import Record, load_records
from mambarec.analysis.tables import rendered
from mambarec.cli import report as program
from mambarec.experiments.experiment import plan_experiment
from mambarec.running.directory import RunDirectory, trial_name
from mambarec.running.run import run
from mambarec.running.trained import load_trained

ARCHIVES = ("per_user.npz", "topk.npz")
TEXTS = ("result.json", "config.json", "environment.json", "metrics.jsonl")


def archive(arrays: dict) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def finished(make_run):
    return unlisted(make_run("BPR"))


def read(path):
    """What the programs do with a finished run."""
    records = load_records([path])
    comparison = compare(records)
    assert rendered(comparison, "text") and rendered(comparison, "csv") and report(records)
    by_user_activity([path])
    load_trained(path).lists()


@pytest.mark.parametrize("name", [*ARCHIVES, *TEXTS, "best.pt"])
def test_damaged_bytes_of_a_run_are_refused_or_read(finished, name):
    path = finished / name

    @fuzz(6)
    @given(mutated(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        accepts(f"{name}, bytes", lambda: read(finished))

    check()


@pytest.mark.parametrize("name", TEXTS)
def test_other_values_of_a_run_are_refused_or_read(finished, name):
    path = finished / name
    lines = [json.loads(line) for line in path.read_text().splitlines()] if name == "metrics.jsonl" else None
    content = lines if lines is not None else json.loads(path.read_text())

    @fuzz(8)
    @given(changed(content))
    def check(value):
        if lines is not None and isinstance(value, list):
            path.write_text("".join(json.dumps(one) + "\n" for one in value))
        else:
            path.write_text(json.dumps(value))
        accepts(f"{name}, values", lambda: read(finished))

    check()


@pytest.mark.parametrize("name", ["best.pt", "checkpoint.pt"])
def test_other_values_of_a_checkpoint_are_refused_or_used(finished, make_config, name):
    path = finished / name
    state = torch.load(path, weights_only=True)

    @fuzz(8)
    @given(changed(state))
    def check(value):
        torch.save(value, path)
        if name == "best.pt":
            accepts("best.pt, values", lambda: read(finished))
        else:
            (finished / "result.json").unlink(missing_ok=True)
            accepts("checkpoint.pt, values", lambda: run(make_config("BPR"), resume=True))

    check()


def test_damaged_bytes_of_a_checkpoint_are_refused_or_used(finished, make_config):
    path = finished / "checkpoint.pt"

    @fuzz(8)
    @given(mutated(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        (finished / "result.json").unlink(missing_ok=True)
        accepts("checkpoint.pt, bytes", lambda: run(make_config("BPR"), resume=True))

    check()


@pytest.mark.parametrize("form", ["bytes", "values"])
def test_a_damaged_record_is_refused_or_read(finished, tmp_path, form):
    path = Record.of_run(finished).save(tmp_path / "records")
    with np.load(path) as stored:
        arrays = dict(stored)
    text = json.loads(arrays["json"].tobytes())

    def with_text(value) -> bytes:
        return archive({**arrays, "json": np.frombuffer(json.dumps(value).encode(), np.uint8)})

    @fuzz(12)
    @given(mutated(path.read_bytes()) if form == "bytes" else changed(text).map(with_text))
    def check(content):
        path.write_bytes(content)

        def work():
            records = load_records([path])
            comparison = compare(records)
            assert rendered(comparison, "latex") and rendered(comparison, "markdown") and report(records)
            saved = records[0].save(tmp_path / "again")
            assert tmp_path / "again" in saved.resolve().parents

        accepts(f"record, {form}", work)

    check()


def test_damaged_neighbours_are_found_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "_KEPT_ABOVE", 0)
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    with neighbours.neighbour_search(tmp_path):
        expected = neighbours.nearest_neighbours(features, 5)
    (path,) = tmp_path.glob("*.npz")

    @fuzz(20)
    @given(mutated(path.read_bytes()))
    def check(content):
        path.write_bytes(content)

        def work():
            with neighbours.neighbour_search(tmp_path):
                found = neighbours.nearest_neighbours(features, 5)
            assert all(map(torch.equal, found, expected))

        accepts("neighbours", work)

    check()


def test_a_damaged_log_of_epochs_stops_no_plan(finished):
    path = finished / "metrics.jsonl"

    @fuzz(20)
    @given(mutated(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        accepts("metrics.jsonl", lambda: RunDirectory(finished).metrics())

    check()


def test_other_values_of_a_plan_are_refused_or_read(finished, make_config, capsys):
    place = finished.parents[2]
    configs = [make_config("BPR", seed=seed) for seed in (999, 1)]
    plan_experiment(None, "comparison", configs, [finished, finished.with_name("seed1-0000000000")], {"epochs": 2}).save(place)
    (path,) = (place / "experiments").glob("*.json")
    content = json.loads(path.read_text()) | {"trials": [trial_name(finished)]}

    @fuzz(30)
    @given(changed(content))
    def check(value):
        path.write_text(json.dumps(value))
        for words in (["experiments", "-m", "BPR"], ["table", "--experiment", path.stem]):
            accepts("plan, values", lambda words=words: program.main([*words, "--results", str(place)]))

    check()


def test_other_settings_of_a_run_are_refused_or_listed(finished):
    path = finished / "config.json"

    @fuzz(30)
    @given(changed(json.loads(path.read_text())))
    def check(value):
        path.write_text(json.dumps(value))
        for words in (["runs"], ["runs", "-m", "BPR", "--where", "epochs=2"]):
            accepts("runs, values", lambda words=words: program.main([*words, "--results", str(finished.parents[2])]))

    check()
