"""Killed at any step, a training, a restart, a preparation or an output leaves what was there, or what was to come."""

import shutil

import numpy as np
import pandas as pd
import pytest

from faults.harness import TALLY, Befalls, call, contents, quick, sample
from mambarec.config.configurator import Config
from mambarec.running.directory import RunDirectory, same_result

KILLED = -9


def run_of(results):
    (path,) = (results / "toy" / "BPR").glob("seed*")
    return path


@pytest.fixture
def undisturbed(words, configs, tmp_path):
    """The directory of a run that nothing disturbed."""
    assert call("main", words(tmp_path / "undisturbed"), configs, tmp_path).status == 0
    return run_of(tmp_path / "undisturbed")


def test_a_training_killed_at_any_step_resumes_to_the_same_bits(words, configs, tmp_path, undisturbed):
    results = tmp_path / "killed"
    steps = call("main", words(results), configs, results).steps
    for step in sample(range(1, steps + 1), 5):
        shutil.rmtree(results)
        assert call("main", words(results), configs, results, Befalls(step=step)).status == KILLED
        again = call("main", [*words(results), "--resume"], configs, results)
        path = run_of(results)
        well = again.status == 0 and same_result(path, undisturbed) == [] and not list(path.glob("*.tmp"))
        TALLY.count("training killed before a step", well, (step, again))


def test_a_training_killed_within_a_write_resumes_to_the_same_bits(words, configs, tmp_path, undisturbed):
    results = tmp_path / "killed"
    largest = max(path.stat().st_size for path in undisturbed.iterdir())
    for size in sample(range(0, largest - 500, 97), 3):  # a checkpoint is some bytes longer or shorter each time
        shutil.rmtree(results, ignore_errors=True)
        assert call("main", words(results), configs, results, Befalls(size=size)).status < 0
        again = call("main", [*words(results), "--resume"], configs, results)
        well = again.status == 0 and same_result(run_of(results), undisturbed) == []
        TALLY.count("training killed within a write", well, (size, again))


def test_a_restart_killed_at_any_step_leaves_the_old_run_or_ends_as_the_new_one(words, configs, tmp_path, undisturbed):
    """The old run has other figures, so that a mixture shows, and a checkpoint that fits: it differs in the loss alone."""
    other = tmp_path / "other"
    assert call("main", words(other, reg_weight=10.0), configs, other).status == 0
    old, results = run_of(other), tmp_path / "killed"
    place = results / "toy" / "BPR" / undisturbed.name

    def start():
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(old, place)

    start()
    steps = call("main", [*words(results), "--restart"], configs, results).steps
    for step in sample(range(1, steps + 1), 5):
        start()
        assert call("main", [*words(results), "--restart"], configs, results, Befalls(step=step)).status == KILLED
        again = call("main", [*words(results), "--resume"], configs, results)
        well = again.status == 0 and (same_result(place, undisturbed) == [] or same_result(place, old) == [])
        TALLY.count("restart killed before a step", well, (step, again))


def test_an_interrupted_training_says_so_and_resumes_to_the_same_bits(words, configs, tmp_path, undisturbed):
    results = tmp_path / "interrupted"
    steps = call("main", words(results), configs, results).steps
    for step in sample(range(1, steps + 1), 4):
        shutil.rmtree(results)
        ending = call("main", words(results), configs, results, Befalls(step=step, interrupt=True))
        again = call("main", [*words(results), "--resume"], configs, results)
        well = ending.is_explained and again.status == 0 and same_result(run_of(results), undisturbed) == []
        TALLY.count("training interrupted at a step", well, (step, ending))


def test_two_processes_on_one_run_leave_one_run(words, configs, tmp_path, undisturbed):
    from concurrent.futures import ThreadPoolExecutor

    results = tmp_path / "two"
    for first, second in ((), ("--restart",)), (("--restart",), ()), ((), ()), (("--resume",), ("--restart",)):
        shutil.rmtree(results, ignore_errors=True)
        with ThreadPoolExecutor(2) as both:
            endings = list(
                both.map(lambda more: call("main", [*words(results), *more], configs, results), (list(first), list(second)))
            )
        well = same_result(run_of(results), undisturbed) == [] and all(one.is_explained for one in endings)
        TALLY.count("two processes on one run", well and 0 in [one.status for one in endings], endings)


# preparation


@pytest.fixture
def table(tmp_path):
    """table(seed) -> the words of `prepare.py table` for visits that differ by the seed."""
    pytest.importorskip("duckdb", reason="needs the extra prepare")

    def make(seed, *more):
        rng = np.random.default_rng(seed)
        visits = [(f"user {user}", f"item {item}", 5.0) for user in range(20) for item in rng.permutation(20)[:8]]
        path = tmp_path / f"visits{seed}.csv"
        pd.DataFrame(visits, columns=["user", "item", "rating"]).to_csv(path, index=False)
        columns = ("--user-column", "user", "--item-column", "item")
        places = ("-d", "mine", "--data_path", tmp_path / "data")
        return ["table", *places, "--interactions", path, *columns, "--k-core", 2, "--threads", 1, *more]

    return make


