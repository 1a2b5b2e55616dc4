"""Read off which transitions reach the updates, and compare them with what the environment returned."""

from __future__ import annotations

import linecache
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.instrument import Node
from perilune.doctor.program.observed import likely, observed
from perilune.doctor.program.pairs import Pair, Reading, forwards_before, read
from perilune.doctor.program.recorder import Window
from perilune.doctor.report import Finding, NotRun, Passed

CHECK = "training loop"
ENOUGH = 60  # batches
SMALLEST = 8  # rows of a batch whose sampling is judged
FEWEST_BATCHES = 15
FEWEST_EMPTY = 5
FEWEST_ROWS = 200
FEWEST_FIRST = 40  # rows of first time steps
STORE = re.compile(r"\b(append|push|store\w*|add\w*|remember|memorize|save\w*|put|cache|observe|insert)\(")


@dataclass
class Batch:
    """The rows of one update.

    Attributes:
        time: Number of time steps so far.
        step: Index of the time step whose obs each row contains (n,), -1 if unknown.
    """

    time: int
    step: Array


@dataclass
class Rows:
    """Counts over all rows of updates.

    Attributes:
        known: Rows whose obs is that of a time step.
        ended: Of these, rows of terminated time steps.
        here: Rows whose next_obs is their own obs, in episodes that continue.
        other: Rows whose next_obs is neither the next state nor obs, in episodes that continue.
        right: Rows whose next_obs is a later state of the episode, in episodes that continue.
        next: Rows with a known next_obs, in episodes that continue.
        restarted: Truncated rows whose next_obs is the first state of an episode.
        cut: Truncated rows with a known next_obs.
        earlier: Rows whose reward is that of the time step before.
        paid: Rows whose reward is that of their own time step.
        strange: Rows with a reward of any other time step.
        actions: Rows whose action differs from the executed one and is in an array of the batch.
        before: Rows whose action is the one that led to obs.
        begun: Rows whose reward is that of the first time step of an episode.
        stale: Of these, rows whose obs is not the state before it.
        later: Rows whose reward is that of another time step.
        astray: Of these, rows whose obs is not the state before it.
    """

    known: int = 0
    ended: int = 0
    here: int = 0
    other: int = 0
    right: int = 0
    next: int = 0
    restarted: int = 0
    cut: int = 0
    earlier: int = 0
    paid: int = 0
    strange: int = 0
    actions: int = 0
    before: int = 0
    begun: int = 0
    stale: int = 0
    later: int = 0
    astray: int = 0


