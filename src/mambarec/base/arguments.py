"""What a function of the Python interface is given, checked and in Python's own types: a numpy number is as good as another.

Each function gets the argument's name for its message, and raises ConfigError for a value of another type or out of range.
One name stands for a list of this one name wherever several can be given.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np

from mambarec.base.errors import ConfigError
from mambarec.base.places import at_home

_LONGEST = 80  # characters of a value in a message
_T = TypeVar("_T")


def refused(name: str, value: Any, expected: str) -> ConfigError:
    """The error for an argument: what it is, and what was expected."""
    text = " ".join(repr(value).split())
    return ConfigError(f"{name}={text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'}; expected {expected}")


def word(name: str, value: Any, expected: str = "one name") -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise refused(name, value, expected)
    return str(value)


def words(name: str, value: Any, least: int = 1) -> list[str]:
    """One or several texts, at least so many."""
    expected = "a name, or a list of names"
    return [word(name, one, expected) for one in _several(name, value, expected, str, least)]


def whole(name: str, value: Any, least: int) -> int:
    """A whole number that is not below `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise refused(name, value, "a whole number above 0" if least == 1 else f"a whole number, {least} or larger")
    return int(value)


def wholes(name: str, value: Any, least: int) -> list[int]:
    """One or several whole numbers."""
    expected = "a whole number, or a list of whole numbers"
    return [whole(name, one, least) for one in _several(name, value, expected, int | np.integer)]


def each_once(name: str, values: list[_T]) -> list[_T]:
    """Values of which none is given twice, in capitals or not: a second one would be passed over."""
    forms = [value.lower() if isinstance(value, str) else value for value in values]
    twice = [value for i, value in enumerate(values) if forms[i] in forms[:i]]
    if twice:
        raise ConfigError(f"{name} names {twice[0]} twice")
    return values


def identifier(name: str, value: Any, expected: str = "an id, a word or a whole number") -> str:
    """The id of a user or an item, as a text."""
    if not isinstance(value, str | int | np.integer) or isinstance(value, bool):
        raise refused(name, value, expected)
    return str(value)


def identifiers(name: str, value: Any) -> list[str]:
    """The ids of one or several users."""
    expected = "an id, or a list of ids; an id is a word or a whole number"
    return [identifier(name, one, expected) for one in _several(name, value, expected, str | int | np.integer)]


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise refused(name, value, "True or False")
    return bool(value)


def place(name: str, value: Any) -> Path:
    """The path of a file or a folder."""
    if not isinstance(value, str | PurePath) or not str(value) or "\0" in str(value):
        raise refused(name, value, "a path")
    return at_home(value)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of some words."""
    if not isinstance(value, str) or value not in choices:
        raise refused(name, value, f"one of {', '.join(choices)}")
    return value


def plain(name: str, value: Any) -> Any:
    """The value of a setting, made of None, truth values, numbers, texts, lists, and mappings of texts to these.

    A tuple, an array, a range or a generator becomes a list, and a path a text. A set has no order and is refused.
    """
    if isinstance(value, np.floating):
        value = float(str(value))  # 0.1 for a float32 of 0.1
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(name, one) for key, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping | set | frozenset):
        return [plain(name, one) for one in value]
    raise refused(name, value, "a number, a word, True, False, None, or a list of these")


def _several(name: str, value: Any, expected: str, one: Any, least: int = 1) -> list[Any]:
    """The values of an argument that takes one or several."""
    if isinstance(value, one):
        return [value]
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise refused(name, value, expected)
    found = _listed(value)
    if len(found) < least:
        raise refused(name, found, f"at least one: {expected}")
    return found


def _listed(value: Iterable[_T]) -> list[_T]:
    """The values in their order; those of a set in one that is the same each time."""
    if isinstance(value, set | frozenset):
        return sorted(
            value, key=lambda one: (isinstance(one, str), one if isinstance(one, str | int | np.integer) else repr(one))
        )
    return list(value)