def test_an_overwriting_preparation_killed_at_any_step_leaves_the_old_data_or_the_new(table, configs, tmp_path):
    folder = tmp_path / "data" / "mine"
    _killed_preparations(table, configs, tmp_path, folder, "data set overwritten, killed before a step", "prepare")


@pytest.mark.slow
def test_the_same_where_the_system_cannot_exchange_folders(table, configs, tmp_path):
    folder = tmp_path / "data" / "mine"
    kind = "data set overwritten without exchange, killed before a step"
    _killed_preparations(table, configs, tmp_path, folder, kind, "faults.without_exchange")


def _killed_preparations(table, configs, tmp_path, folder, kind, door):
    def end(seed, *more, step=None):
        return call(door, table(seed, *more), configs, tmp_path, Befalls(step))

    assert end(1).status == 0
    old = contents(folder, but=["report.json"])
    whole = end(2, "--overwrite")
    assert whole.status == 0
    new = contents(folder, but=["report.json"])
    for step in sample(range(1, whole.steps + 1), 4):
        assert end(1, "--overwrite").status == 0
        assert end(2, "--overwrite", step=step).status == KILLED
        if door == "prepare":
            well = contents(folder, but=["report.json"]) in (old, new)
        else:
            end(2)  # without --overwrite: puts back what a kill left beside its place, or makes it
            well = folder.exists() and contents(folder, but=["report.json"]) in (old, new)
        well = well and end(2, "--overwrite").status == 0 and contents(folder, but=["report.json"]) == new
        TALLY.count(kind, well and not list(folder.parent.glob(".mine*")), step)


def test_a_preparation_killed_at_any_step_is_done_or_can_be_done_again(table, configs, tmp_path):
    folder, yaml = tmp_path / "data" / "mine", configs / "dataset" / "mine.yaml"
    whole = call("prepare", table(1), configs, tmp_path)
    new = contents(folder, but=["report.json"])
    for step in sample(range(1, whole.steps + 1), 4):
        shutil.rmtree(folder)
        yaml.unlink()
        assert call("prepare", table(1), configs, tmp_path, Befalls(step=step)).status == KILLED
        if folder.exists():  # complete, and training knows it
            well = Config("BPR", "mine")["inter_file_name"] == "mine.inter"
        else:
            well = call("prepare", table(1), configs, tmp_path).status == 0
        well = well and contents(folder, but=["report.json"]) == new
        TALLY.count("preparation killed before a step", well and yaml.exists(), step)
        yaml.touch()


def test_an_interrupted_preparation_says_so(table, configs, tmp_path):
    whole = call("prepare", table(1), configs, tmp_path)
    for step in sample(range(1, whole.steps + 1), 4):
        ending = call("prepare", table(2, "--overwrite"), configs, tmp_path, Befalls(step=step, interrupt=True))
        TALLY.count("preparation interrupted at a step", ending.is_explained, (step, ending))


# what else is written


OUTPUTS = [
    ("report", ["html", "--results", "{results}", "-d", "toy", "--output", "{out}"], "page.html"),
    ("report", ["table", "--results", "{results}", "--output", "{out}"], "table.txt"),
    ("report", ["records", "--results", "{results}", "--output", "{folder}"], "toy/BPR-{run}.record.npz"),
    ("recommend", ["--run", "{path}", "--output", "{out}"], "lists.csv"),
    ("recommend", ["--run", "{path}", "--format", "parquet", "--output", "{out}"], "lists.parquet"),
    ("recommend", ["export", "--run", "{path}", "--format", "npz", "--output", "{out}"], "vectors.npz"),
    ("recommend", ["export", "--run", "{path}", "--format", "faiss", "--output", "{out}"], "items.faiss"),
]


@pytest.mark.parametrize(("door", "command", "name"), quick(OUTPUTS, 1, 3))
def test_an_output_killed_at_any_step_is_the_old_file_or_the_new(door, command, name, configs, tmp_path, undisturbed):
    folder = tmp_path / "out"
    output = folder / name.format(run=undisturbed.name)
    places = {"results": tmp_path / "undisturbed", "out": output, "folder": folder, "path": undisturbed}
    line = [word.format(**places) for word in command]
    output.parent.mkdir(parents=True)
    output.write_text("old")
    whole = call(door, line, configs, folder)
    if "is not installed" in whole.err or "pip install" in whole.err:
        pytest.skip("an extra is not installed")
    assert whole.status == 0, whole
    new = output.read_bytes()
    for step in sample(range(1, whole.steps + 1), 2):
        output.write_text("old")
        assert call(door, line, configs, folder, Befalls(step=step)).status == KILLED
        well = output.read_bytes() in (b"old", new)
        well = well and call(door, line, configs, folder).status == 0 and output.read_bytes() == new
        TALLY.count("output killed before a step", well and not list(folder.rglob("*.tmp")), (step, name))


def test_checkpoints_of_a_killed_training_are_two(words, configs, tmp_path):
    results = tmp_path / "results"
    steps = call("main", words(results, epochs=3), configs, results).steps
    shutil.rmtree(results)
    call("main", words(results, epochs=3), configs, results, Befalls(step=steps - 4))
    directory = RunDirectory(run_of(results))
    assert directory.is_stopped and directory.file("checkpoint.older.pt").exists()
