"""Files that may come from elsewhere, read within bounds: text, JSON and archives of arrays.

Every size is known before memory is taken. What is wrong raises ValueError with a sentence, which the caller puts behind
the name of the file.
"""

import json
import lzma
import math
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

TEXT = 2**26  # bytes of a JSON file; 64 MB are a million epochs
ARRAYS = 2**30  # bytes of all arrays of an archive
_DIGITS = 20  # of a whole number in JSON; a seed has at most 20
_KINDS = "biufU"  # of NumPy's dtypes: truth values, numbers, text


def read_bytes(path: Path, limit: int = ARRAYS) -> bytes:
    """The content of a regular file of at most `limit` bytes."""
    if stat.S_ISFIFO(path.stat().st_mode) or path.is_char_device():
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has {path.stat().st_size:,} bytes; at most {limit:,} are read")
    return content


def read_text(path: Path, limit: int = TEXT) -> str:
    """The content of a regular file, UTF-8, of at most `limit` bytes."""
    return read_bytes(path, limit).decode("utf-8")


def parse_json(text: Any, expected: Mapping[str, type | tuple[type, ...]] | None = None) -> Any:
    """What a JSON text holds, or one that was parsed. expected: keys that must be there, with the types of their values."""
    try:
        readers: dict[str, Any] = {"parse_int": _whole, "object_pairs_hook": _each_key_once}
        content = json.loads(text, **readers) if isinstance(text, str | bytes) else text
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    if expected is None:
        return content
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}; expected an object with {', '.join(expected)}")
    for key, kinds in expected.items():
        if key not in content:
            raise ValueError(f"it has no key '{key}'")
        value = content[key]
        is_truth = isinstance(value, bool) and kinds is not bool
        if not isinstance(value, kinds) or is_truth:
            raise ValueError(f"its key '{key}' is {_short(value)}; expected {_named(kinds)}")
    return content


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key '{key}' twice")
    return content


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits; expected at most {_DIGITS}")
    return int(digits)


def first_line(error: BaseException) -> str:
    """The first line of an error's words, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"


def _named(kinds: type | tuple[type, ...]) -> str:
    words = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number", type(None): "null"}
    return " or ".join(words.get(kind, kind.__name__) for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


def read_json(path: Path, expected: Mapping[str, type | tuple[type, ...]] | None = None) -> Any:
    """What a JSON file holds, as parse_json; OSError where it cannot be opened."""
    return parse_json(read_text(path), expected)


def read_arrays(source: Path | IO[bytes], limit: int = ARRAYS) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, of at most `limit` bytes together; OSError where it cannot be opened.

    Each must be of numbers or text, and as long as its head says. Nothing in the file is executed.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > limit:
                raise ValueError(f"its arrays have {total:,} bytes; at most {limit:,} are read")
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = _array(file, member)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is no archive of arrays: {error}") from None
    if len(arrays) != len(members):
        raise ValueError("a name is there twice")
    return arrays


def _array(file: IO[bytes], member: zipfile.ZipInfo) -> np.ndarray:
    shape, fortran, dtype = array_head(file)
    size = math.prod(shape) * dtype.itemsize
    if size > member.file_size:
        raise ValueError(f"{member.filename} says {dtype} {shape}, {size:,} bytes; it has {member.file_size:,}")
    content = file.read(size + 1)  # to the end, where the archive's checksum is compared
    if len(content) != size:
        raise ValueError(f"{member.filename} is not as long as its head says")
    return np.frombuffer(bytearray(content), dtype).reshape(shape, order="F" if fortran else "C")


def array_head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and dtype of an .npy file at its start; the file is then at its first number."""
    if file.read(1) == b"\x80":
        raise ValueError("it holds pickled objects, which are never loaded")
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)  # type: ignore[arg-type]
    except Exception as error:  # its head is a Python literal, and almost anything may stand there
        raise ValueError(f"it has no head of an array: {first_line(error)}") from None
    if dtype.kind == "O":
        raise ValueError("it holds pickled objects, which are never loaded")
    if dtype.kind not in _KINDS or dtype.itemsize == 0 or any(isinstance(n, bool) or n < 0 for n in shape):
        raise ValueError(f"it holds {dtype} {shape}; expected numbers")
    return shape, fortran, dtype
