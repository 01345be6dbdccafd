"""YAML files and words of the command line, read as plain values.

No tag makes an object, and aliases cannot make much of little.
"""

import copy
import itertools
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from mambarec.base.bounded import read_text
from mambarec.base.errors import ConfigError

_BYTES, _VALUES = 2**20, 100_000  # of a file; in a file, its aliases written out


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice and reads numbers as one writes them.

    1e-4 is a float, where YAML 1.1 wants 1.0e-4. 010 and 1:30 are words, where YAML 1.1 has 8 and 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict = {}  # key -> its line, from 0
        for place, _ in node.value:
            if place.tag.endswith(":merge"):
                continue
            key = self.construct_object(place, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r}: expected a word", place.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is given twice, first in line {seen[key] + 1}. Remove one", place.start_mark
                )
            seen[key] = place.start_mark.line
        return super().construct_mapping(node, deep)


_INTEGER, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in (_INTEGER, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INTEGER, re.compile(r"^[-+]?(0|[1-9][\d_]*|0b[01_]+|0x[\da-fA-F_]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|^[-+]?(\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _load(text: str) -> Any:
    """What a YAML text holds; ValueError where that is more, or of another kind, than a setting can be."""
    return copy.deepcopy(_parsed(text))


@lru_cache(maxsize=256)  # a study or a grid reads the same few files for each of its trials
def _parsed(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _VALUES:
            raise ValueError(f"it has more than {_VALUES:,} values, its aliases written out")
        content = loader.construct_document(node)
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None
    finally:
        loader.dispose()
    _check_plain(content)
    return content


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node has, each alias replaced by what it stands for. known: by the node's id; 0 while it is open."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0
        parts = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    elif not known[id(node)]:
        raise ValueError("an alias stands within what it names")
    return known[id(node)]


def _check_plain(value: Any) -> None:
    """ValueError unless a value is made of words, numbers, truth values, nulls, lists, and mappings of words to these."""
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                raise ValueError(f"key {key!r}: expected a word; put it between quotes if it is meant")
            _check_plain(one)
    elif isinstance(value, list):
        for one in value:
            _check_plain(one)
    elif not (value is None or isinstance(value, str | int | float)):
        raise ValueError(f"{value!r} is a {type(value).__name__}; put it between quotes to have a word")


def parse_value(text: str) -> Any:
    """Read one command-line word as YAML: numbers, true/false, null, [lists], else a string."""
    try:
        return _load(text)
    except (yaml.YAMLError, ValueError):
        return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; ConfigError names the file and the line that does not parse.

    No tag makes an object, and aliases cannot make much of little.
    """
    try:
        content = _load(read_text(path, _BYTES))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        words = ", ".join(filter(None, [error.context, error.problem]))
        raise ConfigError(f"{path} is not valid YAML{line}: {words}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected 'key: value' lines")
    return content
