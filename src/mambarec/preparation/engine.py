"""DuckDB within bounds: tables in memory that spill to a folder, and a progress bar for statements that take long.

Why DuckDB and not Polars: docs/guides/data.md has the figures of both.
"""

import errno
import glob
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from mambarec.base.bounded import first_line
from mambarec.base.console import printable
from mambarec.base.errors import DataError, RunError
from mambarec.base.extras import optional
from mambarec.base.files import naming
from mambarec.base.words import option

_NO_UTF8 = re.compile("['\"]?([^'\"]*[\ud800-\udfff][^'\"]*)")


class Engine:
    """A database of one preparation. A context manager."""

    def __init__(self, spill: Path, memory_gb: float, threads: int, more: str = ""):
        """spill: a folder for what does not fit into `memory_gb`. more: which options give more, as a message says it.

        ConfigError without the package duckdb. DataError where the folder's name is no UTF-8.
        """
        _check_utf8(str(spill))
        self.duckdb = duckdb = optional("duckdb", "duckdb", "prepare", "preparing data needs")
        self.spill, self.memory_gb, self.more = spill, memory_gb, more
        settings: dict[str, Any] = {
            "threads": threads,
            "memory_limit": f"{memory_gb * 1000:.0f}MB",
            "temp_directory": str(spill),
        }
        with self._explained():
            self._connection = duckdb.connect(":memory:", config=settings)
            self._connection.execute("SET TimeZone = 'UTC'")
            self.shows_progress = (
                sys.stderr.isatty() and "ipykernel" not in sys.modules
            )  # in a notebook it would need ipywidgets
            if self.shows_progress:
                self._connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, sql: str, parameters: Sequence[Any] = (), progress: str = "") -> list[tuple]:
        """The rows that a statement returns. progress: shows a bar of this name.

        DataError for a file that the engine cannot read, RunError when memory or disk runs out.
        """
        _check_utf8(sql, *parameters)
        with self._explained(), self._bar(progress) if progress and self.shows_progress else _no_bar():
            return self._connection.execute(sql, list(parameters)).fetchall()

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row."""
        return self.run(sql, parameters)[0][0]

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows to a table, given column by column in the table's order."""
        frame = pd.DataFrame({name: _array(values) for name, values in columns.items()}, dtype=None)
        with self._explained():
            self._connection.register("appended", frame)
            self._connection.execute(f"INSERT INTO {table} SELECT * FROM appended")
            self._connection.unregister("appended")

    def names(self, table: str) -> pd.Index:
        """The column `name` of a table in the order of its column `number`."""
        with self._explained():
            frame = self._connection.execute(f"SELECT name FROM {table} ORDER BY number").df()
        return pd.Index(frame["name"].astype(object))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the engine that a user can mend, in our words; and Ctrl-C, which it takes for an error of its own."""
        duckdb = self.duckdb
        try:
            with naming(self.spill.parent):
                yield
        except duckdb.OutOfMemoryException as error:
            raise RunError(
                f"{self.memory_gb:g} GB of memory and the disk of {self.spill.parent} do not suffice; {self.more or _more()} "
                f"({first_line(error)})"
            ) from None
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except duckdb.Error as error:  # a damaged file makes its readers raise almost any of its kinds
            if os.strerror(errno.ENOSPC) in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.spill.parent)) from None
            raise DataError(first_line(error)) from None
        except RuntimeError as error:
            if "interrupted" not in str(error).lower():
                raise
            raise KeyboardInterrupt from None

    @contextmanager
    def _bar(self, name: str) -> Iterator[None]:
        finished = threading.Event()

        def watch() -> None:
            with tqdm(
                total=100,
                unit="%",
                desc=printable(name),
                disable=None,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}",
            ) as bar:
                while not finished.wait(0.2):
                    bar.update(max(0, min(100, self._connection.query_progress()) - bar.n))
                bar.update(100 - bar.n)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


@contextmanager
def _no_bar() -> Iterator[None]:
    yield


def _array(values: Sequence[Any]) -> np.ndarray:
    return np.asarray(values, dtype=object if isinstance(values[0], str) else None)


def _check_utf8(*values: Any) -> None:
    """DataError where a path or a column's name has a byte that is no UTF-8, which Python holds as half a pair."""
    for value in values:
        if isinstance(value, str) and not value.isascii() and (found := _NO_UTF8.search(value)):
            raise DataError(f"{found[1]}: the name has a byte that is no UTF-8, and DuckDB cannot use it. Rename it")


def _more() -> str:
    return f"give more by {option('memory')}, or another disk by {option('data_path')}"


def quoted(text: str | Path) -> str:
    """An SQL string."""
    return "'" + str(text).replace("'", "''") + "'"


def file_to_read(path: Path) -> str:
    """An SQL string for a file that is read: its name is no pattern of names, though it may look like one."""
    return quoted(glob.escape(str(path)))
