"""The result of an examination: findings, checks that did not run, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from perilune._utils.arrays import Array

Severity = Literal["error", "warning", "note"]
Outcome = Literal["healthy", "faults", "inconclusive", "cannot run"]
Cause = Literal["adapter", "agent", "limit", "crash"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
JSON_VERSION = 1  # of report.schema.json
ALL_CELLS = " (all cells)"  # follows the path of a notebook, if its lines are counted over all cells

# A healthy agent passes at least one check of each row. A check that needs optional members of the adapter counts only
# if the adapter has them.
CORE = (
    ("interface",),
    ("gradients", "probe problems"),
    ("loss", "batch", "probe problems"),
    ("TD target", "probe problems"),
    ("target network", "probe problems"),
    ("training loop",),
)


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


class Line(NamedTuple):
    """A line of the user's code.

    Attributes:
        place: ``file:line``.
        text: The source code.
    """

    place: str
    text: str


Picture = Points | Spread


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
        code: The source code of that line, or "".
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
    code: str = ""
    caused_by: str | None = None
    check: str = ""
    picture: Picture | None = field(default=None, repr=False, compare=False)
    clues: tuple[str, ...] = field(default=(), repr=False)
    calls: tuple[str, ...] = field(default=("train_batch",), repr=False)

    @property
    def component(self) -> str:
        """The part of the agent at fault, such as "td_target"."""
        return self.id.partition(".")[0]

    @property
    def file(self) -> str | None:
        """The path of the file in ``where``, or None if unknown."""
        return self.where.rpartition(":")[0].removesuffix(ALL_CELLS) if self.where else None

    @property
    def line(self) -> int | None:
        """The line number in ``file`` (>= 1), or None if it is unknown or if ``file`` is a notebook."""
        file, _, number = (self.where or "").rpartition(":")
        return int(number) if number.isdecimal() and not file.endswith(ALL_CELLS) else None

    @property
    def explain(self) -> str:
        """The command that prints the page about this finding."""
        return f"perilune doctor --explain {self.id}"

    def at(self, line: Line | None) -> Finding:
        """Return the finding with its location.

        Args:
            line: The line at fault, or None to keep the location.
        """
        return self if line is None else replace(self, where=line.place, code=line.text)

    @property
    def parts(self) -> dict[str, str]:
        """The parts of the finding that a report shows, by label. Empty parts are omitted."""
        before, _, after = self.example.partition("# after\n")
        parts = {
            "why": self.why,
            "evidence": self.evidence,
            "where": f"{self.where}   {self.code}".rstrip() if self.where else "",
            "fix": self.fix,
            "before": before.removeprefix("# before\n").rstrip(),
            "after": after,
            "check": self.how_to_check,
            "more": self.explain,
        }
        return {name: text for name, text in parts.items() if text}

    def __str__(self) -> str:
        """Return the finding as text, for logs and test reports."""
        return "\n".join(
            [
                f"{self.severity}: {self.title} [{self.id}]",
                *(f"  {name:8}  {text}" for name, text in self.parts.items() if name not in ("why", "before", "after")),
            ]
        )


@dataclass(frozen=True)
class NotRun:
    """A check that did not run, or ran only in part. The part of the agent that it covers may be faulty.

    Attributes:
        check: Title of the check.
        why: Why it did not run.
        cause: "adapter" if the adapter lacks optional members, "limit" if a limit was reached, "crash" if the agent's
            code ended the process, and "agent" if the check cannot measure this agent.
    """

    check: str
    why: str
    cause: Cause = "agent"


@dataclass(frozen=True)
class Passed:
    """Correct behavior that a check verified.

    Attributes:
        check: Title of the check.
        text: What works, as a noun phrase.
    """

    check: str
    text: str


@dataclass
class Report:
    """The result of an examination.

    Attributes:
        findings: Root causes first, more severe ones first among them.
        not_run: Checks and parts of checks that did not run.
        ran: Titles of the completed checks.
        passed: What is known to work.
        seconds: Duration of the examination.
    """

    findings: list[Finding] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> list[Finding]:
        """Errors and warnings, without notes."""
        return [finding for finding in self.findings if finding.severity != "note"]

    @property
    def roots(self) -> list[Finding]:
        """Findings that no other finding causes."""
        return [finding for finding in self.findings if finding.caused_by is None]

    @property
    def gaps(self) -> list[str]:
        """Titles of the checks that did not run but that a healthy agent must pass."""
        lacking = {one.check for one in self.not_run if one.cause == "adapter"}
        cut = [one.check for one in self.not_run if one.cause in ("limit", "crash")]
        core = [row[0] for row in CORE if not {*row} & {*self.ran, *lacking}]
        return list(
            dict.fromkeys([*core, *(check for check in cut if not any(check in row for row in CORE if row[0] in core))])
        )

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Each reason why checks did not run, with the titles of these checks."""
        reasons: dict[str, list[str]] = {}
        for one in self.not_run:
            if one.check not in reasons.setdefault(one.why, []):
                reasons[one.why].append(one.check)
        return reasons

    @property
    def outcome(self) -> Outcome:
        """The result in one word.

        - "faults": the doctor found an error or a warning.
        - "cannot run": the agent could not be examined at all.
        - "inconclusive": the doctor found no fault, but it could not check enough of the agent.
        - "healthy": all core checks ran, and none found a fault.
        """
        if self.faults:
            return "faults"
        if CORE[0][0] not in self.ran:
            return "cannot run"
        return "inconclusive" if self.gaps else "healthy"

    @property
    def healthy(self) -> bool:
        """Whether the core checks ran and found no fault."""
        return self.outcome == "healthy"

    @property
    def exit_status(self) -> int:
        """Exit status of ``perilune doctor``: 0 if healthy, 1 for faults, otherwise 2."""
        return {"healthy": 0, "faults": 1}.get(self.outcome, 2)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        match self.outcome:
            case "faults":
                roots = sum(finding.severity != "note" for finding in self.roots)
                following = len(self.faults) - roots
                result = "Found 1 fault" if roots == 1 else f"Found {roots} faults"
                result += f" and {following} consequence{'s' * (following > 1)}" if following else ""
            case "cannot run":
                reasons = [one.why for one in self.not_run if one.check == CORE[0][0]]
                result = f"Cannot examine this agent: {'; '.join(reasons) or 'nothing was checked'}"
            case "inconclusive":
                result = f"Inconclusive: no fault found, but these parts could not be checked: {', '.join(self.gaps)}"
            case "healthy":
                missed = len({one.check for one in self.not_run})
                result = "No fault found" + (f"; {missed} check{'s' * (missed > 1)} did not run" if missed else "")
        return result

    def following(self, finding: Finding) -> list[Finding]:
        """Return the consequences of a finding, each followed by its own consequences.

        Args:
            finding: One of ``findings``.
        """
        direct = [other for other in self.findings if other.caused_by == finding.id]
        return [one for other in direct for one in (other, *self.following(other))]

    @property
    def summary(self) -> list[tuple[int | None, Finding]]:
        """Each root cause with its number (from 1), followed by its consequences with None."""
        return [
            (number if one is root else None, one)
            for number, root in enumerate(self.roots, start=1)
            for one in (root, *self.following(root))
        ]

    def parts(self, root: Finding) -> dict[str, str]:
        """Return the parts of a root cause that a report shows, by label. One part lists its consequences.

        Args:
            root: One of ``roots``.
        """
        following = [f"{other.title} ({other.id})" for other in self.following(root)]
        return root.parts | ({"leads to": "; ".join(following)} if following else {})

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object, without plots. Its schema is ``report.schema.json`` in this package."""
        hidden = {"clues", "calls", "picture"}
        derived = ("component", "file", "line", "explain")
        return {
            "version": JSON_VERSION,
            "outcome": self.outcome,
            "verdict": self.verdict,
            "healthy": self.healthy,
            "findings": [
                {name: value for name, value in vars(finding).items() if name not in hidden}
                | {name: getattr(finding, name) for name in derived}
                for finding in self.findings
            ],
            "not_run": [asdict(check) for check in self.not_run],
            "passed": [asdict(one) for one in self.passed],
            "ran": self.ran,
            "seconds": round(self.seconds, 3),
        }


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
