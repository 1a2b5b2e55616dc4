"""Write values as TOML. Python and msgspec only read it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

NONE = "none"
"""The string that stands for None, which TOML does not have."""


def entry(name: str, value: Any) -> str:
    """Return ``name = value`` as a line of TOML.

    Args:
        name: the key.
        value: None, a string, number or boolean, or a list, tuple or mapping of these.

    Raises:
        ValueError: TOML cannot represent the value, or would read it as None.
    """
    if value == NONE:
        raise ValueError("the string 'none' stands for None")
    return f"{_key(name)} = {_value(NONE if value is None else value)}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    match value:
        case bool() | str():
            text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            text.encode()  # lone surrogates have no UTF-8
            return text
        case int():
            return str(value)
        case float():
            return repr(float(value))  # not that of a NumPy scalar
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping() if all(isinstance(key, str) for key in value):
            return f"{{{', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())}}}"
    raise ValueError(f"TOML cannot represent {type(value).__name__}")
