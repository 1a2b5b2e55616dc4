"""Findings whose evidence was observed in a running program."""

from __future__ import annotations

import linecache
from dataclasses import replace

from perilune.doctor import catalogue
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
