"""The catalogue of findings, read from the Markdown files in ``findings/``.

``findings/COMPONENT/NAME.md`` describes the finding ``COMPONENT.NAME``: severity and title in its front matter, and in
sections the meaning, a template of the evidence, the fix and how to check it. ``findings/COMPONENT/index.md`` explains
the component and has defaults for its findings. ``findings/causes.toml`` lists which findings follow from others.
"""

from __future__ import annotations

import json
import re
import string
import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from perilune.doctor.report import Finding, Points, Spread

FILES = resources.files("perilune.doctor") / "findings"


@cache
def _components() -> dict[str, dict[str, Any]]:
    """Return the front matter of every component's index.md."""
    directories = sorted((directory for directory in FILES.iterdir() if directory.is_dir()), key=str)
    return {directory.name: _parse((directory / "index.md").read_text("utf-8"))[0] for directory in directories}


@cache
def entries() -> dict[str, Finding]:
    """Return every finding by its id, with a template in place of the evidence."""
    found = {}
    for component, defaults in _components().items():
        for file in sorted((FILES / component).iterdir(), key=str):
            if file.name != "index.md":
                head, sections = _parse(file.read_text("utf-8"))
                fix, _, example = sections["Fix"].partition("```python\n")
                found[head["id"]] = Finding(
                    id=head["id"],
                    severity=head["severity"],
                    title=head["title"],
                    meaning=_one_line(sections["What it means"]),
                    evidence=_one_line(sections["Evidence"]),
                    fix=_one_line(fix),
                    example=example.removesuffix("```").rstrip(),
                    how_to_check=_one_line(sections["How to check"]),
                    clues=tuple(head.get("clues", defaults.get("clues", ()))),
                    calls=tuple(head.get("calls", defaults.get("calls", ("train_batch",)))),
                )
    return found


def component_of(method: str | None) -> str | None:
    """Return the component that a method of the adapter belongs to."""
    return next((name for name, head in _components().items() if method in head.get("methods", ())), None)


@cache
def causes() -> dict[str, list[str]]:
    """Return which findings follow from which: pattern of ids -> patterns of ids."""
    return tomllib.loads((FILES / "causes.toml").read_text(encoding="utf-8"))


def finding(name: str, *, where: str | None = None, picture: Points | Spread | None = None, **values: Any) -> Finding:
    """Return the finding ``name`` with ``values`` filled into its template of the evidence."""
    entry = entries()[name]
    return replace(entry, evidence=_Evidence().format(entry.evidence, **values), where=where, picture=picture)


def listed(values: ArrayLike) -> str:
    """Format numbers for evidence: three digits each."""
    return "[" + ", ".join(f"{value:.3g}" for value in np.asarray(values)) + "]"


class _Evidence(string.Formatter):
    """Formats lists and arrays of numbers with ``listed``."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return listed(value) if isinstance(value, list | np.ndarray) else str(super().format_field(value, format_spec))


def _parse(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Split a file into its front matter, whose values are JSON, and its sections by their headings."""
    _, front, body = text.split("---\n", maxsplit=2)
    head = {key: json.loads(value) for key, _, value in (line.partition(": ") for line in front.splitlines())}
    parts = re.split(r"^## (.+)\n", body, flags=re.MULTILINE)
    return head, {name: part.strip() for name, part in zip(parts[1::2], parts[2::2], strict=True)}


def _one_line(text: str) -> str:
    return " ".join(text.split())
