"""Plain values in frozen dataclasses: every field is checked against its annotation when the object is made."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from perilune.errors import ConfigError

LARGEST = 2**63  # of whole numbers: what an index can hold


@dataclass(frozen=True)
class Range:
    """The numbers a field allows: from ``low`` to ``high``, ``low`` itself left out where ``above`` is True."""

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and value <= self.high and (value > self.low if self.above else value >= self.low)

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"<= {self.high:g}"
        if math.isinf(self.high):
            return f"{'>' if self.above else '>='} {self.low:g}"
        return f"{'above' if self.above else 'from'} {self.low:g} to {self.high:g}"


Count = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, above=True)]
Natural = Annotated[int, Range(0)]

T = TypeVar("T")


def from_json(cls: type[T], value: Any) -> T:
    """``cls``, a dataclass whose fields are checked, from a JSON object. A field that has a default may be left out.

    Raises:
        ConfigError: it is no such object, or one of its values is not allowed.
    """
    made = _made(cls, value)
    if made is REFUSED:
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # a dataclass
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise ConfigError(cls.__name__, found, f"an object with {', '.join(sorted(known))}")
    plain: T = made
    return plain


def check_fields(config: object) -> None:
    """Check every field against its annotation and store it in plain Python types."""
    for name, hint in _hints(type(config)).items():  # type: ignore[arg-type]  # mypy doubts that types have hashes
        value = getattr(config, name)
        plain = converted(value, hint)
        if plain is REFUSED:
            large = isinstance(value, int) and abs(value) >= LARGEST
            raise ConfigError(name, value, _words(hint) + (", and below 2**63" if large else ""))
        object.__setattr__(config, name, plain)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


REFUSED = object()


def converted(value: Any, hint: Any) -> Any:  # noqa: PLR0911 -- each kind of annotation by itself
    """``value`` as the plain type that ``hint`` asks for, or REFUSED."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        plain = converted(value, arguments[0])
        return plain if plain is not REFUSED and plain in arguments[1] else REFUSED
    if origin in (Union, types.UnionType):
        candidates = (converted(value, argument) for argument in arguments)
        return next((plain for plain in candidates if plain is not REFUSED), REFUSED)
    if origin is Literal:
        return next((choice for choice in arguments if isinstance(value, str) and choice == value), REFUSED)
    if origin is tuple:
        if not isinstance(value, list | tuple) and not (isinstance(value, np.ndarray) and value.ndim):
            return REFUSED
        hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        plain = tuple(converted(item, item_hint) for item, item_hint in zip(value, hints, strict=False))
        return plain if len(plain) == len(value) == len(hints) and REFUSED not in plain else REFUSED
    if is_dataclass(hint):
        return _made(hint, value)
    if hint is type(None):
        return None if value is None else REFUSED
    if hint is str:
        return value if isinstance(value, str) else REFUSED
    if hint is bool:
        return bool(value) if isinstance(value, bool | np.bool_) else REFUSED
    if isinstance(value, bool | np.bool_):
        return REFUSED
    if isinstance(value, int | np.integer) and abs(int(value)) < LARGEST:
        return int(value) if hint is int else float(value)
    if isinstance(value, float | np.floating) and hint is float and math.isfinite(value):
        return float(value)
    return REFUSED


def _made(cls: Any, value: Any) -> Any:
    """A dataclass from a JSON object with its fields, or REFUSED. One that has a default may be left out."""
    if isinstance(value, cls):
        return value
    needed = {field.name for field in fields(cls) if field.default is MISSING}
    if not isinstance(value, dict) or not needed <= value.keys() <= {field.name for field in fields(cls)}:
        return REFUSED
    return cls(**value)


def _words(hint: Any) -> str:  # noqa: PLR0911 -- as above
    """What ``hint`` allows, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_words(arguments[0])} {arguments[1]}"
    if origin in (Union, types.UnionType):
        return ", or ".join(_words(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a tuple, each entry {_words(arguments[0])}"
        return f"({', '.join(map(_words, arguments))})"
    if is_dataclass(hint):
        return f"an object with {', '.join(field.name for field in fields(hint))}"
    return {int: "a whole number", float: "a number", bool: "True or False", type(None): "None", str: "a text"}[hint]
