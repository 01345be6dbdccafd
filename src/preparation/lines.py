"""Lines and records of the dumps: files read as a stream, plain or gz, with a progress bar over their bytes."""

import ast
import gzip
import itertools
import json
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from utils.console import printable
from utils.errors import DataError

_LINE = 2**24  # bytes of a line
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


def first_lines(path: Path, count: int) -> list[str]:
    """The first lines of a file, without their ends; what is not UTF-8 in them is replaced."""
    with _whole(path), path.open("rb") as raw:
        lines = itertools.islice(_lines(raw, path), count)
        return [line.decode("utf-8-sig", "replace").rstrip("\r\n") for line in lines]


def _lines(raw: IO[bytes], path: Path) -> Iterator[bytes]:
    """The lines of a file; DataError where one is too long, or where a gz becomes much more than any text does."""
    packed = is_gz(path)
    file: Any = gzip.GzipFile(fileobj=raw) if packed else raw
    n_bytes, looked_at = 0, 0
    while line := file.readline(_LINE + 1):
        if len(line) > _LINE:
            raise DataError(f"{path} has a line of more than {_LINE:,} bytes; expected one record a line")
        n_bytes += len(line)
        if packed and n_bytes > looked_at + _FREE:
            looked_at = n_bytes
            if n_bytes > _RATIO * raw.tell():
                raise _bomb(path)
        yield line


def check_expansion(path: Path) -> None:
    """DataError where the beginning of a gz becomes much more than any text does."""
    if not is_gz(path):
        return
    with _whole(path), path.open("rb") as raw:
        file = gzip.GzipFile(fileobj=raw)
        n_bytes = 0
        while n_bytes <= 4 * _FREE and (block := file.read(2**20)):
            n_bytes += len(block)
        if n_bytes > max(4 * _FREE, _RATIO * raw.tell()):
            raise _bomb(path)


def _bomb(path: Path) -> DataError:
    return DataError(f"{path} becomes more than {_RATIO} times its size when it is unpacked, which no dump does. Get it again")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and content of each line that is not blank."""
    size = path.stat().st_size
    with (
        _whole(path),
        path.open("rb") as raw,
        tqdm(total=size, unit="B", unit_scale=True, desc=printable(path.name), disable=None) as bar,
    ):
        for number, line in enumerate(_lines(raw, path), start=1):
            if not number % 1024:
                bar.update(raw.tell() - bar.n)
            if not line.isspace():
                yield number, line
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
