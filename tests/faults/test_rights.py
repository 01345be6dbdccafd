"""Rights, links and folders in the wrong place: one line with the path and what to do, from every command."""

import os
import shutil
from pathlib import Path

import pytest

from faults.harness import TALLY, WHOLE, Befalls, call, lose_power_over_rights, sample

AS_USER = Befalls(as_user=True)


@pytest.fixture
def finished(words, configs, tmp_path):
    """The directory of a finished run in tmp_path/results."""
    assert call("main", words(), configs, tmp_path).status == 0
    (path,) = (tmp_path / "results" / "toy" / "BPR").glob("seed*")
    return path


def locked(path):
    path.chmod(0)


def read_only(path):
    path.chmod(0o555 if path.is_dir() else 0o444)


def looped(path):
    remove(path)
    path.symlink_to(path.name)


def a_file(path):
    remove(path)
    path.write_text("a file")


def a_folder(path):
    remove(path)
    (path / "within").mkdir(parents=True)


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def restored(path, kept):
    """Put a path back as it was, from its copy `kept`, None where there was nothing."""
    if path.exists() and not path.is_symlink():
        path.chmod(0o755)
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o755)
    remove(path)
    if kept is not None:
        (shutil.copytree if kept.is_dir() else shutil.copy2)(kept, path)


FILES = ["config.json", "environment.json", "metrics.jsonl", "best.pt", "per_user.npz", "topk.npz", "result.json"]
FILES += ["manifest.json", "checkpoint.pt", "train.log", ".lock"]
PLACES = ["results", "results/toy", "results/toy/BPR", "run", "data", "data/toy", "data/toy/toy.inter", "configs/dataset"]
PLACES += ["configs/dataset/toy.yaml", "configs/model/BPR.yaml", "configs/overall.yaml", "configs/model", "out", "out/file"]
PLACES += [f"run/{name}" for name in FILES]
WRONGS = [locked, read_only, looped, a_file, a_folder]
COMMANDS = {
    "training": ("main", None),
    "resumed training": ("main", "--resume"),
    "restart": ("main", "--restart"),
    "grid": ("main", "grid"),
    "table": ("report", ["table", "--results", "{results}"]),
    "table into a file": ("report", ["table", "--results", "{results}", "--output", "{out}"]),
    "page": ("report", ["html", "--results", "{results}", "-d", "toy", "--output", "{out}"]),
    "records": ("report", ["records", "--results", "{results}", "--output", "{folder}"]),
    "breakdown": ("report", ["breakdown", "--results", "{results}", "-d", "toy", "--output", "{folder}"]),
    "lists": ("recommend", ["--run", "{run}", "--output", "{out}"]),
    "export": ("recommend", ["export", "--run", "{run}", "--output", "{out}"]),
    "check": ("prepare", ["check", "-d", "toy", "--data_path", "{data}"]),
}
CASES = [(command, place, wrong) for command in COMMANDS for place in PLACES for wrong in WRONGS]


def test_a_path_that_cannot_be_used_is_said_with_what_to_do(words, configs, toy, tmp_path, finished):
    """In a grid a trial of two fails at most, and the table is there."""
    results, out = tmp_path / "results", tmp_path / "out"
    out.mkdir()
    (out / "file").write_text("old")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished, unfinished)
    (unfinished / "result.json").unlink()
    places = {"results": results, "out": out / "file", "folder": out, "run": finished, "data": toy.parent}
    for number in sample(range(len(CASES)), 400 if WHOLE else 8, seed=3, always=True):
        command, place, wrong = CASES[number]
        door, line = COMMANDS[command]
        if door == "main":
            grid = {"reg_weight": [0.02, 0.1]} if line == "grid" else {}
            line = [*words(**grid), *([line] if line and not grid else [])]
        path = finished / place.removeprefix("run").lstrip("/") if place.startswith("run") else tmp_path / place
        if command in ("resumed training", "grid"):
            restored(finished, unfinished)
        kept = tmp_path / "kept"
        remove(kept)
        if path.exists():
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, kept)
        wrong(path) if path.exists() or wrong not in (locked, read_only) else None
        ending = call(door, [str(word).format(**places) for word in line], configs, tmp_path, AS_USER)
        restored(path, kept if kept.exists() else None)
        if command in ("resumed training", "restart", "grid", "training"):
            shutil.rmtree(results, ignore_errors=True)
            assert call("main", words(), configs, tmp_path).status == 0
        found = command == "check" and ending.status == 1 and "wrong: " in ending.out and not ending.err
        well = found or (ending.is_explained and (ending.status != 0 or "error" not in ending.err))
        TALLY.count("path that cannot be used", well, (command, place, wrong.__name__, ending))


