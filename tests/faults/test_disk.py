"""On a disk that is full, from nothing to enough, a command ends with one line and keeps what was there."""

import shutil

import numpy as np
import pandas as pd
import pytest

from faults.harness import TALLY, WHOLE, Befalls, call, contents, quick, sample
from mambarec.running.directory import same_result


def run_of(results):
    (path,) = (results / "toy" / "BPR").glob("seed*")
    return path


def rooms(needed: int, few: int, always: bool = False) -> list[int]:
    """Sizes of a disk in KB, from 0 to almost `needed`, by pages of memory."""
    return sample(range(0, needed, 4), few, always=always)


@pytest.fixture
def undisturbed(words, configs, tmp_path):
    assert call("main", words(tmp_path / "undisturbed"), configs, tmp_path).status == 0
    return run_of(tmp_path / "undisturbed")


def test_a_training_on_a_full_disk_says_so_and_resumes_to_the_same_bits(words, configs, disk, tmp_path, undisturbed):
    results = disk.place / "results"
    call("main", words(results), configs, results)
    needed = disk.used
    for room in rooms(needed, 4):
        shutil.rmtree(results, ignore_errors=True)
        disk.resize(room)
        ending = call("main", words(results), configs, results)
        disk.resize(65536)
        again = call("main", [*words(results), "--resume"], configs, results)
        well = ending.is_explained and str(disk.place) in ending.err + again.out and again.status == 0
        well = well and (ending.status in (0, 2)) and same_result(run_of(results), undisturbed) == []
        TALLY.count("training on a full disk", well, (room, ending, again))


TPE = ["--search-budget", "3", "--sampler", "tpe"]


@pytest.mark.parametrize("more", [[], *(pytest.param(more, marks=pytest.mark.slow) for more in (TPE, ["--jobs", "2"]))])
def test_a_grid_on_a_full_disk_tries_every_trial_and_lists_those_that_failed(words, configs, disk, more):
    results, workers = disk.place / "results", Befalls(workers="--jobs" in more)
    line = [*words(results, reg_weight=[0.1, 0.2, 0.3]), *more]
    call("main", line, configs, results)
    needed = disk.used
    few = (20 if WHOLE else 2) if more == TPE else (10 if WHOLE else 1)
    for room in rooms(needed, few, always=True) if more else rooms(needed, 3):
        shutil.rmtree(results, ignore_errors=True)
        disk.resize(room)
        ending = call("main", line, configs, results, workers)
        disk.resize(65536)
        well = ending.is_explained and ending.status in (0, 1)
        if ending.status:
            well = well and "of 3 trials failed" in ending.err and "reg_weight=" in ending.err
        well = well and "seeds  validation" in ending.out
        again = call("main", line, configs, results)
        TALLY.count("grid on a full disk", well and again.status == 0, (room, ending, again))


@pytest.fixture
def dump(tmp_path):
    """The words of `prepare.py amazon` for ratings with image features, without the place of the data."""
    pytest.importorskip("duckdb", reason="needs the extra prepare")
    rng = np.random.default_rng(0)
    rows = [(f"U{user}", f"B{item:09}", 5.0, 1) for user in range(20) for item in rng.permutation(20)[:8]]
    pd.DataFrame(rows).to_csv(tmp_path / "ratings.csv", index=False, header=False)
    record = np.dtype([("name", "S10"), ("feature", "<f4", 4096)])
    table = np.zeros(20, record)
    table["name"] = [f"B{item:09}" for item in range(20)]
    table["feature"] = rng.normal(size=(20, 4096))
    table.tofile(tmp_path / "features.b")
    files = ("--ratings", tmp_path / "ratings.csv", "--image-features", tmp_path / "features.b")
    return ["amazon", "-d", "mine", *files, "--k-core", 2, "--threads", 1]


def test_a_preparation_on_a_full_disk_says_so_and_keeps_the_old_data(dump, configs, disk):
    data = disk.place / "data"
    line = [*dump, "--data_path", data]
    assert call("prepare", line, configs, data).status == 0
    old, needed = contents(data, but=["report.json"]), disk.used
    for room in rooms(needed, 4):
        disk.resize(needed + room)
        ending = call("prepare", [*line, "--overwrite"], configs, data)
        well = ending.is_explained and ending.status in (0, 2) and contents(data, but=["report.json"]) == old
        TALLY.count("preparation on a full disk", well, (room, ending))
    disk.resize(65536)
    shutil.rmtree(data)
    for room in rooms(needed, 3):
        disk.resize(room)
        ending = call("prepare", line, configs, data)
        well = ending.is_explained and ending.status in (0, 2) and (ending.status == 0 or not (data / "mine").exists())
        TALLY.count("preparation on a full disk", well, (room, ending))


