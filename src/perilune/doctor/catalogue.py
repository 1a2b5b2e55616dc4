"""The catalogue of findings, read from the Markdown files in ``findings/``.

``findings/COMPONENT/NAME.md`` describes the finding ``COMPONENT.NAME``. Its title names the fault, and its sections are
``SECTIONS``. The front matter has the severity, and optionally ``clues`` and ``calls``, which locate the line at fault.
``findings/COMPONENT/index.md`` explains the component and defines defaults for its findings. ``findings/causes.toml``
lists which findings are consequences of others.
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

from perilune._utils.text import nearest
from perilune.doctor.report import Finding, Points, Spread
from perilune.errors import ConfigError

FILES = resources.files("perilune.doctor") / "findings"
SECTIONS = ("Why it matters", "Evidence", "Fix", "How to check")


@cache
def components() -> dict[str, dict[str, Any]]:
    """Return the front matter of every component's index.md."""
    directories = sorted((directory for directory in FILES.iterdir() if directory.is_dir()), key=str)
    return {directory.name: _parse(f"{directory.name}.index")[0] for directory in directories}


@cache
def entries() -> dict[str, Finding]:
    """Return every finding by its id. The evidence is a template."""
    found = {}
    for component, defaults in components().items():
        for file in sorted((FILES / component).iterdir(), key=str):
            name = f"{component}.{file.name.removesuffix('.md')}"
            if file.name == "index.md":
                continue
            head, body = _parse(name)
            title, *sections = re.split(r"^## (?:.+)\n", body, flags=re.MULTILINE)
            why, evidence, fix, how_to_check = sections
            fix, _, example = fix.partition("```python\n")
            found[name] = Finding(
                id=name,
                severity=head["severity"],
                title=_one_line(title).removeprefix("# "),
                why=_one_line(why),
                evidence=_one_line(evidence),
                fix=_one_line(fix),
                example=example.rstrip().removesuffix("```").rstrip(),
                how_to_check=_one_line(how_to_check),
                clues=(*head.get("clues", ()), *defaults.get("clues", ())),  # the more specific first
                calls=tuple(head.get("calls", defaults.get("calls", ("train_batch",)))),
            )
    return found


def page(name: str) -> str:
    """Return the Markdown page of a finding or a component. Names in brackets stand for measured values."""
    evidence, *rest = _parse(f"{name}.index" if name in components() else name)[1].partition("## Fix\n")
    return "".join([re.sub(r"{(\w+)[^{}]*}", r"[\1]", evidence), *rest])


def explanation(name: str) -> str:
    """Return the page about a finding, or about a component and its findings.

    Raise ConfigError if there is no such page. The message suggests similar names.
    """
    known = [*components(), *entries()]
    if name not in known:
        words = {one.partition(".")[2]: one for one in known} | {one: one for one in known}
        near = [words[word] for word in nearest(name, words)]
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Components: {', '.join(components())}"
        raise ConfigError("explain", name, f"a finding or a component. {hint}")
    findings = [f"- `{one.id}`: {one.title}\n" for one in entries().values() if one.component == name]
    return page(name) + ("\n## Findings\n\n" + "".join(findings) if findings else "")


def component_of(method: str | None) -> str | None:
    """Return the component that a method of the adapter belongs to."""
    return next((name for name, head in components().items() if method in head.get("methods", ())), None)


@cache
def causes() -> dict[str, list[str]]:
    """Return the consequences of findings: pattern of a cause's id -> patterns of the ids that follow from it."""
    return tomllib.loads((FILES / "causes.toml").read_text(encoding="utf-8"))


def finding(name: str, *, where: str | None = None, picture: Points | Spread | None = None, **values: Any) -> Finding:
    """Return the finding ``name``, with ``values`` filled into the template of its evidence."""
    entry = entries()[name]
    return replace(entry, evidence=_Evidence().format(entry.evidence, **values), where=where, picture=picture)


def listed(values: ArrayLike) -> str:
    """Format numbers as a list, with three significant digits each."""
    return "[" + ", ".join(f"{value:.3g}" for value in np.asarray(values)) + "]"


class _Evidence(string.Formatter):
    """Format lists and arrays of numbers with ``listed``."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return listed(value) if isinstance(value, list | np.ndarray) else str(super().format_field(value, format_spec))


def _parse(name: str) -> tuple[dict[str, Any], str]:
    """Return the front matter of a file, whose values are JSON, and its body."""
    text = (FILES / f"{name.replace('.', '/')}.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", maxsplit=2)
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in front.splitlines())}, body


def _one_line(text: str) -> str:
    return " ".join(text.split())
