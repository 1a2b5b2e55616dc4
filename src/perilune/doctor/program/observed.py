"""Findings whose evidence was observed in a running program."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from perilune.doctor import catalogue
from perilune.doctor.program.instrument import Node
from perilune.doctor.report import Finding


def observed(name: str, evidence: str, line: str = "") -> Finding:
    """Return the finding ``name`` of the catalogue with this evidence.

    Args:
        name: Id of the finding.
        evidence: The measurements, in whole sentences.
        line: The line at fault, ``file:line``, or "".
    """
    file, _, number = line.rpartition(":")
    code = linecache.getline(file, int(number)).strip() if file and number.isdecimal() else ""
    return replace(catalogue.entries()[name], evidence=evidence, where=line or None, code=code)


def likely(name: str, nodes: Iterable[Node]) -> str:
    """Return the line of a program that is the likeliest cause of a finding, ``file:line``, or "".

    Args:
        name: Id of the finding.
        nodes: What the program computes.
    """
    lines = {(node.file, node.line): linecache.getline(node.file, node.line) for node in nodes}
    for clue in catalogue.entries()[name].clues:
        for (file, line), code in lines.items():
            if re.search(clue, code.partition("#")[0].strip()):
                return f"{file}:{line}"
    return ""


def set_at(trace: Any, names: set[str], value: str) -> list[str]:
    """Return the lines that set a variable or an attribute, ``file:line``.

    Args:
        trace: The finished trace of the program.
        names: Names of the variable, without the objects that it belongs to.
        value: Pattern of the operator and the value.
    """
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})(, *[\w.]+)*(: *\w+)? *{value}(?!=)")
    return [
        f"{file}:{number}"
        for file in dict.fromkeys(one.file for one in trace.nodes)
        for number, text in enumerate(linecache.getlines(file), 1)
        if names and pattern.search(text.partition("#")[0])
    ]
