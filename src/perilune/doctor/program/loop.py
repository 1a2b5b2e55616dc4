"""Read off the training loop of a program: exceptions, resets, updates, learning rates, and values like NaN."""

from __future__ import annotations

import re
import traceback
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from perilune.doctor.locate import is_own
from perilune.doctor.program.episodes import check_episodes
from perilune.doctor.program.observed import observed
from perilune.doctor.program.recorder import Value, Window
from perilune.doctor.report import Finding, NotRun, Passed

CHECK = "training loop"
ENOUGH_STEPS = 3000
FEWEST_CLIPS = 10
FADED = 1e-3  # of the first learning rate: hardly anything
SOON_UPDATES, SOON_EPISODES = 10_000, 100
UNPACK = re.compile(r"(too many|not enough) values to unpack|has no attribute 'seed'|cannot unpack")
CLAMP = re.compile(r"\.grad\b[\w.]*\.clamp_\(")
ADAPTIVE = re.compile(r"adam|rmsprop|adagrad|adamax|lion", re.IGNORECASE)
TOO_FAST = {True: 0.03, False: 10.0}  # learning rates of adaptive and of other optimizers
TOO_SLOW = {True: 1e-7, False: 1e-9}


class Rate(NamedTuple):
    """A learning rate at a step of an optimizer."""

    update: int
    episode: int
    value: float


class Loop:
    """Reads what happens around the updates."""

    def __init__(self) -> None:
        self.steps = self.updates = 0
        self.rates: dict[Any, list[Rate]] = defaultdict(list)
        self.named: dict[Any, tuple[str, str]] = {}  # optimizer -> name of its class, line of the step
        self.broken: Value | None = None  # the first output of a network that is not finite
        self.changes = 0  # of a learning rate within an episode
        self.clips: list[tuple[bool, str]] = []  # for each window: whether gradients are clipped after the step, line

    @property
    def done(self) -> bool:
        """Whether enough time steps were read."""
        return self.steps >= ENOUGH_STEPS

    def window(self, trace: Any, window: Window) -> None:
        """Read the values of a window."""
        if trace.log is None:
            return
        self.steps = len(trace.log.steps)
        self.updates += window.updates
        for key, rate in window.rates.items():
            known = self.rates[key]
            known.append(Rate(self.updates, trace.log.episodes, rate))
            self.changes += len(known) > 1 and known[-2].value != rate and known[-2].episode == known[-1].episode
        self._clipped(trace, window)
        for value in window.values:
            if value.kind == "step":
                self.named.setdefault(value.key, (value.more[0], value.line))
            elif value.kind == "forward" and self.broken is None and _broken(value):
                self.broken = value

    def findings(self, trace: Any) -> Iterator[Finding | Passed | NotRun]:
        """Return what the loop does wrong."""
        if trace.error is not None:
            yield from _error(trace)
        if trace.log is None or not trace.log.steps:
            return
        yield from check_episodes(trace)
        if self.broken is not None:
            evidence = f"After {self.updates} updates, the network returned NaN or infinity for finite observations."
            yield observed("numerics.not_finite", evidence, self.broken.line)
        yield from self._learning(trace)
        if len(self.clips) >= FEWEST_CLIPS and all(late for late, _ in self.clips):
            evidence = (
                f"In each of {len(self.clips)} updates, the optimizer took its step before the gradients were clipped."
            )
            yield observed("optimizer.clips_late", evidence, self.clips[0][1])
        for key, rates in self.rates.items():
            yield from _rate(rates, *self.named.get(key, ("", "")), self.changes > 0)

    def _clipped(self, trace: Any, window: Window) -> None:
        """Read whether the program clips its gradients before or after the step of the optimizer."""
        order: list[tuple[bool, str]] = []  # of clips and steps: whether it is a clip, its line
        for value in window.values:
            node = trace.nodes[value.node]
            if value.kind in ("clip", "step"):
                order.append((value.kind == "clip", value.line))
            elif value.kind == "value" and node.operator == "Call" and CLAMP.search(node.text):
                order.append((True, f"{node.file}:{node.line}"))
        if len({clip for clip, _ in order}) == 2:
            self.clips.append((order[-1][0] and not order[0][0], order[-1][1]))

    def _learning(self, trace: Any) -> Iterator[NotRun]:
        """Check that the program learns at all."""
        if self.updates or trace.read or not trace.recorder.networks:
            return
        yield NotRun(CHECK, f"the program made no update in {len(trace.log.steps)} time steps")


def _broken(value: Value) -> bool:
    """Return whether a network returns NaN or infinity for finite observations."""
    if value.array is None or np.isfinite(value.array).all():
        return False
    return bool(np.isfinite(np.asarray(value.more, np.float64)).all())


def _error(trace: Any) -> Iterator[Finding]:
    """Report an exception that the old interface causes."""
    error = trace.error
    frames = [one for one in traceback.extract_tb(error.__traceback__) if is_own(one.filename)]
    line = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    code = (frames[-1].line or "") if frames else ""
    if UNPACK.search(str(error)) and re.search(r"\b(reset|step|seed)\(", code):
        evidence = f"`{code}` raises {type(error).__name__}: {error}."
        yield observed("environment.old_interface", evidence, line)


def _rate(rates: list[Rate], name: str, line: str, within: bool) -> Iterator[Finding]:
    """Check the learning rate of an optimizer."""
    adaptive = bool(ADAPTIVE.search(name))
    first, last = rates[0], rates[-1]
    if first.value >= TOO_FAST[adaptive]:
        evidence = f"The learning rate is {first.value:g}."
        evidence += f" Each step of {name} changes each weight by about that much." if adaptive else ""
        yield observed("hyperparameters.too_fast", evidence, line)
    elif first.value <= TOO_SLOW[adaptive]:
        yield observed("hyperparameters.too_slow", f"The learning rate is {first.value:g}.", line)
    values = np.array([one.value for one in rates])
    if first.value <= 0 or last.value > 0.6 * first.value or (np.diff(values) > 0).any():
        return
    part = np.log(max(last.value, 1e-30) / first.value) / np.log(FADED)  # of the way to almost 0
    middle = np.log(max(rates[len(rates) // 2].value, 1e-30) / first.value) / np.log(FADED)
    updates, episodes = last.update - first.update, last.episode - first.episode
    soon = updates / part < SOON_UPDATES if within else episodes / part < SOON_EPISODES
    if updates >= 200 and soon and middle < 0.8 * part:
        evidence = (
            f"The learning rate falls from {first.value:g} to {last.value:g} within {updates} updates. At this pace, "
            f"it is a thousandth of its first value after {updates / part:.0f} updates."
        )
        yield observed("hyperparameters.fades", evidence, line)
