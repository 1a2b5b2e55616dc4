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
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from perilune.doctor.report import Entry, Finding, Points, Spread

FILES = resources.files("perilune.doctor") / "findings"


@cache
def _files() -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    """Return front matter and sections of every Markdown file by its id."""
    directories = [directory for directory in FILES.iterdir() if directory.is_dir()]
    files = [file for directory in sorted(directories, key=str) for file in sorted(directory.iterdir(), key=str)]
    parsed = [_parse(file.read_text(encoding="utf-8")) for file in files]
    return {head["id"]: (head, sections) for head, sections in parsed}


@cache
def entries() -> dict[str, Entry]:
    """Return every entry by its id."""
    found = {}
    for name, (head, sections) in _files().items():
        if "." not in name:  # a component
            continue
        defaults, _ = _files()[head["component"]]
        fix, _, example = sections["Fix"].partition("```python\n")
        found[name] = Entry(
            id=name,
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
    return next((name for name, (head, _) in _files().items() if method in head.get("methods", ())), None)


@cache
def causes() -> dict[str, list[str]]:
    """Return which findings follow from which: pattern of ids -> patterns of ids."""
    return tomllib.loads((FILES / "causes.toml").read_text(encoding="utf-8"))


def finding(
    name: str, *, where: str | None = None, picture: Points | Spread | None = None, check: str = "", **values: Any
) -> Finding:
    """Return the finding ``name`` with ``values`` filled into its template of the evidence."""
    entry = vars(entries()[name])
    evidence = _EvidenceFormatter().format(entry["evidence"], **values)
    return Finding(**entry | {"evidence": evidence}, where=where, picture=picture, check=check)


def listed(values: ArrayLike) -> str:
    """Format numbers for evidence: three digits each."""
    return "[" + ", ".join(f"{value:.3g}" for value in np.asarray(values)) + "]"


class _EvidenceFormatter(string.Formatter):
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
