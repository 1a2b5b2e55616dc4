"""Examine a program: run it on the tracer environment, read what it computes, and check the agent that it contains."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, process_time  # not as time.monotonic, because the program may replace it
from typing import Any, Protocol

import numpy as np

from perilune.doctor.checks import CHECKS
from perilune.doctor.events import Done, Event, Ran, Started, Working
from perilune.doctor.examiner import run_checks
from perilune.doctor.program.acting import Acting
from perilune.doctor.program.adapter import Built, build
from perilune.doctor.program.loop import Loop
from perilune.doctor.program.outputs import check_outputs
from perilune.doctor.program.plain import own_exception
from perilune.doctor.program.recorder import Window
from perilune.doctor.program.running import Trace
from perilune.doctor.program.storing import Storing
from perilune.doctor.program.syncing import Syncing
from perilune.doctor.program.targets import Targets
from perilune.doctor.program.waiting import Waiting
from perilune.doctor.report import Finding, NotRun, Passed
from perilune.doctor.session import Session
from perilune.doctor.supervise import MORE, TooLong, supervised
from perilune.errors import ExaminationError

PROGRAM = "the program"  # shown while it runs
ADAPTER = "adapter"  # shown while it is built
LEAST = 5.0  # CPU seconds that the checks may use at least
BUILD_SHARE, PYTORCH_SHARE = 0.5, 0.15  # of the remaining time, to build the adapter; PyTorch programs need it less
READ = ("actions", "replay", "training loop")  # checks that only the running program answers
# Checks that are not needed if PyTorch computes gradients and steps, and the targets were read.
BY_PYTORCH = ("episode ends", "gradients", "TD target", "target network", "batch", "optimizer", "loss")
COVERED = {  # title -> components that the running program shows better
    "target network": ("target_network",),
    "training loop": ("environment", "loop"),
}
ROUTING = ("loss.broadcast", "loss.wrong_action", "loss.rows_ignored", "loss.rows_mixed", "loss.all_actions")
PLAIN_SHARE = 0.2  # of the time limit that a second run of a program with an exception may use
TRACE_SHARE = 0.5  # of the time limit that the program may use
ENOUGH_SHARE = 0.15  # of the time limit, after which the program ends if its targets were read
SHOWN_EVERY = 0.5  # seconds
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
    began, shown = process_time(), monotonic()
    targets = Targets()
    waiting = Waiting()
    readers: list[Reader] = [targets, Acting(), Loop(), Storing(), Syncing(waiting), waiting]

    started: list[float] = []  # when the first window ended: imports do not count

    def analyze(trace: Trace, window: Window) -> bool:
        nonlocal shown
        if not started:
            started.append(process_time())
        for reader in readers:
            if reader is not targets or not reader.done:
                reader.window(trace, window)
        spent = process_time() - started[0]
        steps = len(trace.log.steps) if trace.log else 0
        if monotonic() - shown > SHOWN_EVERY:
            updates = max(trace.recorder.updates, trace.read)
            publish(Working(f"{PROGRAM}, time step {steps:,}, {updates:,} updates"))
            shown = monotonic()
        enough = targets.done and (spent > ENOUGH_SHARE * budget or all(reader.done for reader in readers))
        return enough or waiting.proven or steps > MOST_STEPS

    publish(Started(PROGRAM))
    try:
        trace = Trace(name, arguments, analyze)
    except ExaminationError as error:
        _decline(publish, str(error))
        return
    problems = _run(trace, TRACE_SHARE * budget, stuck)
    if trace.log is None:
        _decline(publish, "; ".join(problems))
        return
    read = _Read()
    for one in (one for reader in readers for one in reader.findings(trace)):
        publish(one)
        read.add(one)
    if trace.error is not None and "environment" not in read.components:
        publish(Working(f"{PROGRAM}, in its own environment"))
        if (raised := own_exception(trace, PLAIN_SHARE * budget, stuck)) is not None:
            problems.pop()
            publish(raised)
    read.problems = problems
    for problem in problems:
        publish(NotRun(PROGRAM, problem))
    for one in check_outputs(trace):
        publish(one)
        read.add(one)
    if targets.sites:
        read.ran.add("interface")
    read.explained = targets.explained
    _interventions(trace, targets, read, (budget - (process_time() - began), seed, adapter), (publish, announce, stuck))
    publish(Done())


def _run(trace: Trace, seconds: float, stuck: Callable[[TooLong], object]) -> list[str]:
    """Run a program. Return why it, or a part of it, could not be read."""
    late: list[str] = []
    try:
        supervised(trace.run, seconds, math.inf, lambda: None, stuck)
    except TooLong as error:  # what was read so far counts
        late = [f"the program took no time step within {error.limit}. {MORE}"]
    trace.recorder.on = False
    problems = trace.problems()
    if trace.log is None or not trace.log.steps:
        problems = problems or late or ["the program takes no time step in an environment"]
    return problems


def _decline(publish: Callable[[Event], None], why: str) -> None:
    """Report that nothing can be checked, and why."""
    for check in CHECKS:
        publish(NotRun(check.title, why))
    publish(Done())


@dataclass
class _Read:
    """What the running program showed.

    Attributes:
        ran: Titles of the checks that it covers.
        components: Components with a finding.
        explained: Whether a known formula explains the targets.
        problems: Why the program could not be read to its end.
    """

    ran: set[str] = field(default_factory=set)
    components: set[str] = field(default_factory=set)
    explained: bool = False
    problems: list[str] = field(default_factory=list)

    def add(self, one: Finding | Passed | NotRun) -> None:
        """Add a result."""
        if isinstance(one, Passed):
            self.ran.add(one.check)
        elif isinstance(one, Finding) and one.severity != "note":
            self.components.add(one.component)
        if isinstance(one, Finding) and one.component == "target_network":
            self.ran.add("target network")

    def covers(self, finding: Finding) -> bool:
        """Return whether the running program showed more about the subject of a finding than interventions do."""
        seen = {title for title, components in COVERED.items() if finding.component in components}
        if "loss" in self.components and finding.component in ("loss", "backward", "replay"):
            return True  # consequences: interventions assume that the loss teaches the action taken
        if finding.component == "td_target":
            return self.explained
        if finding.id in ROUTING:
            return {"batch", "gradients"} <= self.ran or "loss" in self.components
        return bool(seen & self.ran) or (bool(seen) and finding.component in self.components)


def _interventions(
    trace: Trace, targets: Targets, read: _Read, settings: tuple[float, int, Path | None], channel: tuple[Any, Any, Any]
) -> None:
    """Build an adapter, and run the checks for which the running program does not suffice."""
    (budget, seed, file), (publish, announce, stuck) = settings, channel
    publish(Started(ADAPTER))
    by_pytorch = read.explained and "gradients" in read.ran and trace.recorder.updates > 0
    if by_pytorch:
        read.ran |= {"optimizer", "loss"}
    built: Built | str = f"its time limit was reached. {MORE}"
    seconds = budget * (PYTORCH_SHARE if by_pytorch else BUILD_SHARE)
    with contextlib.suppress(TooLong):
        results: list[Built | str] = []
        supervised(lambda: results.append(build(trace, targets)), seconds, math.inf, lambda: None, stuck)
        built = results[0]
    covered = {*READ, *read.ran, *(BY_PYTORCH if by_pytorch else [])}
    missing = [check for check in CHECKS if check.title not in covered]
    if isinstance(built, str):
        for title in read.ran:
            publish(Ran(title))
        for check in missing:
            unread = "; ".join(read.problems) if not targets.sites else ""
            publish(NotRun(check.title, unread or f"no adapter could be built: {built}"))
        return
    if file is not None:
        file.write_text(built.source(), encoding="utf-8")
    finished: set[str] = set()

    def filtered(event: Event) -> None:
        if isinstance(event, Done) or (isinstance(event, Finding) and read.covers(event)):
            return
        if isinstance(event, NotRun) and event.check in read.ran:
            return
        if isinstance(event, Ran):
            finished.add(event.check)
        publish(event)

    session = Session(built.factory, seed, np.random.default_rng(seed))
    session.budget, session.announce, session.caught = max(budget, LEAST), announce, BaseException
    left_out = {*READ, *(["probe problems"] if read.explained else []), *(BY_PYTORCH if by_pytorch else [])}
    run_checks(session, filtered, stuck, [check for check in CHECKS if check.title not in left_out])
    for title in read.ran - finished:
        publish(Ran(title))
