"""The options of the programs: values that are given apart, and paths of the user's folder."""

from pathlib import Path

import pytest

from mambarec.base.console import Parser
from mambarec.base.errors import ConfigError
from mambarec.cli import recommend, report


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
