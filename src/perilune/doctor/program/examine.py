"""Examine a program: run it on the tracer environment, read what it computes, and check the agent that it contains."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from perilune.doctor.events import Done, Event, Ran, Started
from perilune.doctor.program.acting import Acting
from perilune.doctor.program.loop import Loop
from perilune.doctor.program.recorder import Window
from perilune.doctor.program.running import Trace
from perilune.doctor.program.storing import Storing
from perilune.doctor.program.syncing import Syncing
from perilune.doctor.program.targets import Targets
from perilune.doctor.report import Finding, NotRun, Passed
from perilune.doctor.supervise import TooLong, supervised

PROGRAM = "the program"  # shown while it runs
TRACE_SHARE = 0.5  # of the time limit
MOST_STEPS = 60_000  # time steps of the program


class Reader(Protocol):
    """Reads the windows of a program."""

    @property
    def done(self) -> bool:
        """Whether enough was read."""

    def window(self, trace: Trace, window: Window) -> None:
        """Read what the program computed between two time steps."""

    def findings(self, trace: Trace) -> Iterator[Finding | Passed | NotRun]:
        """Return the results, at the end."""


def examine_program(
    name: str,
    arguments: list[str],
    budget: float,
    seed: int,
    adapter: Path | None,
    publish: Callable[[Event], None],
    announce: Callable[[str], None],
    stuck: Callable[[TooLong], object],
) -> None:
    """Examine a program and publish the results.

    Args:
        name: The program.
        arguments: Its command-line arguments.
        budget: Time limit in seconds of CPU time.
        seed: Seed of the examination.
        adapter: File to which the adapter is written, or None.
        publish: Receives the events.
        announce: Receives the name of the running method.
        stuck: Is called if the program does not react to interrupts.
    """
    readers: list[Reader] = [Targets(), Acting(), Loop(), Storing(), Syncing()]
    trace = Trace(name, arguments, lambda trace, window: _read(readers, trace, window))
    publish(Started(PROGRAM))
    with contextlib.suppress(TooLong):  # what was read so far counts
        supervised(trace.run, TRACE_SHARE * budget, math.inf, lambda: None, stuck)
    trace.recorder.on = False
    for problem in trace.problems():
        publish(NotRun(PROGRAM, problem))
    passed: set[str] = set()
    found: list[Any] = [one for reader in readers for one in reader.findings(trace)]
    for one in found:
        if isinstance(one, Passed):
            passed.add(one.check)
        publish(one)
    for title in passed:
        publish(Ran(title))
    publish(Done())


def _read(readers: list[Reader], trace: Trace, window: Window) -> bool:
    for reader in readers:
        reader.window(trace, window)
    steps = len(trace.log.steps) if trace.log else 0
    return all(reader.done for reader in readers) or steps > MOST_STEPS