def test_a_preparation_into_places_that_cannot_be_used_is_said(configs, tmp_path):
    pytest.importorskip("duckdb", reason="needs the extra prepare")
    table = tmp_path / "visits.csv"
    table.write_text("user,item\n" + "".join(f"u{user},i{item}\n" for user in range(9) for item in range(9) if user != item))
    data, yaml = tmp_path / "data", configs / "dataset" / "mine.yaml"
    columns = ("--user-column", "user", "--item-column", "item")
    line = ["table", "-d", "mine", "--data_path", data, "--interactions", table, *columns]
    cases = [(path, wrong) for path in (data, data / "mine", yaml, yaml.parent, table) for wrong in WRONGS]
    for number in sample(range(len(cases)), 5, seed=1):
        path, wrong = cases[number]
        remove(data)
        data.mkdir()
        (data / "mine").mkdir()
        yaml.write_text("")
        kept = tmp_path / "kept"
        remove(kept)
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, kept)
        wrong(path)
        ending = call("prepare", [*line, "--overwrite"], configs, tmp_path, AS_USER)
        restored(path, kept)
        TALLY.count("preparation into a place that cannot be used", ending.is_explained, (path, wrong, ending))


def test_a_read_only_file_system_is_said(words, configs, disk, finished, tmp_path):
    disk.resize(4096, read_only=True)
    for door, line in (
        ("main", words(disk.place / "results")),
        ("main", words(disk.place / "results", reg_weight=[0.1, 0.2])),
        ("report", ["table", "--results", tmp_path / "results", "--output", disk.place / "table.txt"]),
        ("recommend", ["--run", finished, "--output", disk.place / "lists.csv"]),
    ):
        ending = call(door, line, configs, tmp_path)
        well = ending.is_explained and ending.status in (1, 2) and str(disk.place) in ending.err
        TALLY.count("read-only file system", well, ending)


def test_rights_hold_for_a_command_that_gave_up_its_power(tmp_path):
    """The harness itself: without it, root would read what the tests have locked."""
    locked_file = tmp_path / "locked"
    locked_file.write_text("secret")
    locked_file.chmod(0)
    process = os.fork()
    if not process:
        lose_power_over_rights()
        try:
            locked_file.read_text()
        except PermissionError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7


LOOPS = [
    ("main", ["-m", "BPR", "-d", "toy", "--data_path", "{loop}"]),
    ("main", ["-m", "BPR", "-d", "toy", "--results_dir", "{loop}", "--data_path", "{data}"]),
    ("main", ["-m", "BPR", "-d", "toy", "--model-path", "{loop}"]),
    (
        "prepare",
        [
            "table",
            "-d",
            "mine",
            "--data_path",
            "{loop}",
            "--interactions",
            "{table}",
            *"--user-column u --item-column i".split(),
        ],
    ),
    (
        "prepare",
        [
            "table",
            "-d",
            "mine",
            "--data_path",
            "{data}",
            "--interactions",
            "{loop}",
            *"--user-column u --item-column i".split(),
        ],
    ),
    ("report", ["table", "--results", "{loop}"]),
    ("recommend", ["--run", "{loop}"]),
    ("export_plugin", ["{loop}"]),
]


@pytest.mark.parametrize(("door", "line"), LOOPS)
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_loop_of_links_is_said_at_every_door(door, line, below, configs, toy, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "table.csv").write_text("u,i\n1,2\n")
    places = {"loop": f"{tmp_path / 'loop'}{below}", "data": toy.parent, "table": tmp_path / "table.csv"}
    ending = call(door, [word.format(**places) for word in line], configs, tmp_path)
    well = ending.status == 2 and ending.is_explained and str(tmp_path / "loop") in ending.err
    TALLY.count("loop of links", well, (door, line, ending))


@pytest.mark.parametrize("form", ["npz", "faiss"])
def test_vectors_can_be_written_to_no_file(form, configs, finished, tmp_path):
    for output, status in (("/dev/null", 0), ("", 2)):
        ending = call("recommend", ["export", "--run", finished, "--format", form, "--output", output], configs, tmp_path)
        if "pip install" in ending.err:
            pytest.skip("an extra is not installed")
        assert ending.is_explained and (form == "faiss" or ending.status == status), ending
