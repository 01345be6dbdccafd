"""Tables written as they come, block by block: CSV, JSON lines or Parquet."""

import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import pandas as pd

from mambarec.base.cells import guarded_frame
from mambarec.base.console import printable
from mambarec.base.errors import ConfigError
from mambarec.base.extras import optional
from mambarec.base.files import placed

FORMATS = ("csv", "jsonl", "parquet")
ENDINGS = {f".{form}": form for form in FORMATS}


def write_tables(frames: Iterable[pd.DataFrame], form: str, output: Path | None) -> int:
    """Write frames of the same columns one below the other, to standard output where no file is named; returns the rows.

    ConfigError for Parquet without a file or without pyarrow.
    """
    if form == "parquet":
        if output is None:
            raise ConfigError("--format parquet is not for the console; name a file with --output")
        with placed(output) as temporary:
            return _write_parquet(frames, temporary)
    write = {"csv": _write_csv, "jsonl": _write_jsonl}[form]
    if output is None:
        shown = map(_shown, frames) if sys.stdout.isatty() else frames
        return _write_text(shown, sys.stdout, write)
    with placed(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        return _write_text(frames, file, write)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    words = frame.select_dtypes(include=["string", "object"]).columns
    return frame.assign(**{name: frame[name].map(printable, na_action="ignore") for name in words})


def _write_text(frames: Iterable[pd.DataFrame], file: IO[str], write: Callable[[pd.DataFrame, IO[str], bool], Any]) -> int:
    n_rows = 0
    for number, frame in enumerate(frames):
        write(frame, file, number == 0)
        n_rows += len(frame)
    return n_rows


def _write_csv(frame: pd.DataFrame, file: IO[str], first: bool) -> None:
    words = frame.select_dtypes(include=["string", "object"]).columns
    frame = guarded_frame(frame)
    in_quotes = any(frame[name].str.contains("\r", regex=False).any() for name in words)  # which csv leaves bare before 3.13
    quoting = csv.QUOTE_NONNUMERIC if in_quotes else csv.QUOTE_MINIMAL
    frame.to_csv(file, index=False, header=first, lineterminator="\n", quoting=quoting)


def _write_jsonl(frame: pd.DataFrame, file: IO[str], first: bool) -> None:
    frame.to_json(file, orient="records", lines=True, double_precision=15, force_ascii=False)


def _write_parquet(frames: Iterable[pd.DataFrame], path: Path) -> int:
    pyarrow, parquet = (
        optional(module, "pyarrow", "serving", "--format parquet needs") for module in ("pyarrow", "pyarrow.parquet")
    )
    n_rows, writer = 0, None
    try:
        for frame in frames:
            table = pyarrow.Table.from_pandas(frame, preserve_index=False)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            n_rows += len(frame)
    finally:
        if writer:
            writer.close()
    return n_rows
