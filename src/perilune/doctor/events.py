"""Events of an examination. The agent's process sends them, and ``Collector`` builds a report from them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from perilune.doctor import catalogue
from perilune.doctor.report import Cause, Finding, Line, NotRun, Passed, Picture, Report, in_order

MAX_VALUES = 20_000  # of each array of a picture


@dataclass(frozen=True)
class Started:
    """A check has started."""

    check: str


@dataclass(frozen=True)
class Working:
    """How far the running check is."""

    text: str


@dataclass(frozen=True)
class Ran:
    """A check is complete."""

    check: str


@dataclass(frozen=True)
class Stopped:
    """A call of the agent reached its time limit and could not be interrupted, so the process ends."""

    why: str


@dataclass(frozen=True)
class Done:
    """The examination is complete."""


Event = Started | Working | Ran | Stopped | Done | NotRun | Passed | Finding
EVENTS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}
PICTURES: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Picture)}


def encode(event: Event) -> bytes:
    """Return ``event`` as one line of JSON."""
    fields: dict[str, Any] = {"kind": type(event).__name__, **vars(event)}
    if (picture := fields.get("picture")) is not None:
        fields["picture"] = {"kind": type(picture).__name__, **picture._asdict()}
    return json.dumps(fields, default=_plain).encode() + b"\n"


def decode(line: bytes) -> Event:
    """Return the event in a line of JSON. Raise ValueError, TypeError or KeyError if there is none."""
    fields = json.loads(line)
    kind = EVENTS[fields.pop("kind")]
    if kind is Finding:
        fields |= {name: tuple(fields[name]) for name in ("clues", "calls")}
        if (picture := fields["picture"]) is not None:
            fields["picture"] = PICTURES[picture.pop("kind")](**_arrays(picture))
    return kind(**fields)  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    values = np.asarray(value)
    return values[:: len(values) // MAX_VALUES + 1].tolist() if values.ndim else values.item()


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _arrays(part) for name, part in value.items()}
    return np.array(value) if isinstance(value, list) else value


@dataclass
class Collector:
    """Builds a report from events."""

    titles: Sequence[str]  # of all checks
    watch: Callable[[str], object] = str  # is called with the title of each check that starts, and how far it is
    report: Report = field(default_factory=Report)
    check: str | None = None  # the running one
    stopped: str | None = None
    done: bool = False
    began: float = field(default_factory=time.monotonic)

    def __call__(self, event: Event) -> None:
        """Add an event."""
        match event:
            case Started():
                self.check = event.check if event.check in self.titles else None  # the search for lines is not a check
                self.watch(event.check)
            case Working():
                self.watch(event.text)
            case Ran():
                self.report.ran.append(event.check)
                self.check = None
            case NotRun():
                self.report.not_run.append(event)
            case Passed():
                self.report.passed.append(event)
            case Finding():
                self._add(event)
            case Stopped():
                self.stopped = event.why
            case Done():
                self.done = True

    def _add(self, finding: Finding) -> None:
        """Add a finding, or the location of an earlier one."""
        if finding.where is not None:
            finding = replace(finding, where=finding.where.removeprefix(f"{Path.cwd()}{os.sep}"))
        known = [number for number, one in enumerate(self.report.findings) if one.id == finding.id]
        if not known:
            self.report.findings.append(finding)
        elif self.report.findings[known[0]].where is None:
            self.report.findings[known[0]] = finding

    def cut(self, why: str, cause: Cause) -> None:
        """Record that neither the running check nor any later one was completed."""
        ended = {*self.report.ran, *(one.check for one in self.report.not_run)} - {self.check}
        self.report.not_run += [NotRun(title, why, cause) for title in self.titles if title not in ended]

    def crashed(self, how: str, call: str, line: Line | None) -> None:
        """Record that the agent's code ended the process. ``call`` names the agent's running method, or is ""."""
        by = call or (f"the agent's code, in the check {self.check!r}," if self.check else "the agent's code")
        why = f"{by} ended the process: {how}"
        if self.check and (component := catalogue.component_of(call)):
            found = catalogue.finding(f"{component}.raises", error=f"{why} (check: {self.check})")
            self._add(replace(found, check=self.check).at(line))
        self.cut(why, "crash")

    def finished(self) -> Report:
        """Return the report."""
        self.report.findings = in_order(self.report.findings, catalogue.causes())
        self.report.seconds = time.monotonic() - self.began
        return self.report
