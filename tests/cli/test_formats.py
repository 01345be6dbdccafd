"""Which format a file gets, from --format and from the ending of --output."""

from pathlib import Path

import pytest

from mambarec.base.errors import ConfigError
from mambarec.cli import recommend, report
from mambarec.cli.formats import format_help, format_of


@pytest.mark.parametrize(
    ("name", "form", "found"),
    [
        ("a.csv", None, "csv"),
        ("a.MD", None, "markdown"),
        ("a.markdown", None, "markdown"),
        ("a.markdown", "markdown", "markdown"),
        ("a", None, "text"),
        ("a.xyz", "csv", "csv"),
        (None, None, "text"),
    ],
)
def test_the_format_of_a_file_is_the_one_that_is_named_or_that_of_its_ending(name, form, found):
    endings = {".csv": "csv", ".md": "markdown"}
    assert format_of(name and Path(name), form, endings, "text") == found


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        ("a.xyz", None, "Use one of .csv, .md, .markdown"),
        ("a.md", "csv", "do not end in .md"),
        ("a.markdown", "csv", "do not end in .markdown"),
    ],
)
def test_an_ending_of_no_format_or_of_another_is_refused(name, form, said):
    with pytest.raises(ConfigError, match=said):
        format_of(Path(name), form, {".csv": "csv", ".md": "markdown"}, "text")


@pytest.mark.parametrize(
    ("parse", "words", "help_text"),
    [
        (report.parse, ["table"], format_help("text")),
        (report.parse, ["published"], format_help("text")),
        (recommend.parse, ["lists"], format_help("csv")),
        (recommend.parse, ["export"], format_help("npz", "file")),
    ],
)
def test_the_help_of_each_command_says_what_chooses_the_format(parse, words, help_text, capsys):
    with pytest.raises(SystemExit):
        parse([*words, "--help"])
    assert help_text in " ".join(capsys.readouterr().out.split())


def test_a_table_in_markdown_may_end_in_the_name_of_the_format():
    assert report.parse(["table", "--output", "all.markdown"]).format == "markdown"