OUTPUTS = [
    ("report", ["html", "--results", "{results}", "-d", "toy", "--output", "{out}/page.html"]),
    ("report", ["table", "--results", "{results}", "--output", "{out}/table.txt"]),
    ("report", ["records", "--results", "{results}", "--output", "{out}"]),
    ("report", ["breakdown", "--results", "{results}", "-d", "toy", "--output", "{out}"]),
    ("recommend", ["--run", "{path}", "--output", "{out}/lists.csv"]),
    ("recommend", ["--run", "{path}", "--format", "jsonl", "--output", "{out}/lists.jsonl"]),
    ("recommend", ["--run", "{path}", "--format", "parquet", "--output", "{out}/lists.parquet"]),
    ("recommend", ["export", "--run", "{path}", "--output", "{out}/vectors.npz"]),
    ("recommend", ["export", "--run", "{path}", "--format", "faiss", "--output", "{out}/items.faiss"]),
]


@pytest.mark.parametrize(("door", "command"), quick(OUTPUTS, 0, 4, 8))
def test_an_output_on_a_full_disk_says_so_and_keeps_the_old_file(door, command, configs, disk, tmp_path, undisturbed):
    places = {"results": tmp_path / "undisturbed", "out": disk.place, "path": undisturbed}
    line = [word.format(**places) for word in command]
    whole = call(door, line, configs, disk.place)
    if "pip install" in whole.err:
        pytest.skip("an extra is not installed")
    assert whole.status == 0, whole
    old, needed = contents(disk.place), disk.used
    for room in rooms(needed, 2):
        disk.resize(needed + room)
        ending = call(door, line, configs, disk.place)
        well = ending.is_explained and ending.status in (0, 2) and contents(disk.place) == old
        well = well and (ending.status == 0 or str(disk.place) in ending.err)
        TALLY.count("output on a full disk", well, (room, ending))


def test_a_file_that_may_not_grow_is_said_for_every_size(words, configs, tmp_path, undisturbed):
    """Like a full disk, and can be tried by every user."""
    largest = max(path.stat().st_size for path in undisturbed.iterdir())
    results = tmp_path / "results"
    for size in sample(range(0, largest - 500, 211), 2):  # a checkpoint is some bytes longer or shorter each time
        shutil.rmtree(results, ignore_errors=True)
        ending = call("main", words(results), configs, results, Befalls(limit=size))
        again = call("main", [*words(results), "--resume"], configs, results)
        well = ending.status == 2 and ending.is_explained and again.status == 0
        well = well and same_result(run_of(results), undisturbed) == []
        TALLY.count("training with a limit of a file's size", well, (size, ending, again))


@pytest.mark.parametrize(
    ("door", "command"),
    [
        ("report", ["table", "--results", "{results}"]),
        ("report", ["records", "--results", "{results}", "--output", "{out}"]),
        ("recommend", ["--run", "{path}"]),
        ("recommend", ["--run", "{path}", "--format", "jsonl"]),
        ("recommend", ["similar", "--run", "{path}", "--item", "3"]),
        ("recommend", ["--help"]),
        ("prepare", ["check", "-d", "toy", "--data_path", "{data}"]),
    ],
)
def test_a_full_standard_output_is_said(door, command, configs, toy, tmp_path, undisturbed):
    places = {"results": tmp_path / "undisturbed", "out": tmp_path / "out", "path": undisturbed, "data": toy.parent}
    ending = call(door, [word.format(**places) for word in command], configs, tmp_path, Befalls(full=True))
    well = ending.status == 2 and "standard output: the disk is full" in ending.err and ending.is_explained
    TALLY.count("full standard output", well, ending)


@pytest.mark.parametrize("grid", [False, True])
def test_training_goes_on_without_its_console(words, configs, tmp_path, undisturbed, grid):
    results = tmp_path / "results"
    line = words(results, reg_weight=[0.02, 0.1]) if grid else words(results)
    ending = call("main", line, configs, results, Befalls(full=True, workers=WHOLE))
    well = ending.status == 2 and "standard output: the disk is full" in ending.err and ending.is_explained
    well = well and len(list(results.rglob("result.json"))) == 1 + grid
    TALLY.count("full standard output", well, ending)
