"""Read off conditions that a program waits for in vain: to begin to learn, or to sync its target network."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.instrument import ORDER
from perilune.doctor.program.observed import observed, set_at
from perilune.doctor.program.pairs import read
from perilune.doctor.program.recorder import Window
from perilune.doctor.report import Finding, NotRun, Passed

MOST = 4000  # kept values of a comparison
FEWEST = 20
PATIENCE = 500  # time steps without growth after which a memory is full
EPISODES = 5  # that begin after the last growth, because some counters grow once per episode
BATCH = 4  # rows of an update


class Sample(NamedTuple):
    """What a comparison compared: ``left`` and ``right`` of an order, or dividend and divisor of ``x % n == 0``."""

    step: int  # number of time steps before it
    left: float
    right: float
    outcome: bool


class Waiting:
    """Reads the comparisons of a program that does not learn or sync.

    Attributes:
        proven: Whether the program cannot begin to learn any more.
    """

    def __init__(self) -> None:
        self.samples: dict[int, list[Sample]] = defaultdict(list)
        self.acts = self.learns = self.proven = False
        self._examined = 0  # number of time steps before the latest search for such a comparison
        self._full: tuple[int, str] | None = None  # the comparison that waits for more than a memory can hold

    @property
    def done(self) -> bool:
        """Whether enough was read."""
        return True

    def window(self, trace: Any, window: Window) -> None:
        """Read the comparisons of a window."""
        if trace.log is None or not window.values or self.proven:
            return
        self._learning(trace, window)
        latest: dict[int, float] = {}
        for value in window.values:
            if value.kind != "value" or value.array is None or value.array.size != 1:
                continue
            latest[value.node] = float(value.array.reshape(()))
            node = trace.nodes[value.node]
            if len(node.children) == 2 and len(self.samples[value.node]) < MOST and node.operator in (*ORDER, "Eq"):
                self._compared(trace, value.node, latest, len(trace.log.steps))
        if not self.learns and self.acts and len(trace.log.steps) >= self._examined + PATIENCE:
            self._examined = len(trace.log.steps)
            self._full = next(
                filter(None, (_too_small(node, one, trace.log.begun) for node, one in self.samples.items())), None
            )
            self.proven = self._full is not None

    def findings(self, trace: Any) -> Iterator[Finding | Passed | NotRun]:
        """Return what the program waits for."""
        if self._full is not None and not self.learns:
            number, evidence = self._full
            node = trace.nodes[number]
            names = {trace.nodes[child].text.rpartition(".")[2] for child in node.children if child >= 0}
            line = next(iter(set_at(trace, names, r"= *\d[\d_e.]*\s*$")), f"{node.file}:{node.line}")
            yield observed("hyperparameters.warm_up", evidence.format(text=node.text), line)

    def not_reached(self, trace: Any) -> tuple[str, str] | None:
        """Return the evidence that a counter cannot reach the multiple that a condition waits for, and the line."""
        limit, begun = trace.envs[0].limit, sorted(trace.log.begun)
        for number, samples in self.samples.items():
            node = trace.nodes[number]
            if node.operator != "Eq" or len(samples) < FEWEST or any(one.outcome for one in samples):
                continue
            left, divisor = np.array([one.left for one in samples]), samples[0].right
            since = np.array([one.step - begun[bisect_left(begun, one.step) - 1] for one in samples])
            counts = limit is not None and divisor > limit and np.ptp(left - since) <= 1 and np.ptp(left) > 1
            if counts and any(one.right == divisor for one in samples):
                text = (
                    f"In `{node.text}`, the counter restarts in each episode. An episode has at most {limit} time "
                    f"steps, so the counter never reaches {divisor:g}."
                )
                return text, f"{node.file}:{node.line}"
        return None

    def _learning(self, trace: Any, window: Window) -> None:
        """Read whether the program asks for Q-values before it acts, and whether it learns."""
        reading = read(trace, window)
        self.acts |= any(len(one.states) == 1 for one in reading.forwards)
        self.learns |= bool(window.updates or trace.read or reading.pairs)
        self.learns |= any(len(one.states) >= BATCH for one in reading.forwards)

    def _compared(self, trace: Any, number: int, latest: dict[int, float], step: int) -> None:
        node = trace.nodes[number]
        first, second = node.children
        if node.operator == "Eq":
            rest = trace.nodes[first] if first >= 0 else None
            if rest is None or rest.operator != "Mod" or latest.get(second) != 0 or len(rest.children) != 2:
                return
            first, second = rest.children
        if first in latest and second in latest:
            self.samples[number].append(Sample(step, latest[first], latest[second], bool(latest[number])))


def _too_small(number: int, samples: list[Sample], begun: set[int]) -> tuple[int, str] | None:
    """Return the number of a comparison with more than a memory can hold, and the evidence, or None."""
    if len(samples) < FEWEST or len({one.outcome for one in samples}) > 1:
        return None
    values = np.array([(one.left, one.right) for one in samples])
    steps = np.array([one.step for one in samples])
    for side in (0, 1):
        size, wanted = values[:, side], values[:, 1 - side]
        if np.ptp(wanted) == 0 and size[-1] <= wanted[0] and _filled(size, steps, begun):
            return number, (
                f"`{{text}}` waits for {wanted[0]:g}, but the number stopped at {size[-1]:g} and did not change in the "
                f"last {steps[-1] - steps[size < size[-1]][-1]} time steps. The program made no update."
            )
    return None


def _filled(size: Array, steps: Array, begun: set[int]) -> bool:
    """Return whether a number grew step by step, and then stopped, also over several episodes."""
    growing = size < size[-1]
    if not growing.any() or (~growing).sum() < FEWEST or (np.diff(size) < 0).any() or (size != size.round()).any():
        return False
    last = steps[growing][-1]
    episodes = sum(last < one <= steps[-1] for one in begun)
    return len(np.unique(size)) >= FEWEST / 2 and bool(steps[-1] - last >= PATIENCE) and episodes >= EPISODES
