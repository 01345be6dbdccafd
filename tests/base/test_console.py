"""The options of the programs: what is given twice, and paths of the user's folder."""

from pathlib import Path

import pytest

from mambarec.base.console import Parser
from mambarec.base.errors import ConfigError
from mambarec.cli import recommend


def test_an_option_of_several_values_is_given_once(capsys):
    with pytest.raises(SystemExit) as end:
        recommend.parse(["--user", "A", "--user", "B"])
    assert end.value.code == 2
    assert "error: --user is given twice: give all values behind one --user." in capsys.readouterr().err


def test_of_other_options_the_last_counts_as_everywhere():
    parser = Parser()
    parser.add_argument("--k", type=int)
    parser.add_argument("--where", nargs="+", action="append")
    found = parser.parse_args(["--k", "1", "--k=2", "--where", "a=1", "--where", "b=2"])
    assert (found.k, found.where) == (2, [["a=1"], ["b=2"]])


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
