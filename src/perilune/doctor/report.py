"""What an examination came to: findings, the checks that could not be made, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from perilune._utils.arrays import Array

Component = Literal[
    "environment",
    "forward",
    "backward",
    "optimizer",
    "loss",
    "td_target",
    "target_network",
    "replay",
    "exploration",
    "loop",
    "hyperparameters",
    "numerics",
]
Severity = Literal["error", "warning", "note"]


class Points(NamedTuple):
    """A picture of what was ``found`` over ``x``, beside what would be ``right`` there, [N] each."""

    title: str
    x_label: str
    y_label: str
    x: Array
    found: Array
    right: Array


class Spread(NamedTuple):
    """A picture of how the values of each of several groups are spread."""

    title: str
    x_label: str
    groups: dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, or a note.

    ``evidence`` has the numbers that prove it; ``where`` a ``file:line`` or None; ``remedy`` the smallest change that
    mends it; ``see`` how to see it for oneself; ``link`` the page that explains the principle; ``caused_by`` the id of
    the finding that this one merely follows from, or None. ``check`` is the title of the check that found it;
    ``picture`` what a page shows beside it, or None.
    """

    id: str
    component: Component
    severity: Severity
    title: str
    evidence: str
    where: str | None = None
    remedy: str
    see: str
    link: str
    caused_by: str | None = None
    check: str = ""
    picture: Points | Spread | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """For logs and test reports; ``perilune doctor`` shows it better."""
        parts = {"where": self.where, "proof": self.evidence, "mend": self.remedy, "see": self.see, "more": self.link}
        lines = [f"{self.severity}: {self.title} [{self.id}]"]
        lines += [f"  {name:5}  {text}" for name, text in parts.items() if text]
        return "\n".join(lines)


@dataclass(frozen=True)
class NotRun:
    """A check that could not be made, and why: silence is not health."""

    check: str
    why: str


@dataclass
class Report:
    """Everything an examination came to.

    ``complete``: the time sufficed. ``healthy``: it did, and nothing but notes was found.
    """

    findings: list[Finding] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = True

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity != "note"]

    @property
    def healthy(self) -> bool:
        return self.complete and not self.faults

    def as_json(self) -> dict[str, Any]:
        """{"healthy", "findings", "not_run", "seconds"}, of plain values; pictures are for pages."""
        return {
            "healthy": self.healthy,
            "findings": [_plain(finding) for finding in self.findings],
            "not_run": [asdict(check) for check in self.not_run],
            "seconds": round(self.seconds, 3),
        }


def _plain(finding: Finding) -> dict[str, Any]:
    fields = asdict(replace(finding, picture=None))
    del fields["picture"]
    return fields
