"""The words of messages, such as commands, options, counts and durations; and the numbers that options take."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePath
from typing import Any

from mambarec.base.commands import COMMANDS

_STAND_INS = ("NAME", "N", "VALUE", "FILE", "FOLDER", "DIRECTORY")
# While a function of the Python interface works: what it calls the options that have another name there. Else None.
_arguments: ContextVar[Mapping[str, str] | None] = ContextVar("arguments", default=None)


def positive(text: str) -> int:
    """The value of an option that must be a whole number above 0; argparse names the option and what was given."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text}; expected a whole number above 0")
    return int(text)


def part_of_one(text: str) -> float:
    """The value of an option that must be a number above 0 and at most 1."""
    return _number(text, 1, "a number above 0 and at most 1")


def factor(text: str) -> float:
    """The value of an option that must be a number above 0 and at most 1,000."""
    return _number(text, 1000, "a number above 0 and at most 1000")


def decimal_hint(value: Any) -> str:
    """What to write in place of 0,001, a number with a decimal comma; '' for any other value."""
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?\d*,\d+", value)
    return f". The decimal sign is a point: {value.replace(',', '.')}" if is_number else ""


def _number(text: str, most: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text}; expected {expected}{decimal_hint(text)}")
    return value


def count(number: int, thing: str) -> str:
    """'1 seed', '3 seeds', '1000 epochs'."""
    return f"{number} {thing}{'s' * (number != 1)}"


def amount(number: int, thing: str) -> str:
    """As `count`, for numbers that may be large: '19,445 users'."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """In seconds, minutes or hours, whichever suits its length."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def listed(texts: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def command_text(arguments: Sequence[str]) -> str:
    """A program's sys.argv as a command to type: 'mambarec train …', or 'python main.py …'."""
    program, *words = arguments
    return shlex.join([*(program.split() if program.startswith("mambarec ") else ["python", Path(program).name]), *words])


def command(name: str, *words: str) -> str:
    """A command for the reader to type, such as `mambarec report table`. Every message that names a command gets it from here.

    Someone who started a program of src/ reads `python report.py table`.
    """
    started = Path(sys.argv[0]).name if sys.argv and not is_python() else ""
    is_program = started in {one.program for one in COMMANDS.values()}
    typed = ["python", COMMANDS[name].program, *COMMANDS[name].before] if is_program else ["mambarec", name]
    return " ".join([*typed, *words])


@contextmanager
def in_python(arguments: Mapping[str, str] | None) -> Iterator[None]:
    """Let messages that are made in this block name arguments of a Python function, and not options of a command.

    arguments: option -> argument, where the two have different names. None: messages name options, as they do outside.
    """
    before = _arguments.set(arguments)
    try:
        yield
    finally:
        _arguments.reset(before)


def argument_names() -> Mapping[str, str] | None:
    """What `in_python` was given, to hand it on to another process."""
    return _arguments.get()


def is_python() -> bool:
    """Whether the reader calls functions, and types no commands."""
    return _arguments.get() is not None


def option(name: str, *values: Any) -> str:
    """An option with its values as the reader gives it: for messages that a function of the Python interface can raise.

    On the command line '--seed 1 2', and for the value True '--restart'. In Python 'seed=[1, 2]' and 'restart=True'; without
    values 'seed='. One of _STAND_INS stands for what the reader puts there. name: 'seed', or '-m'.
    """
    names = _arguments.get()
    if names is None:
        return " ".join([name if name.startswith("-") else f"--{name}", *(str(value) for value in values if value is not True)])
    written = [value if value in _STAND_INS else repr(_as_text(value)) for value in values]
    argument = names.get(name, name).lstrip("-").replace("-", "_")
    return f"{argument}={', '.join(written)}" if len(written) < 2 else f"{argument}=[{', '.join(written)}]"


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def resumed() -> str:
    """How to go on with a run that was stopped."""
    return "call mr.train() again with its settings" if is_python() else "give its command again, with --resume"


def value_text(value: Any) -> str:
    """A setting's value as the command line takes it: 'a,b' for a list."""
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value}"


def seeds_text(seeds: Iterable[int]) -> str:
    """'seed 1', 'seeds 1, 2, 3', in order; 'no seed'."""
    ordered = sorted(seeds)
    return f"seed{'s' * (len(ordered) > 1)} {', '.join(map(str, ordered))}" if ordered else "no seed"
