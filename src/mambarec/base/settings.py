"""What the keys of a configuration are: a class of typed fields, each with its range and a sentence.

    class BlendSettings(Settings):
        reg_weight: float = key("weight of the penalty on large parameters", ge=0)
        n_layers: int = key("graph layers", ge=0, le=1000)
        mode: Literal["sum", "mean"] = key("how the layers are put together")

A YAML holds the values. A key with a `default` need not stand in one. The limits are pydantic's: gt, ge, lt, le, pattern.
"""

import re
import types
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # true is no number, and a number in quotes is a word
_NOT_GIVEN = PydanticUndefined
_NAMES = {bool: "true or false", int: "integer", float: "number", str: "word"}
_SIGNS = {"gt": "above", "ge": "not below", "lt": "below", "le": "at most"}


class Settings(BaseModel):
    """Base of the classes that declare keys."""

    model_config = {**_STRICT, "extra": "forbid", "validate_assignment": True, "protected_namespaces": ()}


def key(
    meaning: str,
    *,
    default: Any = _NOT_GIVEN,
    later: Any = _NOT_GIVEN,
    takes: str | None = None,
    roles: str = "",
    also: str = "",
    only_with: str = "",
    **limits: Any,
) -> Any:
    """Declare a key of a `Settings` class.

    meaning: a sentence. default: the value where no YAML sets the key. later: for a key that came after its model, the value
    that computes what was computed before; with it the key is no part of a run's name, so that earlier runs keep theirs.
    takes: what the key accepts, in words, where type and limits do not say it. roles: words of `mambarec.config.keys`. also:
    other programs' names of the key. only_with: KEY=VALUE, without which the key has no effect and is no axis of a grid.
    limits: pydantic's.
    """
    about: dict[str, Any] = {
        "takes": takes,
        "roles": roles.split(),
        "also": also.split(),
        "later": [] if later is _NOT_GIVEN else [later],
        "only_with": only_with,
    }
    return Field(default, description=meaning, json_schema_extra=about, **limits)


def roles_of(field: FieldInfo) -> list[str]:
    """The roles of a declared key."""
    return _about(field).get("roles", [])


def other_names(field: FieldInfo) -> list[str]:
    """What other programs call a declared key."""
    return _about(field).get("also", [])


def only_with(settings: type[Settings]) -> dict[str, tuple[str, str]]:
    """The keys that have an effect only with one value of another key: key -> that key and its value, a word."""
    found = {name: _about(field).get("only_with") for name, field in settings.model_fields.items()}
    return {name: (value.partition("=")[0], value.partition("=")[2]) for name, value in found.items() if value}


def later(settings: type[Settings]) -> dict[str, Any]:
    """The keys that came after their model, with the value that computes what was computed before."""
    found = {name: _about(field).get("later") for name, field in settings.model_fields.items()}
    return {name: value[0] for name, value in found.items() if value}


def _about(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def checked(settings: type[Settings], name: str, value: Any) -> Any:
    """A value in the type of the declared key `name`; ValueError with the sentence of what was expected."""
    field = settings.model_fields[name]
    one = _untouched(settings).model_copy()
    try:
        setattr(one, name, _fitted(value, field.annotation))
    except ValidationError as error:
        own = error.errors()[0].get("ctx", {}).get("error")  # what a validator of the class says
        raise ValueError(str(own) if own else f"expected {with_article(accepts(field))}") from None
    return getattr(one, name)


@lru_cache(maxsize=256)
def _untouched(settings: type[Settings]) -> Settings:
    return settings.model_construct()


def like(value: Any, example: Any) -> Any:
    """A value in the type of an example, for a key that nobody declares; ValueError with the sentence of what was expected."""
    annotation = _type_of(example)
    if annotation is None:
        return value
    try:
        return _adapter(annotation).validate_python(_fitted(value, annotation))
    except ValidationError:
        words = with_article(_words(annotation, {}))
        raise ValueError(f"expected {words}, as its default {example} is") from None


def has_type(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type, such as dict[str, list[int]]. true is no number."""
    try:
        _adapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def takes_list(field: FieldInfo) -> bool:
    """Whether one value of the key is a list."""
    return any(get_origin(part) is list for part in _parts(field.annotation))


def accepts(field: FieldInfo) -> str:
    """Type and range of a key in words: 'integer above 0 and at most 1,000'."""
    return _about(field).get("takes") or _words(field.annotation, _limits(field.metadata))


def with_article(words: str) -> str:
    """'an integer above 0' of 'integer above 0'."""
    article = {"integer": "an ", "number": "a ", "word": "a ", "list": "a "}.get(re.split(r"\W", words)[0], "")
    return article + words


def _parts(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, or the type alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _fitted(value: Any, annotation: Any) -> Any:
    """A value written in the form of its type: 8 for 8.0, '3' for 3 where a word is expected, [3] for 3 where a list is."""
    parts = _parts(annotation)
    lists = [part for part in parts if get_origin(part) is list]
    if lists and value is not None:
        return [_fitted(one, get_args(lists[0])[0]) for one in (value if isinstance(value, list) else [value])]
    inner = [get_args(part)[0] if hasattr(part, "__metadata__") else part for part in parts]
    if str in inner and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return int(value) if int in inner and isinstance(value, float) and value.is_integer() else value


def _limits(metadata: Iterable[Any]) -> dict[str, float]:
    """The limits by their pydantic names."""
    found = [one for part in metadata for one in getattr(part, "metadata", [part])]  # of a Field, those that it carries
    return {name: getattr(one, name) for one in found for name in (*_SIGNS, "min_length") if hasattr(one, name)}


def _words(annotation: Any, limits: Mapping[str, float]) -> str:
    text = " or ".join(_plain_words(part, limits) for part in _parts(annotation) if part is not types.NoneType)
    return f"{text}, or null" if types.NoneType in _parts(annotation) else text


def _plain_words(annotation: Any, limits: Mapping[str, float]) -> str:
    if hasattr(annotation, "__metadata__"):  # Annotated
        inner, *more = get_args(annotation)
        return _plain_words(inner, _limits(more))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if get_origin(annotation) is list:
        element = re.sub("^(integer|number|word)", r"\1s", _plain_words(get_args(annotation)[0], {}))
        return f"list of {'one or more ' if limits.get('min_length') else ''}{element}"
    bounds = [f"{sign} {_number(limits[name])}" for name, sign in _SIGNS.items() if name in limits]
    if {"ge", "le"} <= limits.keys():
        bounds = [f"from {_number(limits['ge'])} to {_number(limits['le'])}"]
    return f"{_NAMES.get(annotation, '')} {' and '.join(bounds)}".strip()


def _number(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def _type_of(example: Any) -> Any:
    """The type of an example, such as list[int]; None where it is nobody's. 0 stands for any number."""
    if isinstance(example, list) and example:
        inner = _type_of(example[0])
        return None if inner is None else list[inner]  # type: ignore[valid-type]
    if example == 0 and type(example) is int:
        return int | float
    return next((kind for kind in _NAMES if isinstance(example, kind)), None)


@lru_cache
def _adapter(annotation: Any) -> TypeAdapter:
    return TypeAdapter(annotation, config=_STRICT)
