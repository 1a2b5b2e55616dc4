"""The docstrings of the public API: every argument, result and field is described."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[1] / "docs" / "reference" / "api"
MODULES = sorted(
    {name for page in PAGES.glob("*.md") for name in re.findall(r"automodule:: ([\w.]+)", page.read_text("utf-8"))}
)


def documented(module: str) -> Iterator[tuple[str, Any]]:
    """Yield the public functions, classes and methods that ``module`` defines, by their names."""
    for name, value in vars(importlib.import_module(module)).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value
        for part, member in vars(value).items() if inspect.isclass(value) else ():
            inherited = any(hasattr(base, part) for base in value.__mro__[1:])
            if inspect.isfunction(member) and not part.startswith("_") and not (inherited and not member.__doc__):
                yield f"{name}.{part}", member


def section(text: str, title: str) -> str:
    found = re.search(rf"^{title}:\n((?:\s+.*\n?|\n)+)", text, re.MULTILINE)
    return found[1] if found else ""


def missing(value: Any) -> list[str]:
    """Return what the docstring of ``value`` does not describe."""
    text = inspect.getdoc(value) or ""
    if not text:
        return ["docstring"]
    own_init = not inspect.isclass(value) or ("__init__" in vars(value) and not getattr(value, "_is_protocol", False))
    signature = inspect.signature(value) if own_init and not hasattr(value, "_fields") else inspect.Signature()
    names = [name for name in signature.parameters if name not in ("self", "cls") and not name.startswith("_")]
    arguments = section(text, "Args") + section(text, "Attributes")
    described = [name for name in names if not re.search(rf"\b{name}\b.*:", arguments)]
    returns = inspect.isfunction(value) and signature.return_annotation not in ("None", None, "NoReturn")
    summary = text.partition("\n")[0]
    says_result = (
        re.match(r"(Return|Yield|Iterate|Whether|True)", summary) or "Returns:\n" in text or "Yields:\n" in text
    )
    return described + (["Returns"] if returns and not says_result else [])


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_describe_arguments_and_results(module: str) -> None:
    gaps = {name: gap for name, value in documented(module) if (gap := missing(value))}
    assert gaps == {}
