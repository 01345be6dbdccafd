"""What fuzzing found, each once as a case of its own: it was a traceback, a hang, a kill or a wrong result."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mambarec as mr
from faults.fuzzing import Late, accepts, unlisted
from faults.harness import call
from mambarec.analysis.live import unfinished
from mambarec.analysis.records import Record
from mambarec.base.bounded import read_arrays
from mambarec.base.errors import ConfigError, DataError, RunError, exit_status
from mambarec.base.files import write_text
from mambarec.cli import prepare
from mambarec.config.configurator import Config, override_pairs
from mambarec.config.yaml_files import parse_value, read_yaml
from mambarec.data.dataset import RecDataset
from mambarec.experiments.experiment import read_experiment
from mambarec.experiments.trials import prepare as trials_of
from mambarec.experiments.trials import run_trials
from mambarec.preparation.features.store import ImageStore
from mambarec.preparation.readers.lines import parse_record
from mambarec.running.directory import TABLE_FILES, RunDirectory
from mambarec.running.lookup import choose_run, find_runs, say_damaged
from mambarec.running.run import run
from mambarec.serving.writers import write_tables

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize(
    "word", ["2001-13-45", "9" * 5000, "[" * 400, pytest.param("[" * 1500, marks=pytest.mark.slow), "{? [1] : 2}", "&a [*a]"]
)
def test_a_word_that_yaml_cannot_make_a_value_of_is_a_word(word):
    assert parse_value(word) == word
    assert override_pairs(["--key", word]) == {"key": word}


@pytest.mark.parametrize("line", ["1: 2", "a: 2001-01-01", "a: !!binary AA==", "a: !!set {b}", "? [1]\n: 2", "a: 2001-13-45"])
def test_a_yaml_of_other_things_than_settings(tmp_path, line):
    (tmp_path / "x.yaml").write_text(line)
    with pytest.raises(ConfigError, match=r"x\.yaml is not valid YAML"):
        read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "values",
    [
        {"modalities": [[]]},
        {"audio_feature_file": [1]},
        {"clip_grad_norm": {"max_norm": 1, "foo": 1}},
        {"field_separator": "\n"},
        {"data_path": "a\0b"},
        {"epochs": 10**400},
        {"learning_rate": 10**400},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_value_of_another_kind_is_refused(make_config, values):
    with pytest.raises(ConfigError):
        make_config("MambaRec", **values)


@pytest.mark.parametrize("key", ["metrics", "data_path", "results_dir", "valid_metric", "seed", "learning_rate_scheduler"])
def test_a_key_that_every_run_reads_is_missing_in_overall_yaml(configs, key):
    path = configs / "overall.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith(f"{key}:")))
    with pytest.raises(ConfigError, match=f"overall.yaml does not set '{key}'"):
        Config("BPR", "toy")


@pytest.mark.parametrize("progress", [{"epoch": -(10**18)}, {"epoch": 7}, {"best_epoch": 9}, {"seconds_train": float("nan")}])
def test_a_checkpoint_whose_progress_is_none(make_run, make_config, progress):
    path = unlisted(make_run("BPR"))
    state = torch.load(path / "checkpoint.pt", weights_only=True)
    torch.save(state | {"progress": state["progress"] | progress}, path / "checkpoint.pt")
    (path / "result.json").unlink()
    with pytest.raises(RunError, match=r"(?i)checkpoint.* (give --restart|give its command again)"):
        run(make_config("BPR"), resume=True)


def test_a_checkpoint_of_another_optimiser(make_run, make_config):
    path = unlisted(make_run("BPR"))
    state = torch.load(path / "checkpoint.pt", weights_only=True)
    state["optimizer"]["param_groups"][0]["betas"] = (0.5, 0.9)
    torch.save(state, path / "checkpoint.pt")
    (path / "result.json").unlink()
    with pytest.raises(RunError, match="another betas"):
        run(make_config("BPR"), resume=True)


def test_a_store_of_pictures_that_is_cut_short_ends_no_process(tmp_path):
    with ImageStore(tmp_path / "store") as store:
        store.put((n, bytes(5000)) for n in range(8))
    path = tmp_path / "store" / "data.mdb"
    path.write_bytes(path.read_bytes()[: 3 * 4096])
    with pytest.raises(DataError, match="is cut short"):
        ImageStore(tmp_path / "store", read_only=True)


def test_a_member_of_an_archive_whose_bytes_are_damaged(tmp_path):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, users=np.arange(2000))
    content = bytearray(buffer.getvalue())
    for at in range(60, len(content) - 120, 17):
        damaged = bytes(content[:at]) + bytes([content[at] ^ 255]) + bytes(content[at + 1 :])
        (tmp_path / "x.npz").write_bytes(damaged)
        with pytest.raises(ValueError):
            read_arrays(tmp_path / "x.npz")


def test_a_member_of_an_archive_that_has_more_than_its_head_says(tmp_path):
    head = io.BytesIO()
    np.save(head, np.arange(4))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("users.npy", head.getvalue() + b"more")
    with pytest.raises(ValueError, match="not as long as its head says"):
        read_arrays(tmp_path / "x.npz")


def test_an_id_with_a_carriage_return_stays_in_its_cell(tmp_path):
    write_tables([pd.DataFrame({"item": ["a\rb", "c"], "score": [1.0, 2.0]})], "csv", tmp_path / "x.csv")
    assert pd.read_csv(tmp_path / "x.csv", dtype=str)["item"].tolist() == ["a\rb", "c"]


@pytest.mark.parametrize(
    ("option", "value"), [("--memory", "inf"), ("--memory", "-1"), ("--min-rating", "nan"), ("--threads", "1000000")]
)
def test_a_number_of_prepare_that_is_none(tmp_path, capsys, option, value):
    words = ["table", "-d", "mine", "--interactions", "x", "--user-column", "u", "--item-column", "i", f"{option}={value}"]
    with pytest.raises(SystemExit) as stop:
        prepare.main(words)
    assert stop.value.code == 2 and option in capsys.readouterr().err


def test_a_damaged_parquet_file(tmp_path, configs, capsys):
    path = tmp_path / "x.parquet"
    pd.DataFrame({"u": ["a"] * 50, "i": range(50)}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\x15\xff" * 20 + content[44:])
    words = ["table", "-d", "mine", "--data_path", tmp_path / "data", "--interactions", path, "--user-column", "u"]
    assert prepare.main([str(word) for word in [*words, "--item-column", "i"]]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["result.json", "config.json", "environment.json"])
def test_a_json_file_of_a_run_that_holds_no_object(make_run, name):
    path = unlisted(make_run("BPR"))
    for text in ("[]", "{}", "null", "1", '{"model": "BPR"}', "[" * 100_000):
        (path / name).write_text(text)
        with pytest.raises(RunError):
            Record.of_run(path)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("config.json", {"min_epochs": None}, "its key 'min_epochs' is None; expected"),
        ("config.json", {"topk": [[]]}, "its key 'topk' is [[]]; expected"),
        ("config.json", {"tuned": True}, "its key 'tuned' is True; expected false or the name of a file"),
        ("result.json", {"seconds_total": 10**400}, "it holds a number of 401 digits; expected at most 20"),
    ],
    ids=str,
)
def test_a_value_that_no_run_has(make_run, name, values, said):
    path = unlisted(make_run("BPR")) / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(RunError) as raised:
        Record.of_run(path.parent)
    assert said in str(raised.value)


def test_an_archive_of_tensors_that_is_cut_short(tmp_path):
    torch.save({"a": torch.zeros(4000)}, tmp_path / "best.pt")
    content = (tmp_path / "best.pt").read_bytes()
    for length in (10, 1000, 5000, len(content) - 1):  # torch raises another error for each of the first three
        (tmp_path / "best.pt").write_bytes(content[:length])
        with pytest.raises(RunError, match=r"best\.pt cannot be read"):
            RunDirectory(tmp_path).load("best.pt")


def test_a_record_of_python_that_is_nested_too_deeply():
    with pytest.raises(ValueError, match="neither JSON nor a Python literal"):
        parse_record(b"[" * 100_000)


@pytest.mark.parametrize("shape", ["(True, 16)", "(64, -1)", "(64,)", "'x'", "(64, 0)", "(64, 2**70)"])
def test_a_feature_file_whose_head_says_no_shape(make_config, toy, shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    (toy / "image_feat.npy").write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(4096))
    with pytest.raises(DataError, match=r"image_feat\.npy"):
        RecDataset(make_config("VBPR")).features()


@pytest.mark.slow
def test_the_programs_show_no_traceback_for_a_damaged_run(make_run):
    path = unlisted(make_run("BPR"))
    (path / "result.json").write_text(json.dumps({"model": "\x1b[2J"}))
    words = [sys.executable, str(SRC / "report.py"), "table", "--results", str(path)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (
        ended.returncode == 2 and "\nerror: " in ended.stderr and "Traceback" not in ended.stderr and "\x1b" not in ended.stderr
    )


@pytest.mark.parametrize(
    "values",
    [
        {"models": []},
        {"datasets": ["other"]},
        {"models": [None]},
        {"axes": {"BPR": None}},
        {"given": 0},
        {"trials": [[]]},
        {"seeds": [True]},
        {"budget": []},
    ],
    ids=str,
)
def test_a_plan_of_another_form(tmp_path, values):
    plan = {
        "name": "a",
        "purpose": "grid",
        "models": ["BPR"],
        "datasets": ["toy"],
        "axes": {"BPR": {"seed": [1]}},
        "settings": {},
    }
    plan |= {"seeds": [1], "budget": {}, "points": {"BPR": 1}, "fingerprint": "", "trials": ["toy/BPR/seed1-0"]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(plan))
    assert read_experiment(path)
    path.write_text(json.dumps(plan | values))
    with pytest.raises(RunError, match=r"a\.json is no plan of an experiment"):
        read_experiment(path)


@pytest.mark.parametrize("values", [{"model": None}, {"seed": "1"}, {"valid_metric": 1}, {"epochs": []}], ids=str)
def test_settings_of_a_run_of_another_kind_are_not_listed(make_run, values, capsys):
    path = unlisted(make_run("BPR"))
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(content | values))
    assert not find_runs([path.parent], ["BPR"], damaged=say_damaged)
    assert f"warning: {path} cannot be read" in capsys.readouterr().err


def test_a_damaged_run_hides_no_other(make_run, make_config, capsys):
    lost, damaged, whole = (Path(run(make_config("BPR", seed=seed))["directory"]) for seed in (1, 2, 3))
    (lost / "config.json").unlink()
    (damaged / "config.json").write_text("{")
    assert [found.path for found in find_runs([whole.parent], damaged=say_damaged)] == [whole]
    said = capsys.readouterr().err
    assert f"{lost} has no config.json. Remove the directory of this run and give its command again" in said
    assert f"{damaged} cannot be read" in said
    with pytest.raises(RunError, match=f"has no config.json.*{whole} fits too: name it by"):
        choose_run([whole.parent], ["BPR"])
    assert choose_run([whole.parent], ["BPR"], seeds=[3]) == whole


@pytest.mark.parametrize("name", TABLE_FILES)
def test_a_run_without_one_of_its_files_is_not_called_finished(make_config, name):
    config = make_config("BPR", epochs=1)
    path = Path(run(config)["directory"])
    (path / name).unlink()
    if name == "result.json":  # it goes on from its checkpoint
        with pytest.raises(RunError, match="was stopped before its end"):
            run(config)
    else:
        with pytest.raises(RunError, match=f"{name} does not exist. Remove the directory of this run"):
            run(config)
        (outcome,) = run_trials(trials_of([config]))
        assert f"{name} does not exist" in outcome.error


def test_a_finished_run_without_its_model_keeps_its_figures(make_config):
    config = make_config("BPR", epochs=1)
    first = run(config)
    (Path(first["directory"]) / "best.pt").unlink()
    assert run(config) == first


def test_an_example_that_hangs_is_never_taken_for_one_that_is_refused(monkeypatch):
    monkeypatch.setattr("faults.fuzzing.SECONDS", 1)
    with pytest.raises(Late):
        accepts("hang", lambda: exit_status(lambda: time.sleep(20), "stopped"))


# names and rows with bytes that are no UTF-8: Python holds each as half a pair, which no file in UTF-8 can have


def visits(folder, *more: bytes) -> Path:
    path = folder / "visits.csv"
    lines = [b"A%d,B%d" % (user, item) for user in range(6) for item in range(6)]
    path.write_bytes(b"\n".join([b"who,what", *lines, *more, b""]))
    return path


def prepare_visits(path: Path, *words) -> int:
    columns = ["--user-column", "who", "--item-column", "what", "--k-core", 2, "--max-malformed", 1, "--threads", 1]
    return prepare.main([str(word) for word in ("table", "-d", "mine", "--interactions", path, *columns, *words)])


@pytest.mark.parametrize("line", [b"A\x8b\0,B1", b"A\x8b\0,B1,C1", b'"A\x8b\0,B1'], ids=repr)
def test_a_refused_line_is_kept_in_the_report_with_its_bytes_as_escapes(configs, tmp_path, line):
    pytest.importorskip("duckdb", reason="needs the extra prepare")
    assert prepare_visits(visits(tmp_path, line), "--data_path", tmp_path / "data") == 0
    assert r"\\x8b" in (tmp_path / "data" / "mine" / "report.json").read_text(encoding="utf-8")


def test_a_folder_whose_name_is_no_utf8_is_refused_by_name_where_duckdb_would_use_it(configs, tmp_path, capsys):
    pytest.importorskip("duckdb", reason="needs the extra prepare")
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    place.mkdir()
    assert prepare_visits(visits(tmp_path), "--data_path", place) == 2
    assert "the name has a byte that is no UTF-8, and DuckDB cannot use it. Rename it" in capsys.readouterr().err
    assert not list(place.iterdir())
    pd.read_csv(visits(tmp_path)).to_parquet(tmp_path / "visits.parquet")
    (tmp_path / "visits.parquet").rename(place / "visits.parquet")
    assert prepare_visits(place / "visits.parquet", "--data_path", tmp_path / "data") == 2
    assert "Rename it" in capsys.readouterr().err


def test_training_and_tables_take_folders_whose_names_are_no_utf8(words, configs, toy, tmp_path):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(toy, place / "toy")
    assert call("main", words(place / "results", data_path=place), configs, tmp_path).status == 0
    (path,) = (place / "results").glob("toy/BPR/seed*")
    assert json.loads((path / "config.json").read_text(encoding="utf-8"))["data_path"] == f"{place}/"
    table = ["table", "--results", place / "results", "--output", place / "table.txt"]
    assert call("report", table, configs, tmp_path).status == 0
    assert "BPR" in (place / "table.txt").read_text(encoding="utf-8")
    write_text(tmp_path / "one.json", json.dumps({"path": f"{place}"}, ensure_ascii=False))
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8")) == {"path": f"{place}"}


def test_a_damaged_log_of_epochs_of_a_stopped_run_ends_nothing_else(make_config, toy):
    stopped, other = make_config("BPR", seed=1, epochs=1), make_config("BPR", seed=2, epochs=1)
    damaged = Path(run(stopped)["directory"])
    (damaged / "result.json").unlink()
    (damaged / "metrics.jsonl").write_bytes(b"\0\n")
    assert unfinished([damaged.parent]) == []
    outcomes = run_trials(trials_of([stopped, other]))
    assert all(outcome.result for outcome in outcomes)


def test_the_python_interface_leaves_torch_its_threads(toy, in_this_process, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        mr.train("BPR", "toy", data_path=str(toy.parent), results_dir=str(tmp_path / "r"), epochs=1, threads=1, use_gpu=False)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
