"""The words of messages, and numbers that options take."""

import argparse
import ast
import re
from pathlib import Path

import pytest

import mambarec.base.words as words
from mambarec.base.commands import that_train
from mambarec.base.words import command, command_text, count, duration, in_python, option, positive


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.4, "8 s"), (99.4, "99 s"), (120, "2 min"), (5999, "100 min"), (7200, "2.0 h")]
)
def test_a_duration_is_in_the_unit_that_suits_it(seconds, text):
    assert duration(seconds) == text


def test_a_count_has_its_plural():
    assert [count(number, "seed") for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


def test_an_option_must_be_above_zero():
    assert positive("3") == 3
    for text in ("0", "-1", "1_0", "2.5", "many", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=rf"^{text}; expected a whole number above 0"):
            positive(text)


def test_a_command_is_one_to_type():
    assert command_text(["/a/b/src/main.py", "-m", "BPR", "--name", "a b"]) == "python main.py -m BPR --name 'a b'"
    assert command_text(["mambarec train", "-m", "BPR"]) == "mambarec train -m BPR"


@pytest.mark.parametrize("started", ["mambarec train", "/usr/lib/ipykernel_launcher.py", "-c"])
def test_a_message_names_the_command_of_the_package(monkeypatch, started):
    monkeypatch.setattr("sys.argv", [started])
    assert command("report", "table") == "mambarec report table"


def test_a_message_names_the_program_to_one_who_started_a_program(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/a/src/main.py", "-m", "BPR"])
    assert command("report", "table") == "python report.py table"
    assert command("status") == "python report.py runs --unfinished" and command("train") == "python main.py"


def test_a_run_records_the_commands_that_train():
    assert that_train("models") == {"main.py", "mambarec train", "mambarec compare", "mambarec search"}
    assert that_train("studies") == {"report.py", "mambarec report"}


# Where the source may say the name of a program.
DESCRIBED = ("base/commands.py", "mmrec/export.py")


def test_no_message_names_a_program_but_by_command():
    """Docstrings may; they are no messages."""
    named = re.compile(
        r"\b(main|prepare|recommend|report|export_plugin)\.py\b|\bmambarec (train|compare|prepare|recommend|report)\b"
    )
    package = Path(words.__file__).parents[1]
    for path in package.rglob("*.py"):
        if path.relative_to(package).as_posix() in DESCRIBED:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not named.search(node.value), f"{path}, line {node.lineno}: {node.value!r}"


@pytest.mark.parametrize(
    ("asked", "typed", "called"),
    [
        (("seed", 1, 2), "--seed 1 2", "seed=[1, 2]"),
        (("restart", True), "--restart", "restart=True"),
        (("search-budget", 3), "--search-budget 3", "budget=3"),
        (("-m", "BPR"), "-m BPR", "model='BPR'"),
        (("data_path",), "--data_path", "data_path="),
        (("images", "FOLDER"), "--images FOLDER", "images=FOLDER"),
    ],
)
def test_an_option_is_an_argument_in_python(asked, typed, called):
    assert option(*asked) == typed
    with in_python({"-m": "model", "search-budget": "budget"}):
        assert option(*asked) == called
    assert option(*asked) == typed
