"""Check the replay: store transitions with numbered states, and compare what is sampled with what happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.numbered_env import NumberedEnv, Record, Step, state_numbers
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session, as_array

STORED = 600  # transitions stored before the first sample
MANY = 25_000  # transitions stored in all: more than most buffers of adapters hold
SAMPLES = 4000
RARE = 0.01  # share of transitions that may be odd: the first and last ones of a loop sometimes are
MAX_STEPS = 30  # that one transition may span


def check_replay(session: Session) -> Iterator[Finding]:
    """Store numbered transitions through ``remember`` and check what ``sample`` returns."""
    agent = session.new_copy()
    if not agent.has("remember", "sample"):
        raise CannotTell("the adapter has no remember(...) and sample(n)")
    env = NumberedEnv(session.observation_size, session.actions, lambda obs: None)
    play(agent, env, STORED)
    samples = draw(agent, SAMPLES)
    faults = list(check_samples(session, samples, env.record, in_loop=False))
    yield from faults
    session.replay_faulty = bool(faults)
    if faults:
        return
    stored = np.array([step.before for step in env.record.steps])
    oldest = np.searchsorted(stored, samples.before.min())
    if oldest > 0.5 * len(stored):
        newest = len(stored) - oldest
        yield finding("replay.newest_only", count=len(samples.before), stored=len(stored), newest=newest)
    play(agent, env, MANY - STORED)
    yield from check_samples(session, draw(agent, SAMPLES), env.record, in_loop=False)


def play(agent: AgentCopy, env: NumberedEnv, steps: int) -> None:
    """Take ``steps`` random steps and pass them to the agent's ``remember``."""
    obs = None
    for _ in range(steps):
        if obs is None:
            obs, _ = env.reset()
        action = int(env.np_random.integers(agent.session.actions))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.call("remember", obs, action, reward, next_obs, terminated, truncated)
        obs = None if terminated or truncated else next_obs


class Samples(NamedTuple):
    """Sampled transitions: state numbers before (N,) and after (N,), action (N,), reward (N,), terminated (N,)."""

    before: Array
    action: Array
    reward: Array
    after: Array
    terminated: Array


def draw(agent: AgentCopy, count: int) -> Samples:
    """Sample at least ``count`` transitions in batches of 64."""
    parts: list[list[Array]] = []
    while sum(len(part[0]) for part in parts) < count:
        given = agent.call("sample", 64)
        try:
            columns = [as_array(column) for column in given]
        except (TypeError, ValueError, RuntimeError) as error:
            raise AgentFailed("sample", f"returned values that are not arrays: {error}", error) from error
        if len(columns) < 5 or columns[0].ndim == 0 or len(columns[0]) == 0:
            problem = f"returned {len(columns)} arrays: expected obs, action, reward, next_obs and terminated"
            raise AgentFailed("sample", problem)
        parts.append(columns[:5])
    obs, action, reward, next_obs, terminated = (np.concatenate(column) for column in zip(*parts, strict=True))

    def numbers(obs: Array) -> Array:
        flat = obs.reshape(len(obs), -1)
        known = flat.shape[1] == agent.session.observation_size
        return state_numbers(flat) if known else np.full(len(obs), -1)

    rows = len(obs)
    return Samples(
        numbers(obs),
        action.reshape(rows),
        reward.reshape(rows),
        numbers(next_obs),
        terminated.reshape(rows).astype(bool),
    )


def check_samples(session: Session, samples: Samples, record: Record, in_loop: bool) -> Iterator[Finding]:
    """Every sampled transition must be one that happened, or several consecutive ones of an episode.

    The tests go from coarse to fine, and end with the first that finds something.
    """
    whole = _modified(samples, in_loop) or _equal_states(samples, record)
    if whole is not None:
        yield whole
        return
    chains = _chains(record, samples)
    part = _across_episodes(record, samples, chains) or _never_happened(record, samples, chains, in_loop)
    if part is not None:
        yield part
        return
    yield from _ends(record, samples, chains)
    yield from _mixed(session, samples, chains)


def _modified(samples: Samples, in_loop: bool) -> Finding | None:
    share = ((samples.before < 0) | (samples.after < 0)).mean()
    if share <= RARE:
        return None
    name = "environment.observations_changed" if in_loop else "replay.changes_observations"
    return finding(name, share=share, count=len(samples.before))


def _equal_states(samples: Samples, record: Record) -> Finding | None:
    """If obs equals next_obs: is it the state before the step, or did the one after it overwrite both?"""
    different = len(np.unique(samples.before))
    if (samples.after == samples.before).mean() <= 0.5 and different > 2:
        return None
    as_before = _matching_actions(samples, {step.before: step for step in record.steps})
    as_after = _matching_actions(samples, {step.after: step for step in record.steps})
    reused = different <= 2 or as_after > as_before + 0.2
    name = "environment.buffer_reused" if reused else "replay.next_is_current"
    return finding(name, count=len(samples.before), different=different)


def _matching_actions(samples: Samples, steps: dict[int, Step]) -> float:
    pairs = zip(samples.before, samples.action, strict=True)
    return float(np.mean([number in steps and steps[number].action == action for number, action in pairs]))


