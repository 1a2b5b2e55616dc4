"""What was drawn from a replay, against what truly happened: transitions whose states are numbered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import found
from perilune.doctor.report import Finding
from perilune.doctor.ward import Case, PatientFailed, Ward, as_array
from perilune.doctor.worlds import Diary, Step, number

DRAWN = 4000
RARE = 0.01  # the share of transitions that may be odd: a loop's first and last ones sometimes are
LONGEST = 30  # steps that one transition may stand for


class Draw(NamedTuple):
    """What ``sample`` gave: numbers of states before[N] and after[N], action[N], reward[N], terminated[N]."""

    before: Array
    action: Array
    reward: Array
    after: Array
    terminated: Array


def draw(ward: Ward, case: Case, count: int) -> Draw:
    """At least ``count`` transitions, in batches as the agent would draw them."""
    parts: list[list[Array]] = []
    while sum(len(part[0]) for part in parts) < count:
        given = case.call("sample", 64)
        try:
            columns = [as_array(column) for column in given]
        except (TypeError, ValueError, RuntimeError) as error:
            raise PatientFailed("sample", f"gave what are no arrays: {error}", error) from error
        if len(columns) < 5 or columns[0].ndim == 0 or len(columns[0]) == 0:
            raise PatientFailed(
                "sample", f"gave {len(columns)} arrays; obs, action, reward, next_obs and terminated are wanted"
            )
        parts.append(columns[:5])
    obs, action, reward, next_obs, terminated = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows = len(obs)
    return Draw(
        _numbers(ward, obs),
        action.reshape(rows),
        reward.reshape(rows),
        _numbers(ward, next_obs),
        terminated.reshape(rows).astype(bool),
    )


def _numbers(ward: Ward, obs: Array) -> Array:
    flat = obs.reshape(len(obs), -1)
    return number(flat) if flat.shape[1] == ward.size else np.full(len(obs), -1)


def check_stored(ward: Ward, drawn: Draw, diary: Diary, in_loop: bool) -> Iterator[Finding]:
    """Every transition that is drawn must be one that happened, or n of one episode in a row.

    The questions go from the coarse to the fine, and the first that finds something is the last that is asked.
    """
    whole = _changed(drawn, in_loop) or _one_state(drawn, diary)
    if whole is not None:
        yield whole
        return
    chains = _chains(diary, drawn)
    part = _crossing(diary, drawn, chains) or _never_happened(diary, drawn, chains, in_loop)
    if part is not None:
        yield part
        return
    yield from _ends(diary, drawn, chains)
    yield from _mixed(ward, drawn, chains)


def _changed(drawn: Draw, in_loop: bool) -> Finding | None:
    lost = ((drawn.before < 0) | (drawn.after < 0)).mean()
    if lost <= RARE:
        return None
    return found(
        "environment.observations_changed" if in_loop else "replay.changes_observations",
        f"{lost:.0%} of {len(drawn.before)} states that were drawn are none of those stored: they were cut or changed",
    )


def _one_state(drawn: Draw, diary: Diary) -> Finding | None:
    """obs and next_obs are one: is it the state before the step, or has the one after it been written over both?"""
    different = len(np.unique(drawn.before))
    if (drawn.after == drawn.before).mean() <= 0.5 and different > 2:
        return None
    said = (
        f"in {len(drawn.before)} transitions that were drawn obs is next_obs, and {different} different ones are there"
    )
    fits_before = _actions_fit(drawn, {step.before: step for step in diary.steps})
    fits_after = _actions_fit(drawn, {step.after: step for step in diary.steps})
    if different <= 2 or fits_after > fits_before + 0.2:
        return found("environment.buffer_reused", f"{said}: states after the step")
    return found("replay.next_is_current", f"{said}: states before the step")


def _actions_fit(drawn: Draw, steps: dict[int, Step]) -> float:
    pairs = zip(drawn.before, drawn.action, strict=True)
    return float(np.mean([number in steps and steps[number].action == action for number, action in pairs]))


def _chains(diary: Diary, drawn: Draw) -> list[list[Step]]:
    """The steps that each transition stands for: n of them, always as many, but for fewer before an episode's end.

    An empty list is a transition that never happened.
    """
    steps = {step.before: step for step in diary.steps}
    chains = [_chain(steps, before, after) for before, after in zip(drawn.before, drawn.after, strict=True)]
    lengths = np.array([len(chain) for chain in chains])
    n = int(np.bincount(lengths[lengths > 0]).argmax()) if lengths.any() else 0
    return [chain if len(chain) == n or (len(chain) < n and _is_end(chain)) else [] for chain in chains]


def _chain(steps: dict[int, Step], before: int, after: int) -> list[Step]:
    """The steps that lead from one state to the other within one episode; none if they do not."""
    chain: list[Step] = []
    while before in steps and len(chain) < LONGEST:
        chain.append(steps[before])
        if chain[-1].after == after:
            return chain
        if _is_end(chain):
            return []
        before = chain[-1].after
    return []


def _is_end(chain: list[Step]) -> bool:
    return bool(chain) and (chain[-1].terminated or chain[-1].truncated)


def _crossing(diary: Diary, drawn: Draw, chains: list[list[Step]]) -> Finding | None:
    rows = [
        row
        for row, (before, after) in enumerate(zip(drawn.before, drawn.after, strict=True))
        if not chains[row] and after in diary.first and before not in diary.first
    ]
    if len(rows) <= RARE * len(chains):
        return None
    return found(
        "environment.reset_as_next",
        f"in {len(rows)} of {len(chains)} transitions next_obs is the first state of another episode: from state "
        f"{drawn.before[rows[0]]} to {drawn.after[rows[0]]}",
    )


def _never_happened(diary: Diary, drawn: Draw, chains: list[list[Step]], in_loop: bool) -> Finding | None:
    broken = np.array([not chain for chain in chains])
    if broken.mean() <= RARE:
        return None
    row = int(np.flatnonzero(broken)[0])
    said = (
        f"{broken.mean():.0%} of {len(chains)} transitions never happened: from state {drawn.before[row]} to "
        f"{drawn.after[row]}, for example"
    )
    begin_first = np.mean([before in diary.first for before in drawn.before[broken]])
    if in_loop and begin_first > 0.8:
        return found("loop.state_not_advanced", f"{said}; {begin_first:.0%} of these begin in an episode's first state")
    return found("replay.mismatched", said)


def _ends(diary: Diary, drawn: Draw, chains: list[list[Step]]) -> Iterator[Finding]:
    """Terminated transitions must be there and be called so; truncated ones must not."""
    flags = zip(chains, drawn.terminated, strict=True)
    ends = [(chain[-1], flag) for chain, flag in flags if chain and _is_end(chain)]
    cut_off = [flag for step, flag in ends if step.truncated]
    if cut_off and np.mean(cut_off) > 0.5:
        yield found(
            "environment.truncation_as_end",
            f"{sum(cut_off)} of {len(cut_off)} transitions that were truncated are stored as terminated",
        )
    terminal = [flag for step, flag in ends if step.terminated]
    happened = sum(step.terminated for step in diary.steps)
    if not terminal and happened * len(chains) > 30 * len(diary.steps):  # 30 were due
        yield found(
            "replay.terminal_lost",
            f"of {len(diary.steps)} steps {happened} were terminated, and none of them is among {len(chains)} drawn",
        )
    elif terminal and np.mean(terminal) < 0.5:
        yield found(
            "loop.termination_lost",
            f"{len(terminal) - sum(terminal)} of {len(terminal)} terminated transitions are not stored as such",
        )


def _mixed(ward: Ward, drawn: Draw, chains: list[list[Step]]) -> Iterator[Finding]:
    """Action and reward must be those of the steps that the states tell."""
    worth = np.array([sum(ward.gamma**k * step.reward for k, step in enumerate(chain)) for chain in chains])
    plain = np.array([sum(step.reward for step in chain) for chain in chains])  # of an action that lasts
    happened = np.array([bool(chain) for chain in chains])
    scaled = any(_follows(drawn.reward[happened], sums[happened]) for sums in (worth, plain))
    wrong = [
        row
        for row, chain in enumerate(chains)
        if chain
        and (drawn.action[row] != chain[0].action or (not scaled and abs(drawn.reward[row] - worth[row]) > 1e-3))
    ]
    if len(wrong) > RARE * len(chains):
        row = wrong[0]
        yield found(
            "replay.mismatched",
            f"{len(wrong) / len(chains):.0%} of {len(chains)} transitions carry another's action or reward: from state "
            f"{drawn.before[row]} action {drawn.action[row]} and reward {drawn.reward[row]:.4g}; they were "
            f"{chains[row][0].action} and {worth[row]:.4g}",
        )


def _follows(stored: Array, worth: Array) -> bool:
    """Whether stored rewards are those that were paid, scaled or clipped: a function of them that never falls."""
    order = np.lexsort((stored, worth))
    stored, worth = stored[order], worth[order]
    equal = np.diff(worth) < 1e-6
    rises = np.diff(stored)
    return bool(np.ptp(stored) > 0 and (np.abs(rises[equal]) < 1e-3).all() and (rises[~equal] > -1e-3).all())
