"""The result of an examination: findings, checks that did not run, and the verdict."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from perilune._utils.arrays import Array

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Points(NamedTuple):
    """A scatter plot of measured and expected values.

    Attributes:
        title: Title of the plot.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        x: Horizontal positions, (N,).
        found: Values measured on the agent, (N,).
        expected: Values of a correct agent, (N,).
    """

    title: str
    x_label: str
    y_label: str
    x: Array
    found: Array
    expected: Array


class Spread(NamedTuple):
    """Histograms of several groups of values.

    Attributes:
        title: Title of the plot.
        x_label: Label of the horizontal axis.
        groups: The values of each group, by its name.
    """

    title: str
    x_label: str
    groups: dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, or a note.

    Attributes:
        id: ``component.name``, where component is the part of the agent at fault.
        severity: "error", "warning" or "note". A note is not a fault.
        title: The fault, in one sentence.
        why: How the fault affects learning.
        evidence: The measurements that prove the fault. In the catalogue, a template for them.
        fix: The smallest change that fixes the fault.
        example: Code before and after the fix.
        how_to_check: How to confirm the fix yourself.
        where: The likeliest line of your code, as ``file:line``, or None if unknown.
        caused_by: The id of the finding that causes this one, or None.
        check: The title of the check that found it.
        picture: A plot for the HTML report, or None.
        clues: Regular expressions that match the line at fault, the most specific first.
        calls: The agent's methods in which the doctor searches for that line.
    """

    id: str
    severity: Severity
    title: str
    why: str
    evidence: str
    fix: str
    example: str
    how_to_check: str
    where: str | None = None
    caused_by: str | None = None
    check: str = ""
    picture: Points | Spread | None = field(default=None, repr=False, compare=False)
    clues: tuple[str, ...] = field(default=(), repr=False)
    calls: tuple[str, ...] = field(default=("train_batch",), repr=False)

    @property
    def component(self) -> str:
        """The part of the agent at fault, such as "td_target"."""
        return self.id.partition(".")[0]

    @property
    def explain(self) -> str:
        """The command that prints the page about this finding."""
        return f"perilune doctor --explain {self.id}"

    @property
    def parts(self) -> dict[str, str]:
        """The parts of the finding that a report shows, by label. Empty parts are omitted."""
        file, _, line = (self.where or ":0").rpartition(":")
        parts = {
            "why": self.why,
            "evidence": self.evidence,
            "where": f"{self.where}   {linecache.getline(file, int(line)).strip()}" if self.where else "",
            "fix": self.fix,
            "example": self.example,
            "check": self.how_to_check,
            "more": self.explain,
        }
        return {name: text for name, text in parts.items() if text}

    def __str__(self) -> str:
        """Return the finding as text, for logs and test reports."""
        return "\n".join(
            [
                f"{self.severity}: {self.title} [{self.id}]",
                *(f"  {name:8}  {text}" for name, text in self.parts.items() if name not in ("why", "example")),
            ]
        )


@dataclass(frozen=True)
class NotRun:
    """A check that did not run, or ran only in part. The part of the agent that it covers may be faulty.

    Attributes:
        check: Title of the check.
        why: Why it did not run.
    """

    check: str
    why: str


@dataclass
class Report:
    """The result of an examination.

    Attributes:
        findings: Root causes first, then their consequences. More severe findings come first in each group.
        not_run: Checks that did not run, with the reasons.
        seconds: Duration of the examination.
        complete: Whether no check exceeded a time limit.
    """

    findings: list[Finding] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = True

    @property
    def faults(self) -> list[Finding]:
        """Errors and warnings, without notes."""
        return [finding for finding in self.findings if finding.severity != "note"]

    @property
    def roots(self) -> list[Finding]:
        """Findings that no other finding causes."""
        return [finding for finding in self.findings if finding.caused_by is None]

    @property
    def healthy(self) -> bool:
        """Whether the examination is complete and found no fault."""
        return self.complete and not self.faults

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        roots = sum(finding.severity != "note" for finding in self.roots)
        following = len(self.faults) - roots
        if roots:
            result = "Found 1 fault" if roots == 1 else f"Found {roots} faults"
            result += f" and {following} consequence{'s' * (following > 1)}" if following else ""
        elif not self.complete:
            result = "No verdict: the time limit was too short"
        else:
            missed = len(self.not_run)
            result = "No fault found" + (f"; {missed} check{'s' * (missed > 1)} did not run" if missed else "")
        return f"{result} ({self.seconds:.1f} s)"

    def parts(self, root: Finding) -> dict[str, str]:
        """Return the parts of a root cause that a report shows, by label. One part lists its consequences.

        Args:
            root: One of ``roots``.
        """
        following = [f"{other.title} ({other.id})" for other in self.findings if other.caused_by == root.id]
        return root.parts | ({"leads to": "; ".join(following)} if following else {})

    def as_json(self) -> dict[str, Any]:
        """Return {"healthy", "findings", "not_run", "seconds"} as plain values, without plots."""
        hidden = {"clues", "calls", "picture"}
        findings = [
            {name: value for name, value in vars(finding).items() if name not in hidden}
            | {"component": finding.component, "explain": finding.explain}
            for finding in self.findings
        ]
        not_run = [asdict(check) for check in self.not_run]
        seconds = round(self.seconds, 3)
        return {"healthy": self.healthy, "findings": findings, "not_run": not_run, "seconds": seconds}


def in_order(findings: Sequence[Finding], causes: dict[str, list[str]]) -> list[Finding]:
    """Sort the findings, remove duplicates and set ``caused_by``.

    Args:
        findings: In the order in which they were found.
        causes: Pattern of a cause's id -> patterns of the ids that follow from it. The first match applies.

    Returns:
        Root causes first, then their consequences. More severe findings come first in each group.
    """
    by_id: dict[str, Finding] = {}
    for finding in findings:
        by_id.setdefault(finding.id, finding)

    def cause(effect: str) -> str | None:
        matches = (
            other
            for pattern, effects in causes.items()
            if any(fnmatchcase(effect, one) for one in effects)
            for other in by_id
            if other != effect and fnmatchcase(other, pattern)
        )
        return next(matches, None)

    marked = [replace(finding, caused_by=cause(finding.id)) for finding in by_id.values()]
    return sorted(marked, key=lambda finding: (finding.caused_by is not None, SEVERITIES.index(finding.severity)))