def _chains(record: Record, samples: Samples) -> list[list[Step]]:
    """Return the steps that each transition spans: always n of them, or fewer before the end of an episode.

    The chain of a transition that never happened is empty.
    """
    steps = {step.before: step for step in record.steps}
    chains = [_chain(steps, before, after) for before, after in zip(samples.before, samples.after, strict=True)]
    lengths = np.array([len(chain) for chain in chains])
    n = int(np.bincount(lengths[lengths > 0]).argmax()) if lengths.any() else 0
    return [chain if len(chain) == n or (len(chain) < n and _is_end(chain)) else [] for chain in chains]


def _chain(steps: dict[int, Step], before: int, after: int) -> list[Step]:
    """Return the steps from one state to another within an episode, or an empty list."""
    chain: list[Step] = []
    while before in steps and len(chain) < MAX_STEPS:
        chain.append(steps[before])
        if chain[-1].after == after:
            return chain
        if _is_end(chain):
            return []
        before = chain[-1].after
    return []


def _is_end(chain: list[Step]) -> bool:
    return bool(chain) and (chain[-1].terminated or chain[-1].truncated)


def _across_episodes(record: Record, samples: Samples, chains: list[list[Step]]) -> Finding | None:
    rows = [
        row
        for row, (before, after) in enumerate(zip(samples.before, samples.after, strict=True))
        if not chains[row] and after in record.first and before not in record.first
    ]
    if len(rows) <= RARE * len(chains):
        return None
    before, after = samples.before[rows[0]], samples.after[rows[0]]
    return finding("environment.reset_as_next", wrong=len(rows), count=len(chains), before=before, after=after)


def _never_happened(record: Record, samples: Samples, chains: list[list[Step]], in_loop: bool) -> Finding | None:
    broken = np.array([not chain for chain in chains])
    if broken.mean() <= RARE:
        return None
    row = int(np.flatnonzero(broken)[0])
    details = (
        f"{broken.mean():.0%} of {len(chains)} sampled transitions never happened, for example state "
        f"{samples.before[row]} -> state {samples.after[row]}"
    )
    first = np.mean([before in record.first for before in samples.before[broken]])
    if in_loop and first > 0.8:
        return finding("loop.state_not_advanced", details=details, first=first)
    return finding("replay.mismatched", details=details)


def _ends(record: Record, samples: Samples, chains: list[list[Step]]) -> Iterator[Finding]:
    """Terminated transitions must be stored, and flagged as such. Truncated ones must not be flagged."""
    flags = zip(chains, samples.terminated, strict=True)
    ends = [(chain[-1], flag) for chain, flag in flags if chain and _is_end(chain)]
    truncated = [flag for step, flag in ends if step.truncated]
    if truncated and np.mean(truncated) > 0.5:
        yield finding("environment.truncation_as_end", wrong=sum(truncated), count=len(truncated))
    terminated = [flag for step, flag in ends if step.terminated]
    happened = sum(step.terminated for step in record.steps)
    if not terminated and happened * len(chains) > 30 * len(record.steps):  # 30 of them were expected
        yield finding("replay.terminal_lost", happened=happened, steps=len(record.steps), count=len(chains))
    elif terminated and np.mean(terminated) < 0.5:
        yield finding("loop.termination_lost", wrong=len(terminated) - sum(terminated), count=len(terminated))


def _mixed(session: Session, samples: Samples, chains: list[list[Step]]) -> Iterator[Finding]:
    """Action and reward must belong to the steps between the two states."""
    returns = np.array([sum(session.gamma**k * step.reward for k, step in enumerate(chain)) for chain in chains])
    sums = np.array([sum(step.reward for step in chain) for chain in chains])  # for a repeated action
    happened = np.array([bool(chain) for chain in chains])
    scaled = any(_monotone(samples.reward[happened], values[happened]) for values in (returns, sums))
    wrong = [
        row
        for row, chain in enumerate(chains)
        if chain
        and (samples.action[row] != chain[0].action or (not scaled and abs(samples.reward[row] - returns[row]) > 1e-3))
    ]
    if len(wrong) > RARE * len(chains):
        row = wrong[0]
        details = (
            f"{len(wrong) / len(chains):.0%} of {len(chains)} sampled transitions have the action or reward of another "
            f"one: from state {samples.before[row]} action {samples.action[row]} and reward {samples.reward[row]:.4g}; "
            f"actual {chains[row][0].action} and {returns[row]:.4g}"
        )
        yield finding("replay.mismatched", details=details)


def _monotone(stored: Array, actual: Array) -> bool:
    """Return whether the stored rewards are a non-decreasing function of the actual ones: scaled or clipped."""
    order = np.lexsort((stored, actual))
    stored, actual = stored[order], actual[order]
    equal = np.diff(actual) < 1e-6
    rises = np.diff(stored)
    return bool(np.ptp(stored) > 0 and (np.abs(rises[equal]) < 1e-3).all() and (rises[~equal] > -1e-3).all())