class Storing:
    """Reads the transitions of updates."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.batches: list[Batch] = []
        self.read = 0
        self.zeros = 0  # batches with many rows that are 0, whose rewards are not
        self.unwritten = 0  # batches with many rows whose obs and reward are 0
        self.elsewhere = 0  # batches with an array of next states
        self._steps = 0
        self._before: dict[int, int] = {}  # state -> index of the time step that left it
        self._after: dict[int, int] = {}  # state -> index of the time step that led to it

    @property
    def done(self) -> bool:
        """Whether enough batches were read."""
        return self.read >= ENOUGH

    def window(self, trace: Any, window: Window) -> None:
        """Read the values of a window."""
        log = trace.log
        if log is None or not window.values:
            return
        if log.discrete:
            self._discrete(log, read(trace, window))
            return
        for index in range(self._steps, len(log.steps)):
            self._before[log.steps[index].before] = index
            self._after[log.steps[index].after] = index
        self._steps = len(log.steps)
        reading = read(trace, window)
        start = -1
        for pair in reading.pairs:
            self._batch(log, reading, pair, start)
            start = pair.place
        self.read += bool(reading.pairs)
        self._empty(trace.nodes, log, window)

    def findings(self, trace: Any) -> Iterator[Finding | Passed | NotRun]:
        """Return what the transitions show."""
        log, rows = trace.log, self.rows
        if log is None:
            return
        found = [*self._contents(log), *self._sampling(log)]
        for name, evidence in found:
            line = _reset(log) if name == "loop.acts_on_other_state" else _line(name, trace.nodes)
            yield observed(name, evidence, line)
        if not found and rows.next >= FEWEST_ROWS and rows.right > 0.99 * rows.next:
            yield Passed(CHECK, f"next_obs follows obs in {rows.right} rows of the updates")

    # Reading

    def _batch(self, log: Any, reading: Reading, pair: Pair, start: int) -> None:
        rows, states = self.rows, pair.forward.states
        steps = np.array([self._before.get(int(one), -1) for one in states])
        if len(steps) >= SMALLEST:
            self.batches.append(Batch(len(log.steps), steps))
        known = steps >= 0
        rows.known += int(known.sum())
        rows.ended += sum(log.steps[index].terminated for index in steps[known])
        self._next(log, reading, pair, steps, start)
        if len(steps) < SMALLEST or known.mean() < 0.9:
            return
        self._rewards(log, reading, pair, steps, start)
        rows.before += sum(
            int(one) in self._after and log.steps[self._after[int(one)]].action == action
            for one, action in zip(states, pair.chosen, strict=True)
        )
        executed = np.array([log.steps[index].action for index in steps])
        if pair.chosen.min() >= 0 and _contains(reading, pair, start):
            rows.actions += int((pair.chosen != executed)[known].sum())

    def _discrete(self, log: Any, reading: Reading) -> None:
        """Compare discrete states, which are not unique, with the time steps that the rewards show."""
        start, rows = -1, self.rows
        for pair in reading.pairs:
            found, states = _steps_paid(log, reading, pair, start), pair.forward.states
            if len(states) >= SMALLEST and found is not None:
                known = found >= 0
                left = np.array([log.steps[index].before for index in found[known]])
                begun, wrong = np.isin(found[known], list(log.begun)), left != states[known]
                if not _shuffled(left, states[known]):
                    rows.begun, rows.stale = rows.begun + int(begun.sum()), rows.stale + int(wrong[begun].sum())
                    rows.later, rows.astray = rows.later + int((~begun).sum()), rows.astray + int(wrong[~begun].sum())
            start = pair.place
        self.read += bool(reading.pairs)

    def _next(self, log: Any, reading: Reading, pair: Pair, steps: Array, start: int) -> None:
        """Compare the states whose values the target uses with the next states."""
        rows, states = self.rows, pair.forward.states
        others = [
            one
            for one in forwards_before(reading, pair.place)
            if one.place > start and one is not pair.forward and len(one.states) == len(states)
        ]
        if not others:
            return
        other = next((one for one in others if (one.states != states).any()), others[0])
        if other.key == pair.forward.key and (other.states == states).all():
            return  # the program may compute the same values twice
        following = other.states
        expected = np.array([log.steps[index].after if index >= 0 else -1 for index in steps])
        if _shuffled(following, expected):
            return
        self.elsewhere += any(
            value.array is not None and _follows(log, value.array, steps)
            for value in reading.values[start + 1 : pair.place]
        )
        for index, state, after in zip(steps, states, following, strict=True):
            if index < 0 or after < 0:
                continue
            step = log.steps[index]
            if step.truncated:
                rows.cut += 1
                rows.restarted += int(after) in log.first
            elif not step.terminated:
                rows.next += 1
                rows.here += after == state
                rows.right += state < after < state + 20
                rows.other += not state <= after < state + 20

    def _rewards(self, log: Any, reading: Reading, pair: Pair, steps: Array, start: int) -> None:
        """Compare the latest rewards of the batch with those of the time steps."""
        found = _steps_paid(log, reading, pair, start)
        if found is None or _shuffled(found, steps):
            return
        both = (found >= 0) & (steps >= 0)
        self.rows.paid += int((found == steps)[both].sum())
        self.rows.earlier += int((found == steps - 1)[both].sum())
        self.rows.strange += int(((found != steps) & (found != steps - 1))[both].sum())

    def _empty(self, nodes: list[Node], log: Any, window: Window) -> None:
        """Find arrays of observations whose rows are 0, which no observation is."""
        zero: Array | None = None
        integers = False
        for value in window.values:
            array = value.array
            if value.kind not in ("value", "parameter") or array is None or array.dtype.kind not in "if":
                continue
            if nodes[value.node].operator == "Item":
                continue  # the memory itself, which need not be full
            if array.ndim == 2 and array.shape[1] == log.size and len(array) >= SMALLEST:
                rows: Array = ~np.asarray(array.any(axis=1))
                if not rows.any() or (rows.all() and array.dtype.kind == "f") or (log.states(array[~rows]) < 0).any():
                    continue  # no row is 0, or they are not observations
                integers |= array.dtype.kind == "i"
                zero = rows if zero is None or len(zero) != len(rows) or rows.sum() > zero.sum() else zero
            elif zero is not None and zero.mean() > 0.2 and array.size == len(zero) and array.dtype.kind == "f":
                rewards = array.reshape(-1).astype(np.float64)
                known = log.by_reward(rewards) >= 0
                if integers and known.mean() > 0.9 and zero.mean() > 0.9:
                    self.zeros += 1
                    return
                if known.any() and not rewards[zero].any() and known[~zero].all():
                    self.unwritten += 1
                    return

    # Results

    def _contents(self, log: Any) -> Iterator[tuple[str, str]]:
        """Yield findings about the fields of the transitions, and their evidence."""
        rows = self.rows
        if self.zeros >= FEWEST_EMPTY:
            yield (
                "replay.changes_observations",
                f"In {self.zeros} batches, all observations are 0. The environment never returned such observations. "
                "Storage as integers rounds numbers between -1 and 1 to 0.",
            )
        elif self.unwritten >= FEWEST_EMPTY:
            yield (
                "replay.unwritten",
                f"In {self.unwritten} batches, many rows have observations and rewards that are 0. The environment "
                "never returned them.",
            )
        count = rows.paid + rows.earlier + rows.strange
        if rows.next >= FEWEST_ROWS and rows.here > 0.9 * rows.next:
            text = f"In {rows.here} of {rows.next} rows, next_obs is the same state as obs."
            if rows.before > 0.9 * rows.known or rows.earlier > 0.9 * max(count, FEWEST_ROWS):
                yield "loop.advanced_too_early", f"{text} The action is the one that led to this state."
            elif not self.elsewhere:
                yield "replay.next_is_current", text
        elif rows.astray > 0.8 * max(rows.later, FEWEST_ROWS):
            text = f"In {rows.astray} of {rows.later} rows, the reward is that of another time step than obs."
            yield "replay.mismatched", text
        elif rows.stale > 0.8 * max(rows.begun, FEWEST_FIRST) and rows.astray < 0.05 * rows.later:
            yield (
                "loop.acts_on_other_state",
                f"In {rows.stale} of {rows.begun} rows with the reward of an episode's first time step, obs is not the "
                "state that reset() returned.",
            )
        elif rows.next >= FEWEST_ROWS and rows.other > 0.05 * rows.next:
            text = f"In {rows.other} of {rows.next} rows within episodes, next_obs does not follow obs."
            yield "replay.mismatched", text
        elif count >= FEWEST_ROWS and rows.paid < 0.9 * count:
            text = f"In {count - rows.paid} of {count} rows, the reward is that of another time step than obs."
            yield "replay.mismatched", text
        elif rows.known >= FEWEST_ROWS and rows.actions > 0.1 * rows.known:
            text = f"In {rows.actions} of {rows.known} rows, the action is not the one that the environment executed."
            yield "loop.other_action_stored", text
        if rows.cut >= 20 and rows.restarted > 0.9 * rows.cut:
            text = f"In {rows.restarted} of {rows.cut} truncated rows, next_obs is the first state of another episode."
            yield "environment.reset_as_next", text
        ends = [one.terminated for one in log.steps]
        if rows.known >= FEWEST_ROWS and not rows.ended and np.mean(ends) > 0.02 and rows.known * np.mean(ends) > 25:
            text = (
                f"None of {rows.known} rows is from a terminated time step, but {np.mean(ends):.0%} of time steps are."
            )
            yield "replay.terminal_lost", text

    def _sampling(self, log: Any) -> Iterator[tuple[str, str]]:
        """Yield findings about which transitions are sampled, and their evidence."""
        batches = [one for one in self.batches if (one.step >= 0).mean() > 0.9]
        if len(batches) < FEWEST_BATCHES:
            return
        grown = [one for one in batches if one.time > 4 * len(one.step)]
        if len(grown) < FEWEST_BATCHES:
            return
        one_state = sum(len(set(one.step.tolist())) == 1 for one in grown)
        newest = sum(one.step[one.step >= 0].min() > one.time - 2 * len(one.step) for one in grown)
        apart = [one.time - other.time for other, one in pairwise(grown)]
        overlap = [len(np.intersect1d(one.step, other.step)) / len(one.step) for other, one in pairwise(grown)]
        close = [
            part for part, gap, one in zip(overlap, apart, grown[1:], strict=True) if 0 < gap < 0.4 * len(one.step)
        ]
        equal = sum(
            gap > 0 and np.array_equal(np.sort(one.step), np.sort(other.step))
            for gap, (other, one) in zip(apart, pairwise(grown), strict=True)
        )
        moved = sum(gap > 0 for gap in apart)
        if one_state > 0.9 * len(grown):
            text = f"In {one_state} of {len(grown)} batches, all rows have the same obs."
            yield "environment.buffer_reused", text
        elif moved >= FEWEST_BATCHES and equal > 0.9 * moved:
            yield "replay.same_draws", f"{equal} of {moved} batches contain the same transitions as the batch before."
        elif newest > 0.95 * len(grown) and len(close) >= 5 and np.mean(close) > 0.4:
            text = f"{newest} of {len(grown)} batches contain only the newest transitions."
            yield "replay.newest_only", text
        else:
            yield from _oldest(grown, len(log.steps))


def _oldest(batches: list[Batch], steps: int) -> Iterator[tuple[str, str]]:
    """Yield a finding if batches never contain newer transitions, and its evidence."""
    late = [one for one in batches if one.time > 0.5 * steps]
    newest = max((int(one.step.max()) for one in late), default=0)
    rows = sum(len(one.step) for one in late)
    if rows >= FEWEST_ROWS and newest < 0.4 * min(one.time for one in late):
        yield (
            "replay.oldest_only",
            f"After {late[0].time} time steps, {rows} sampled rows contain only the first {newest + 1} transitions.",
        )


def _steps_paid(log: Any, reading: Reading, pair: Pair, start: int) -> Array | None:
    """Return the time steps (n,) of the latest rewards before a comparison, with -1 for unknown ones, or None."""
    for place in range(pair.place - 1, start, -1):
        value = reading.values[place]
        array = value.array
        if value.kind not in ("value", "parameter") or array is None or array.size != len(pair.forward.states):
            continue
        if array.dtype.kind != "f":
            continue
        found: Array = log.by_reward(array.reshape(-1).astype(np.float64))
        if (found >= 0).mean() > 0.5:
            return found
    return None


def _reset(log: Any) -> str:
    """Return the line that resets the environment and ignores the state, or else the one that resets it most often."""
    lines = Counter(call.lines[0] for call in log.calls if call.reset and call.lines)
    for file, _, number in (line.rpartition(":") for line in lines):
        if re.match(r"[\w.]+\.reset\(", linecache.getline(file, int(number)).strip()):
            return f"{file}:{number}"
    return str(max(lines, key=lambda line: lines[line], default=""))


def _follows(log: Any, array: Array, steps: Array) -> bool:
    """Return whether an array contains the next states of the rows of a batch."""
    if array.shape != (len(steps), log.size) or array.dtype.kind != "f" or len(steps) < SMALLEST:
        return False
    after = np.array([log.steps[index].after if index >= 0 else -1 for index in steps])
    return bool((log.states(array) == after)[steps >= 0].mean() > 0.5)


def _shuffled(one: Array, other: Array) -> bool:
    """Return whether the program changed the order of a batch (n,) between two arrays."""
    return bool((one != other).any()) and np.array_equal(np.sort(one), np.sort(other))


def _contains(reading: Reading, pair: Pair, start: int) -> bool:
    """Return whether the predicted actions are an array of the batch."""
    return any(
        value.array is not None
        and value.array.dtype.kind in "iu"
        and value.array.size == len(pair.chosen)
        and np.array_equal(value.array.reshape(-1), pair.chosen)
        for value in reading.values[start + 1 : pair.place]
    )


def _line(name: str, nodes: list[Node]) -> str:
    """Return the likeliest line of a finding: where transitions are stored, unless the catalogue knows better."""
    if name.startswith("loop.") or name in ("replay.next_is_current", "environment.reset_as_next"):
        places = Counter(
            f"{one.file}:{one.line}"
            for one in nodes
            if one.operator == "Call" and STORE.search(one.text) and one.text.count(",") >= 3
        )
        if places:
            return next(iter(places))
    return likely(name, nodes)
