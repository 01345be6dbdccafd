"""Lines and records of the dumps: files read as a stream, plain or gz, with a progress bar over their bytes."""

import ast
import codecs
import gzip
import io
import json
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from mambarec.base.console import printable
from mambarec.base.errors import DataError
from mambarec.base.text import encoding_of

_LINE = 2**24  # characters of a line
_FREE, _RATIO = 2**22, 200  # bytes that any gz may become, and beyond these how many for each of its own; text has 3 to 20
_SIMPLE = re.compile(r"""[^"\\]*""")  # neither double quotes nor escapes: single-quoted strings end at the next single quote


def is_gz(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes and not by its name."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """DataError where a compressed file turns out to be cut short or damaged."""
    try:
        yield
    except EOFError:
        raise DataError(f"{path} is cut short: the compressed stream does not end. Get the file again") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged: {error}. Get the file again") from None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, plain or gz, as bytes; DataError where a compressed file turns out to be cut short or damaged."""
    with _whole(path), path.open("rb") as raw:
        yield io.BufferedReader(_Unpacked(raw, path)) if is_gz(path) else raw


class _Unpacked(io.RawIOBase):
    """The content of a gz; DataError where it becomes much more than any text does."""

    def __init__(self, raw: IO[bytes], path: Path):
        self._raw, self._path, self._n_bytes = raw, path, 0
        self._file = gzip.GzipFile(fileobj=raw)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read1(len(buffer))
        buffer[: len(block)] = block
        self._n_bytes += len(block)
        if self._n_bytes > _FREE + _RATIO * self._raw.tell():
            raise DataError(
                f"{self._path} becomes more than {_RATIO} times its size when it is unpacked, which no dump does. Get it again"
            )
        return len(block)


def bounded_lines(file: IO[Any], path: Path) -> Iterator[Any]:
    """The lines of an open file; DataError where one is longer than any record."""
    while line := file.readline(_LINE + 1):
        if len(line) > _LINE:
            raise too_long(path)
        yield line


def too_long(path: Path) -> DataError:
    return DataError(f"{path} has a line of more than {_LINE:,} characters; expected one record a line")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and content in UTF-8 of each line that is not blank."""
    size = path.stat().st_size
    with (
        _whole(path),
        path.open("rb") as raw,
        tqdm(total=size, unit="B", unit_scale=True, desc=printable(path.name), disable=None) as bar,
    ):
        file = io.BufferedReader(_Unpacked(raw, path)) if is_gz(path) else raw
        encoding = encoding_of(file.peek(4096)[:4096])
        found = bounded_lines(file if encoding == "utf-8" else io.TextIOWrapper(file, encoding), path)
        lines = found if encoding == "utf-8" else (line.encode() for line in found)
        try:
            for number, line in enumerate(lines, start=1):
                if not number % 1024:
                    bar.update(raw.tell() - bar.n)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.isspace():
                    yield number, line
        except UnicodeError as error:
            raise DataError(f"{path} is not text in {encoding} ({error}). Save it as UTF-8") from None
        bar.update(size - bar.n)


def parse_record(line: bytes) -> dict[str, Any]:
    """A line's JSON object or, as in the metadata of 2014, Python literal; nothing is executed.

    ValueError says why it is neither.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    record = _json(text)
    if record is None and _SIMPLE.fullmatch(text):
        record = _json(text.replace("'", '"'))  # ten times as fast as literal_eval, and the same where there are no escapes
    if record is None:
        record = _literal(text)
    if not isinstance(record, dict):
        raise ValueError("neither JSON nor a Python literal" if record is None else "no record of fields")
    return record


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are in neither language


def _literal(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
