"""Validate dataclass fields and JSON objects against their annotations, with msgspec.

Ranges are part of a type: ``Annotated[int, Meta(ge=1)]``. Do not combine such an integer with a tuple in a union:
msgspec 0.22 crashes.
"""

from __future__ import annotations

import math
import types
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta

from perilune.errors import ConfigError

LARGEST = 2**63 - 1  # the largest integer that can be an index
EXACT = 2**53  # float64 represents every integer up to this one

Count = Annotated[int, Meta(ge=1, le=LARGEST)]
Natural = Annotated[int, Meta(ge=0, le=LARGEST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
T = TypeVar("T")
NAMES = {int: "a whole number", float: "a number", bool: "True or False", type(None): "None", str: "a string"}


def check_fields(config: object) -> None:
    """Convert every field of a frozen dataclass to the plain Python type of its annotation.

    Accept NumPy scalars and arrays, lists for tuples, and integral floats for integers (1e5).

    Raises:
        ConfigError: a value has another type, lies outside its range, is not finite, or is an integer >= 2**63.
    """
    for name, hint in _hints(type(config)).items():  # type: ignore[arg-type]  # mypy does not treat types as hashable
        object.__setattr__(config, name, check_value(name, getattr(config, name), hint))


def check_value(name: str, value: Any, hint: Any) -> Any:
    """Return ``value`` as the plain Python type ``hint``. Raise ConfigError as ``check_fields`` does."""
    try:
        return msgspec.convert(_plain(value), hint)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(name, value, description(hint)) from error


def from_json(content: bytes, cls: type[T]) -> T:
    """Decode a JSON object as ``cls``. Fields with a default may be missing. Unknown fields raise an error.

    Raises:
        ConfigError: the JSON is malformed, or a value does not fit its annotation.
    """
    try:
        made = msgspec.json.decode(content, type=cls)
        unknown = _unknown(content, made)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(cls.__name__, str(error)[:300], "a valid JSON object") from error
    if unknown is not None:
        raise ConfigError(f"{cls.__name__} field", unknown, "a known field")
    return made


def description(hint: Any) -> str:
    """Describe the values that ``hint`` allows, such as "a whole number >= 1, or None"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{description(arguments[0])} {_range(arguments[1])}"
    if origin in (Union, types.UnionType):
        return ", or ".join(map(description, arguments))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a tuple in which each entry is {description(arguments[0])}"
    if origin is tuple:
        return f"({', '.join(map(description, arguments))})"
    return NAMES.get(hint, f"an object of type {getattr(hint, '__name__', hint)}")


def _range(meta: Meta) -> str:
    if meta.ge is not None and meta.le is not None and meta.le != LARGEST:
        return f"from {meta.ge:g} to {meta.le:g}"
    ends = {">": meta.gt, ">=": meta.ge, "<": meta.lt, "<=": None if meta.le == LARGEST else meta.le}
    return " and ".join(f"{sign} {end:g}" for sign, end in ends.items() if end is not None)


def _plain(value: Any) -> Any:
    """Convert NumPy values, tuples and integral floats to plain Python values. Reject sets and non-finite numbers."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        raise TypeError("sets are not ordered")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise OverflowError("integers must be below 2**63")
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise ValueError("numbers must be finite")
    return int(value) if value.is_integer() and abs(value) < EXACT else value


def _unknown(content: bytes | msgspec.Raw, made: object) -> str | None:
    """Return the name of a field in JSON that the object ``made`` of it does not have, at any depth outside of lists.

    Only dataclasses ignore unknown fields. Lists are not decoded again, because a checkpoint may have a long one.
    """
    names = getattr(made, "__struct_fields__", None) or getattr(made, "__dataclass_fields__", ())
    if not names:
        return None
    for name, value in msgspec.json.decode(content, type=dict[str, msgspec.Raw]).items():
        found = _unknown(value, getattr(made, name)) if name in names else name
        if found is not None:
            return found
    return None


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)
