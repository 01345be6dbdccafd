"""Errors that a user can mend: shown as one message, without a traceback, with exit status 2."""

import os
import sys
from collections.abc import Callable

from utils.console import printable


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


def exit_status(work: Callable[[], int | None], stopped: str) -> int:
    """Do the work of a command. Returns what it returns, or 0; 2 after a UserError, whose message is shown; 130 after Ctrl-C.

    stopped: what to say after Ctrl-C. A reader that has seen enough, as in `… | head`, is no error.
    """
    try:
        status = work() or 0
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        if not _reader_has_left("\n"):  # another pipe
            raise
        return 0
    _reader_has_left()
    return status


def _reader_has_left(more: str = "") -> bool:
    """Write what standard output still holds, and more; whether nobody reads it any longer, after which it leads nowhere."""
    if sys.stdout is None:
        return False
    try:
        print(more, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
