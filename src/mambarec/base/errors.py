"""Errors that a user can mend: shown as one message, without a traceback, with exit status 2."""

import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mambarec.base.console import printable
from mambarec.base.words import is_python, option


class UserError(Exception):
    """Base of all errors whose cause lies in what the user gave, not in the program."""


class ConfigError(UserError):
    """A configuration key or value that cannot be used."""


class DataError(UserError):
    """A data file that is missing or whose content cannot be used."""


class RunError(UserError):
    """A run that cannot be started, continued or finished."""


class ModelError(RunError):
    """A model that does not keep its contract (docs/plugin.md); where it raised an error, that is the cause."""


@contextmanager
def told_as(places: Mapping[Path, str | Path]) -> Iterator[None]:
    """Let a UserError that leaves the block name places by what the reader knows, in place of temporary files and folders.

    places: temporary path -> what to call it.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for path, name in places.items():
            text = text.replace(str(path), str(name))
        error.args = (text,)
        raise


_ELSEWHERE = "name another place ({places})"
_RIGHTS = f"this user may not use it. Change its rights (chmod, chown), or {_ELSEWHERE}"
_FILE = "<file>"  # stands for what is in the way
_GONE = f"its file system does not answer. Mount it again, or {_ELSEWHERE}"
# What a disk or a path can do to a command, by the system's number; every other OSError is a mistake of the program.
_REASONS = {
    errno.ENOSPC: f"the disk is full. Free some space, or {_ELSEWHERE}",
    errno.EDQUOT: f"your share of the disk is used up. Free some space, or {_ELSEWHERE}",
    errno.EFBIG: f"the file grows larger than the system allows (ulimit -f). Raise the limit, or {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only. Make it writable, or {_ELSEWHERE}",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: "it does not exist, or was removed meanwhile. Check the path",
    errno.ENOTDIR: f"a part of this path is a file, and a folder is expected. Move {_FILE} away, or {_ELSEWHERE}",
    errno.EEXIST: f"a file is there, and a folder is expected. Move {_FILE} away, or {_ELSEWHERE}",
    errno.EISDIR: f"a folder is there, and a file is expected. Move {_FILE} away, or {_ELSEWHERE}",
    errno.ENOTEMPTY: f"the folder is not empty. Move what is in {_FILE} away, or {_ELSEWHERE}",
    errno.ELOOP: f"its symbolic links lead in a circle. Remove the link {_FILE}, or {_ELSEWHERE}",
    errno.ENAMETOOLONG: f"the name is too long for the file system. Use a shorter one, or {_ELSEWHERE}",
    errno.EBUSY: "the system uses it. Wait, and give the command again",
    errno.ETXTBSY: "a running program uses it. Wait, and give the command again",
    errno.EMFILE: "too many files are open. Raise the limit (ulimit -n), or lower {jobs}",
    errno.ENFILE: "too many files are open on this machine. Close other programs, or lower {jobs}",
    errno.ENOMEM: "memory does not suffice. Close other programs, or lower {jobs}",
    errno.EIO: f"the disk reports an error. Check the disk, or {_ELSEWHERE}",
    errno.ESTALE: _GONE,
    errno.ENOTCONN: _GONE,
    errno.ETIMEDOUT: _GONE,
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
}
_STANDARD_OUTPUT = "standard output"


def _reason(number: int) -> str | None:
    """What an error of the system means and what to do; None for a mistake of the program."""
    places = [option("results_dir"), option("data_path"), *([] if is_python() else ["--output"])]
    text = _REASONS.get(number)
    return text and text.format(places=" or ".join([", ".join(places[:-1]), places[-1]]), jobs=option("jobs"))


def explained(error: OSError) -> str | None:
    """The path of an error of the system, what is wrong with it and what to do; None for a mistake of the program."""
    if error.errno is None and error.filename is not None:  # NumPy and others say only how much they could not write
        return f"{error.filename} cannot be written: {error.args[0] if error.args else error}. Perhaps {_reason(errno.ENOSPC)}"
    reason = _reason(error.errno or 0)
    if reason is None:
        return None
    if error.filename is None and _failure(sys.stdout, "\n"):
        error.filename = _STANDARD_OUTPUT
    taken = error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST)  # what a file was to be moved to
    path = (error.filename2 if taken else None) or error.filename
    place = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else "a file"
    return f"{place}: {reason.replace(_FILE, _in_the_way(place))}"


def _in_the_way(place: str) -> str:
    """The part of a path that is a file, where one is; else the path."""
    with suppress(OSError):
        return str(next((part for part in Path(place).parents if part.is_file()), place))
    return place


def exit_status(work: Callable[[], int | None], stopped: str) -> int:
    """Do the work of a command. Returns what it returns, or 0; 2 after an error that a user can mend; 130 after Ctrl-C.

    These errors are a UserError, and what a disk, a path or its rights do to a command (`explained`): each is shown as a
    message. A mistake of the program keeps its traceback. stopped: what to say after Ctrl-C. A reader that has seen enough, as
    in `… | head`, is no error.
    """
    try:
        status = work() or 0
    except UserError as error:
        status = _end(f"error: {error}", 2)
    except KeyboardInterrupt:
        status = _end(f"\n{stopped}", 130)
    except BrokenPipeError:
        if not isinstance(_failure(sys.stdout, "\n"), BrokenPipeError):  # another pipe
            raise
        return 0
    except OSError as error:
        text = explained(error)
        if text is None:
            raise
        status = _end(f"error: {text}", 2)
    except MemoryError:
        status = _end(f"error: {_reason(errno.ENOMEM)}", 2)
    except Exception as error:
        if not _was_interrupted(error):
            raise
        status = _end(f"\n{stopped}", 130)
    except SystemExit:  # of argparse, after its help
        if lost := _lost_output():
            return _end(lost, 2)
        raise
    lost = _lost_output()
    return _end(lost, 2) if lost and status == 0 else status


def _lost_output() -> str | None:
    """What to say where standard output could not be written to its end."""
    failure = _failure(sys.stdout)
    if failure is None or isinstance(failure, BrokenPipeError):
        return None
    failure.filename = _STANDARD_OUTPUT
    return f"error: {explained(failure) or failure}"


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: some libraries raise another while they clear up."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _end(message: str, status: int) -> int:
    if sys.stderr is not None:
        _failure(sys.stderr, printable(message) + "\n")
    return status


def _failure(stream: IO[str] | None, more: str = "") -> OSError | None:
    """Write what a stream still holds, and more. Returns why it cannot be written; it leads nowhere after that."""
    if stream is None:
        return None
    try:
        print(more, end="", file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
