"""Payloads stay inert: what a file holds is read, shown and written; none of it runs, leads elsewhere or drives a terminal."""

import io
import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch

from faults.fuzzing import unlisted
from mambarec.analysis.html import report
from mambarec.analysis.records import Record
from mambarec.base.bounded import read_arrays
from mambarec.base.cells import guarded, unguarded
from mambarec.base.console import printable
from mambarec.base.errors import ConfigError, RunError, UserError, exit_status
from mambarec.base.logger import get_logger, log_to
from mambarec.cli import prepare
from mambarec.cli import train as program
from mambarec.config.yaml_files import parse_value, read_yaml
from mambarec.running.trained import load_trained
from mambarec.serving.identifiers import Identifiers
from mambarec.serving.writers import write_tables

ESCAPES = {
    "clear": "\x1b[2J",
    "link": "\x1b]8;;http://x\x07click\x1b]8;;\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "c1": "\x9b2J",
    "return": "right\rwrong",
    "bidi": "\u202eexe.txt",
    "isolate": "\u2066a\u2069",
}


class Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("form", ["array in .npz", "pickle"])
def test_an_archive_with_a_pickle_is_never_executed(tmp_path, form):
    trace, path = tmp_path / "executed", tmp_path / "x.record.npz"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Payload(trace)))
    else:
        np.savez(path, json=np.array([Payload(trace)], dtype=object))
    with pytest.raises(RunError, match=r"no record of a run|is damaged"):
        Record.of_file(path)
    with pytest.raises(ValueError):
        read_arrays(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["best.pt", "checkpoint.pt"])
def test_a_checkpoint_with_a_pickle_is_never_executed(make_run, make_config, tmp_path, name):
    from mambarec.running.run import run

    path, trace = unlisted(make_run("BPR")), tmp_path / "executed"
    torch.save({"progress": Payload(trace)}, path / name)
    trace.unlink(missing_ok=True)
    with pytest.raises(RunError, match=name):
        if name == "best.pt":
            load_trained(path)
        else:
            (path / "result.json").unlink()
            run(make_config("BPR"), resume=True)
    assert not trace.exists()


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir [TRACE]", "!!python/name:os.system ''", "!!python/module:os ''"]
)
def test_a_tag_of_yaml_makes_no_object(tmp_path, tag):
    path = tmp_path / "x.yaml"
    path.write_text(f"a: {tag.replace('TRACE', str(tmp_path / 'made'))}\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(path)
    assert parse_value(tag) == tag
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("text", ESCAPES.values(), ids=ESCAPES)
def test_what_drives_a_terminal_is_shown_as_an_escape(text, capsys, tmp_path):
    with log_to(tmp_path / "log"):
        get_logger().warning("a title: %s", text)

    def fail():
        raise UserError(f"an id: {text}")

    assert exit_status(fail, "stopped") == 2
    captured = capsys.readouterr()
    shown = captured.err + captured.out + (tmp_path / "log").read_text()
    assert "\\" in shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)


def test_ordinary_text_is_shown_as_it_is():
    text = "Füße 日本語 שלום عربي 👩‍👩‍👧 – “quoted”\tand\nmore"
    assert printable(text) == text


def test_a_name_that_is_no_unicode_is_shown_as_an_escape():
    assert printable("caf\udce9") == r"caf\udce9"  # how Python reads a file's name in Latin-1


def test_words_of_the_command_line_are_shown_as_escapes(capsys):
    with pytest.raises(SystemExit):
        prepare.main(["\x1b[2J"])
    assert program.main(["-m", "\x1b]52;c;eA==\x07"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "..", ".hidden", "x" * 200, "a\x1b[2J", "-x"])
def test_a_name_leads_nowhere_else(tmp_path, configs, capsys, name):
    (tmp_path / "x.csv").write_text("u,i\n")
    words = ["table", f"--dataset={name}", "--interactions", tmp_path / "x.csv", "--user-column", "u", "--item-column", "i"]
    before = sorted(tmp_path.rglob("*"))
    assert prepare.main([str(word) for word in [*words, "--data_path", tmp_path / "deep" / "data"]]) == 2
    assert "files take this name" in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before
    assert program.main(["-d", name] if not name.startswith("-") else [f"-d={name}"]) == 2


@pytest.mark.parametrize("key", ["model", "dataset"])
def test_a_record_whose_name_leads_elsewhere_is_refused(make_run, tmp_path, key):
    path = Record.of_run(make_run("BPR")).save(tmp_path / "records")
    with np.load(path) as stored:
        arrays = dict(stored)
    text = json.loads(arrays["json"].tobytes())
    for part in ("config", "result"):
        text[part][key] = "../../escaped"
    np.savez(path, **{**arrays, "json": np.frombuffer(json.dumps(text).encode(), np.uint8)})
    with pytest.raises(RunError, match=f"its key '{key}' is '../../escaped'"):
        Record.of_file(path)


def test_no_script_of_a_run_runs_in_the_report(make_run):
    path = unlisted(make_run("BPR"))
    plain = report([Record.of_run(path)])
    script = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    for name, key in (("config.json", "reg_weight"), ("environment.json", "machine")):
        content = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps(content | {key: script, f"{script}": script}))
    content = json.loads((path / "environment.json").read_text())
    (path / "environment.json").write_text(json.dumps(content | {"command": ["main.py", script]}))
    page = report([Record.of_run(path)])
    assert "alert(1)" in page and script not in page and "<img src=x" not in page
    assert page.count("<script") == plain.count("<script") and "default-src 'none'" in page and "unsafe-inline" not in page


FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "=1", "＝1+1"]
PLAIN = ["B0001", "-_a1B", "+4912345", "@name", "a=b", "12", "-5", "x+1(2)"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_in_a_csv_is_a_text(text, tmp_path):
    write_tables([pd.DataFrame({"item": pd.array([text], dtype="string"), "score": [-0.5]})], "csv", tmp_path / "x.csv")
    read = pd.read_csv(tmp_path / "x.csv", dtype=str, keep_default_na=False)
    assert read.loc[0].tolist() == [f"'{text}", "-0.5"]


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN, "'t Hooft", "''", "'=1"])
def test_an_id_comes_back_from_a_csv(text):
    assert unguarded(guarded(text)) == text or guarded(text) == text
    ids = Identifiers("item", 2, np.arange(2), pd.Index(["other", text]))
    assert ids.numbers([guarded(text)]).tolist() == [1]


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_id_stands_in_a_csv_as_it_is(text):
    assert guarded(text) == text


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_ids_on_a_terminal_are_shown_as_escapes_and_in_a_pipe_as_they_are(form, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return self.shows

    for shows in (True, False):
        out = Terminal()
        out.shows = shows
        monkeypatch.setattr("sys.stdout", out)
        write_tables([pd.DataFrame({"item": ["a\u202eb"]})], form, None)
        monkeypatch.undo()
        assert ("\u202e" in out.getvalue()) is not shows
