"""Tables written block by block: the same rows in each format, nothing half-written."""

import io
import sys

import numpy as np
import pandas as pd
import pytest

from mambarec.base.errors import ConfigError, RunError
from mambarec.serving.writers import FORMATS, write_tables

READERS = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}


def blocks():
    """Two blocks; in the first, a column has no value at all."""
    for start, seen in ((0, [-1, -1]), (2, [5, -1])):
        values = pd.array(seen, dtype="Int64")
        values[np.array(seen) < 0] = pd.NA
        score = np.array([0.1, 1e-7], dtype=np.float32) * (start + 1)
        yield pd.DataFrame({"user": pd.array([start, start + 1], dtype="Int64"), "score": score, "seen": values})


@pytest.mark.parametrize("form", FORMATS)
def test_blocks_stand_one_below_the_other(form, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="the extra [serving] is not installed")
    path = tmp_path / "table"
    assert write_tables(blocks(), form, path) == 4
    frame, expected = READERS[form](path), pd.concat(blocks())
    assert frame["user"].tolist() == [0, 1, 2, 3]
    assert (frame["score"].to_numpy(np.float32) == expected["score"].to_numpy()).all()
    assert frame["seen"].isna().tolist() == [True, True, False, True] and frame["seen"][2] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_without_a_file_the_console_has_the_same_text(form, tmp_path, monkeypatch):
    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    write_tables(blocks(), form, None)
    write_tables(blocks(), form, tmp_path / "table")
    assert console.getvalue() == (tmp_path / "table").read_text()


@pytest.mark.parametrize("form", FORMATS)
def test_an_error_on_the_way_leaves_the_file_that_was_there(form, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="the extra [serving] is not installed")

    def broken():
        yield from blocks()
        raise RunError("the scores hold NaN")

    (tmp_path / "table").write_text("before")
    with pytest.raises(RunError, match="NaN"):
        write_tables(broken(), form, tmp_path / "table")
    assert [path.name for path in tmp_path.iterdir()] == ["table"] and (tmp_path / "table").read_text() == "before"


def test_parquet_needs_a_file_and_its_package(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="is not for the console; name a file with --output"):
        write_tables(blocks(), "parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"needs the package pyarrow: pip install -e '.*\[serving\]'"):
        write_tables(blocks(), "parquet", tmp_path / "table")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match=r"absent/table"):  # mambarec.base.errors makes a sentence of it
        write_tables(blocks(), "csv", tmp_path / "absent" / "table")
