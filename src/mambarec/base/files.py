"""Write files and folders so that a reader never meets half of one, and a full disk is met by an error that names the file.

What is not complete yet lies beside its place, as <name>.<machine>.<process number>.tmp. A process that is killed leaves such a
file; the next one that writes to the same place removes it.
"""

import ctypes
import glob
import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from mambarec.base.errors import told_as

_HERE = re.sub(r"\W+", "-", platform.node())[:40]
_LEFT = re.compile(rf"\.{_HERE}\.(\d+)\.tmp$")
_SEAL = b"sha256:"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of renameat2(2)


def real(path: Path) -> Path:
    """The absolute path without links. A loop of links stays, for the system to name when the path is used."""
    return Path(os.path.realpath(path))


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file to, which becomes `path` when the block ends, complete and on disk.

    When the block raises, what was written is removed, and what stood at `path` stays. A link stays one, and what it leads
    to is replaced; a device or a pipe is written to as it is. An OSError of the block names `path`.
    """
    target = real(path)
    with naming(path):
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target
            return
    temporary = target.with_name(f"{target.name}.{_HERE}.{os.getpid()}.tmp")
    remove_leftovers(target.parent, target.name)
    try:
        with naming(path, temporary, target):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def replacing(path: Path) -> Iterator[IO[Any]]:
    """Open a binary file that becomes `path` when the block ends, as `placed` does it."""
    with placed(path) as temporary, temporary.open("wb") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, by `replacing`; its folder is made when it is missing.

    A byte of a path that is no UTF-8, which Python holds as half a pair, is written as JSON escapes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(archive: bytes) -> bytes:
    """A zip archive, such as an .npz, with the SHA-256 of all before it as its comment; readers of archives pass over that."""
    body = archive[:-2] + len(_seal(b"")).to_bytes(2, "little")  # an archive without a comment ends with its length, 0
    return body + _seal(body)


def is_intact(archive: bytes) -> bool | None:
    """Whether an archive is what `sealed` made; None where it has no seal."""
    if archive[-22:-18] == b"PK\x05\x06" and archive.endswith(b"\0\0"):  # its last record, with a comment of no length
        return None
    body, seal = archive[: -len(_seal(b""))], archive[-len(_seal(b"")) :]
    return seal == _seal(body)


def _seal(body: bytes) -> bytes:
    return _SEAL + hashlib.sha256(body).hexdigest().encode()


@contextmanager
def naming(path: Path, *others: Path) -> Iterator[None]:
    """Let an OSError that leaves the block name `path`, where it names no file or one of `others`, which stand for it.

    What lies in one of `others` is named as it will lie in `path`.
    """
    try:
        yield
    except OSError as error:
        there = Path(str(error.filename))
        inside = [there.relative_to(other) for other in others if there.is_relative_to(other)]
        if error.filename is None or inside:
            error.filename, error.filename2 = str(path.joinpath(*inside[:1])), None
        raise


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what processes of this machine that are gone have left beside files of this name, or beside all of a folder."""
    import psutil  # here, because this file goes into checkouts of MMRec, where it may be missing

    pattern = name if name == "*" else glob.escape(name)
    for path in folder.glob(f"{pattern}.*.tmp"):
        found = _LEFT.search(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            with suppress(OSError):
                path.unlink()


def mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file as an array, with its space on disk taken; OSError where there is too little.

    A write to a mapped file for which the disk has no room would end the process without a word.
    """
    table = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with naming(path), path.open("rb+") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return table


@contextmanager
def replacing_folder(folder: Path, wait: bool = False) -> Iterator[Path]:
    """A hidden folder to write to, which takes the place of `folder` when the block ends well, and is removed when not.

    A block that removes the hidden folder leaves all as it is. One process at a time: another waits where `wait` says so, else
    it gets filelock.Timeout. What a process left that was killed in here is cleared up first; where it had moved the old
    folder away and not put the new one in its place, the old one comes back.
    """
    import filelock

    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=-1 if wait else 0)
    with lock:
        try:
            if old.exists() and not folder.exists():
                old.rename(folder)
            _clear(old, new)
            new.mkdir()
            with naming(folder, new), told_as({new: folder}):
                yield new
            if new.exists():
                if folder.exists() and not _exchange(new, folder):
                    folder.rename(old)
                if not folder.exists():
                    new.rename(folder)
        finally:
            _clear(old, new)
            with suppress(OSError):
                Path(lock.lock_file).unlink()


def _clear(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step, so that there is one at any time; false where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
