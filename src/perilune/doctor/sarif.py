"""Convert a report to SARIF 2.1.0, the format in which editors and code hosts read the findings of analysis tools.

Standard: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, 2020.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perilune.doctor import catalogue
from perilune.doctor.report import Finding, Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"limit": "warning", "crash": "error"}  # of checks that did not run, by cause


def as_sarif(report: Report, agent: str) -> dict[str, Any]:
    """Return a report as a SARIF log.

    Args:
        report: The report.
        agent: The examined agent, as ``FILE:FACTORY``. Findings without a line are located at the first line of the
            file, because code hosts reject a log with a result that has no location.

    Returns:
        A JSON object.
    """
    file = agent.rpartition(":")[0]
    ids = [finding.id for finding in report.findings]
    driver = {"name": "perilune doctor", "version": version("perilune"), "rules": [_rule(name) for name in ids]}
    invocation = {
        "executionSuccessful": report.outcome in ("healthy", "faults"),
        "exitCode": report.exit_status,
        "exitCodeDescription": report.verdict,
        "toolExecutionNotifications": [
            {"level": LEVELS.get(one.cause, "note"), "message": {"text": f"{one.check}: {one.why}"}}
            for one in report.not_run
        ],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "results": [_result(finding, index, file) for index, finding in enumerate(report.findings)],
        "columnKind": "unicodeCodePoints",
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str) -> dict[str, Any]:
    """Return the entry of the catalogue as a SARIF reporting descriptor."""
    entry = catalogue.entries()[name]
    page = catalogue.page(name).strip()
    return {
        "id": name,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": entry.why},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": entry.severity},
        "properties": {"tags": [entry.component]},
    }


def _result(finding: Finding, index: int, file: str) -> dict[str, Any]:
    """Return a finding as a SARIF result."""
    uri = _uri(finding.file or file)
    region = {"startLine": finding.line or 1} | ({"snippet": {"text": finding.code}} if finding.line else {})
    cause = f" This follows from {finding.caused_by}." if finding.caused_by else ""
    # The number of the line is not part of the identity, so that edits above the line do not change it.
    identity = hashlib.sha256(f"{finding.id}\n{uri}\n{finding.code}".encode()).hexdigest()
    return {
        "ruleId": finding.id,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": f"{finding.title}. {finding.evidence}{cause} {finding.fix}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}],
        "partialFingerprints": {"findingAndCode/v1": identity},
    }


def _uri(file: str) -> str:
    """Return the URI of a file, relative to the working directory if the file is below it."""
    path = Path(file).resolve()
    here = Path.cwd()
    return quote(path.relative_to(here).as_posix()) if path.is_relative_to(here) else path.as_uri()
