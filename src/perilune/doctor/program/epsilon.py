"""Read off how the probability of random actions changes while a program runs."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.observed import observed, set_at
from perilune.doctor.report import Finding

DRAW = re.compile(r"rand|uniform|sample|rng|generator", re.IGNORECASE)
LONG_LIMIT = 1000  # time steps of an episode, before whose end epsilon must not be at its final value
FEWEST_RESTARTS, FEWEST_BURSTS = 10, 3
FEWEST_ROWS = 16
CONSTANT_FOR = 1000  # time steps with updates, after which a constant epsilon is judged
LATER = 100  # time steps with epsilon 0 before the latest update


class Draw(NamedTuple):
    """A comparison of a random number with a threshold."""

    step: int  # index of the time step that follows
    number: float
    threshold: float
    outcome: bool


class Epsilon(NamedTuple):
    """The comparison that decides between a random action and the best one."""

    node: int
    random: bool  # outcome that leads to a random action


class Burst(NamedTuple):
    """Changes of a variable between two time steps: its name, how often it changed, and the rows of the updates."""

    name: str
    changes: int
    rows: int


def check_schedule(
    trace: Any, draw: Epsilon, draws: list[Draw], learned: int, bursts: list[Burst]
) -> Iterator[Finding]:
    """Check how the probability of random actions changes over time.

    Args:
        trace: The finished trace of the program.
        draw: The comparison that decides between a random action and the best one.
        draws: What it compared.
        learned: Number of time steps before the latest update.
        bursts: Variables that changed many times between two time steps.
    """
    node, line = trace.nodes[draw.node], line_of(trace, draw.node)
    numbers = np.array([one.number for one in draws])
    outside = float(((numbers < 0) | (numbers > 1)).mean())
    if outside > 0.05:
        random = float(np.mean([one.outcome is draw.random for one in draws]))
        evidence = (
            f"`{node.text}` compares numbers from {numbers.min():.2f} to {numbers.max():.2f}, so {random:.0%} of the "
            f"actions are random. Uniform numbers lie between 0 and 1."
        )
        yield observed("exploration.epsilon_ignored", evidence, line)
        return
    below = (node.operator in ("Lt", "LtE")) == bool(DRAW.search(_left(trace, draw.node)))
    thresholds = np.array([one.threshold for one in draws])
    share = thresholds if below == draw.random else 1 - thresholds  # probability of a random action
    setting = _changed_at(trace, draw.node)
    if share[-1] - share[0] > 0.15 and (np.diff(share) > -1e-9).mean() > 0.95:
        evidence = f"The probability of a random action rises from {share[0]:.2f} to {share[-1]:.2f}."
        yield observed("exploration.inverted", evidence, line)
        return
    if share.min() > 0.7 and np.ptp(share) < 1e-9 and thresholds[0] < 0.3:
        evidence = f"`{node.text}` leads to a random action with probability {share[0]:.2f} in all time steps."
        yield observed("exploration.inverted", evidence, line)
        return
    if thresholds.min() < -0.02 or thresholds.max() > 1.05:
        evidence = f"In `{node.text}`, epsilon goes from {thresholds[0]:.3g} to {thresholds[-1]:.3g}."
        yield observed("exploration.epsilon_out_of_range", evidence, setting or line)
    steps = np.array([one.step for one in draws])
    if learned - steps[0] >= CONSTANT_FOR and share.min() > 0.9 and np.ptp(share) == 0 and _set_once(trace, draw.node):
        evidence = (
            f"The probability of a random action is {share[0]:.2f} in all of {steps[-1] - steps[0]} time steps. The "
            "program sets epsilon once and never changes it."
        )
        yield observed("exploration.never_decays", evidence, setting or line)
    if per_row := _per_row(trace, draw.node, bursts):
        yield observed("exploration.decays_per_row", per_row, setting or line)
    if restarts := _restarts(steps, share, sorted(trace.log.begun)):
        yield observed("exploration.restarts", restarts, setting or line)
    elif (soon := _soon(trace, steps, share)) and not per_row:
        yield observed("exploration.decays_at_once", soon, setting or line)
    elif zero := _not_restored(steps, share, learned):
        yield observed("exploration.not_restored", zero, _zero_at(trace, draw.node) or line)


def _per_row(trace: Any, node: int, bursts: list[Burst]) -> str:
    """Return the evidence that each row of a batch changes epsilon, or ""."""
    names = _names(trace, node)
    own = [one for one in bursts if one.name.rpartition(".")[2] in names and one.changes == one.rows]
    if len(own) < FEWEST_BURSTS or len({one.rows for one in own}) > 1:
        return ""
    return f"Between two time steps, epsilon changes {own[0].rows} times: once for each row of the batch."


def _restarts(steps: Array, share: Array, begun: list[int]) -> str:
    """Return the evidence that epsilon falls within each episode and rises again before the next one, or ""."""
    episodes = np.array([bisect_right(begun, step) for step in steps])
    change, within = np.diff(share), np.diff(episodes) == 0
    falls, rises = int((change[within] < 0).sum()), int((change[~within] > 0).sum())
    starts = share[np.isin(steps, begun)]
    if (change[within] > 0).any() or min(falls, rises, len(starts)) < FEWEST_RESTARTS or rises < 0.9 * (~within).sum():
        return ""
    if np.ptp(starts) > 0.02 or starts[0] < 0.1:
        return ""
    return (
        f"Epsilon falls within episodes, and rises again before {rises} of {(~within).sum()} later ones. It is "
        f"{starts[0]:.3g} at first, and still {starts[-1]:.3g} at the start of the last episode."
    )


def _soon(trace: Any, steps: Array, share: Array) -> str:
    """Return the evidence that epsilon reaches its final value far too early, or ""."""
    last, first = share[-len(share) // 4 :], share[: max(len(share) // 4, 1)]
    ends = [index for index, one in enumerate(trace.log.steps) if one.terminated or one.truncated][:2]
    limit = trace.envs[0].limit or 0
    low = np.flatnonzero(share <= max(0.1 * share[0], last.max() + 1e-6))
    final = np.flatnonzero(share <= last.max() + 1e-3)
    if first[0] < 0.5 or not len(low) or last.max() > 0.2 or len(share) <= 100:
        return ""
    at_once = steps[low[0]] - steps[0] <= max(10, ends[-1] + 1 if len(ends) == 2 else 0)
    at = low[0] if at_once else final[0]
    text = (
        f"The probability of a random action falls from {share[0]:.2f} to {share[at]:.3g} within "
        f"{steps[at] - steps[0]} time steps."
    )
    gradual = len(np.unique(share)) > 2
    if at_once or not (gradual and limit >= LONG_LIMIT and steps[at] - steps[0] < limit and len(share) - at > 50):
        return text if at_once else ""
    return f"{text} A single episode may take {limit}."


def _not_restored(steps: Array, share: Array, learned: int) -> str:
    """Return the evidence that epsilon drops to 0 at once while it falls slowly, and stays there, or ""."""
    positive = np.flatnonzero(share > 0)
    place = int(positive[-1]) + 1 if len(positive) else len(share)
    if place >= len(share) or learned < steps[place] + LATER:
        return ""
    before = share[:place]
    drop = float(np.max(-np.diff(before), initial=0))
    if len(np.unique(before)) < 3 or before[-1] < max(0.05, 5 * drop) or (np.diff(before) > 0).any():
        return ""
    return (
        f"The probability of a random action falls slowly to {before[-1]:.3g}, then drops to 0 after {steps[place]} "
        f"time steps, and stays 0. Updates continue for at least {learned - steps[place]} time steps."
    )


def _zero_at(trace: Any, node: int) -> str:
    """Return the line that sets the threshold of a comparison to 0, or ""."""
    return next(iter(set_at(trace, _names(trace, node), r"=[^=]*\b0(\.0*)?\s*($|[;#])")), "")


def _set_once(trace: Any, node: int) -> bool:
    """Return whether one statement of the program sets the threshold of a comparison."""
    names = _names(trace, node)
    parameter = any(name in one.parameters for one in trace.functions.values() for name in names)
    return not parameter and len(set_at(trace, names, r"[-+*/]?=")) == 1


def _names(trace: Any, node: int) -> set[str]:
    """Return the names of the threshold of a comparison, without the objects that they belong to."""
    texts = [trace.nodes[child].text for child in trace.nodes[node].children]
    return {text.rpartition(".")[2] for text in texts if text and not DRAW.search(text)}


def _left(trace: Any, node: int) -> str:
    """Return the left operand of a comparison, or what is assigned to it."""
    left: str = trace.nodes[trace.nodes[node].children[0]].text
    assigned = (one.text for one in trace.nodes if one.assigned == left and DRAW.search(one.text))
    return left if DRAW.search(left) else next(assigned, left)


def _changed_at(trace: Any, node: int) -> str:
    """Return the line that changes the threshold of a comparison, or ""."""
    names = _names(trace, node)
    for one in trace.nodes:
        target = one.assigned or (one.text if one.kind == "variable" and one.operator else "")
        if target.rpartition(".")[2] in names and one.operator and not DRAW.search(one.text):
            return f"{one.file}:{one.line}"
    return ""


def line_of(trace: Any, node: int) -> str:
    """Return ``file:line`` of a node."""
    return f"{trace.nodes[node].file}:{trace.nodes[node].line}"
