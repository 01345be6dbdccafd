"""The options of the programs: values that are given apart, and paths of the user's folder."""

from pathlib import Path

import pytest

from mambarec.base.console import Parser
from mambarec.base.errors import ConfigError
from mambarec.cli import prepare, recommend, report, train


def test_users_and_conditions_that_are_given_apart_are_taken_together():
    assert recommend.parse(["--user", "A", "--user", "B", "C"]).user == ["A", "B", "C"]
    assert recommend.parse(["--where", "a=1", "--where", "b=2"]).where == ["a=1", "b=2"]
    for _ in range(2):  # the defaults stay as they are
        assert report.parse(["table", "--where", "a=1", "--where", "b=2"]).where == ["a=1", "b=2"]


def test_a_path_may_begin_in_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = Parser()
    parser.add_argument("--output", type=Path)
    assert parser.parse_args(["--output=~/kept"]).output == tmp_path / "kept"
    assert parser.parse_args(["--output=~nobody-has-this-name/kept"]).output == Path("~nobody-has-this-name/kept")


def test_the_folders_of_a_run_may_lie_in_the_users_folder(monkeypatch, tmp_path, toy, make_config):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = make_config("BPR", results_dir="~/kept")
    assert config["results_dir"] == f"{tmp_path}/kept/"
    with pytest.raises(ConfigError, match="is no folder") as error:
        make_config("BPR", model_path="~/models")
    assert f"{tmp_path}/models" in str(error.value)


@pytest.mark.parametrize(
    ("words", "name", "values"),
    [
        (["table", "-m", "BPR", "-m", "VBPR"], "model", ["BPR", "VBPR"]),
        (["table", "-d", "x", "y", "--seed", "1", "-d", "z", "--seed", "2", "3"], "seed", [1, 2, 3]),
        (["table", "--results", "a", "--results", "b"], "results", [Path("a"), Path("b")]),
        (["table", "--experiment", "a", "--experiment", "b"], "experiment", ["a", "b"]),
        (["published", "-d", "x", "-d", "y"], "dataset", ["y"]),  # one value: the last counts, as everywhere
    ],
)
def test_a_list_that_is_given_in_parts_is_one_list(words, name, values):
    assert getattr(report.parse(words), name) == values


def test_models_that_are_given_apart_replace_the_default_together():
    options, _ = train.parse(["-m", "BPR", "-m", "VBPR", "-d", "x"])
    assert (options.models, options.datasets) == (["BPR", "VBPR"], ["x"])
    assert train.parse([])[0].models == ["MambaRec"]


def test_columns_that_are_given_apart_are_read_together():
    words = "table -d x --interactions a --user-column u --item-column i --items b --text-columns t --text-columns d,e"
    assert prepare.parse(words.split()).text_columns == ["t", "d", "e"]


def test_an_option_of_another_command_is_not_offered_as_its_own_spelling(capsys):
    with pytest.raises(SystemExit):
        recommend.parse(["audience", "--run", "x", "--new-items", "n", "--item", "i", "--all"])
    assert "unrecognized arguments: --all; another command has this option." in capsys.readouterr().err
