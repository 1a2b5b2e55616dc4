"""Check the replay buffer and the training loop on an environment with numbered states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.locate import raised_at
from perilune.doctor.numbered_env import NumberedEnv, Step, play, state_numbers
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session, as_array, keep_generators

STORED = 600  # transitions stored before the first sample
MANY = 25_000  # transitions stored in total: more than the capacity of most buffers
SAMPLES = 4000
RARE = 0.01  # share of transitions that may be wrong, such as the first and last ones of a run
MAX_STEPS = 30  # the longest n-step transition
RUN_STEPS = 1_000  # length of the training run


def check_replay(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Store numbered transitions through ``remember`` and check what ``sample`` returns."""
    env = NumberedEnv(session.observation_size, session.actions)
    play(agent, env, STORED)
    samples = draw(agent, SAMPLES)
    faults = list(check_samples(session, samples, env))
    yield from faults
    session.replay_faulty = bool(faults)
    if faults:
        return
    stored = np.array([step.before for step in env.steps])
    oldest = np.searchsorted(stored, samples.before.min())
    if oldest > 0.5 * len(stored):
        newest = len(stored) - oldest
        yield finding("replay.newest_only", count=len(samples.before), stored=len(stored), newest=newest)
    play(agent, env, MANY - STORED)
    yield from check_samples(session, draw(agent, SAMPLES), env)


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
    rows = len(obs)

    def numbers(obs: Array) -> Array:
        flat = obs.reshape(rows, -1)
        return state_numbers(flat) if flat.shape[1] == agent.session.observation_size else np.full(rows, -1)

    terminated = terminated.reshape(rows).astype(bool)
    return Samples(numbers(obs), action.reshape(rows), reward.reshape(rows), numbers(next_obs), terminated)


def check_samples(session: Session, samples: Samples, env: NumberedEnv, in_loop: bool = False) -> Iterator[Finding]:
    """Check that each sampled transition occurred, or combines consecutive transitions of an episode.

    The tests run from coarse to fine, and stop at a fault that would explain further ones.
    """
    count = len(samples.before)
    modified = ((samples.before < 0) | (samples.after < 0)).mean()
    if modified > RARE:
        name = "environment.observations_changed" if in_loop else "replay.changes_observations"
        yield finding(name, share=modified, count=count)
        return
    different = len(np.unique(samples.before))
    same = (samples.after == samples.before).mean()
    if same > 0.5 or different <= 2:
        # Do both contain the state before the time step, or did the state after it overwrite them?
        before, after = (_share_with_action(samples, env, key) for key in ("before", "after"))
        reused = different <= 2 or after > before + 0.2
        name = "environment.buffer_reused" if reused else "replay.next_is_current"
        yield finding(name, same=same, count=count, different=different)
        return
    chains = _chains(env, samples)
    broken = np.array([not chain for chain in chains])
    starts, ends = (np.isin(numbers, list(env.first)) for numbers in (samples.before, samples.after))
    across = broken & ends & ~starts
    if max(across.mean(), broken.mean()) > RARE:
        wrong = across if across.mean() > RARE else broken
        values = {"wrong": wrong.sum(), "count": count, "first": starts[wrong].mean()}
        before, after = samples.before[wrong][0], samples.after[wrong][0]
        if across.mean() > RARE:
            yield finding("environment.reset_as_next", before=before, after=after, **values)
            return
        stuck = in_loop and values["first"] > 0.8
        details = f"{broken.mean():.0%} of {count} sampled transitions never occurred. Example: state {before} -> "
        name = "loop.state_not_advanced" if stuck else "replay.mismatched"
        yield finding(name, details=f"{details}state {after}", **values)
        return
    yield from _ends(env, samples, chains)
    yield from _mixed(session, samples, chains)


def _share_with_action(samples: Samples, env: NumberedEnv, key: str) -> float:
    """Return the share of samples whose action belongs to the step that starts ("before") or ends ("after") in obs."""
    actions = {getattr(step, key): step.action for step in env.steps}
    sampled = zip(samples.before.tolist(), samples.action.tolist(), strict=True)
    return float(np.mean([actions.get(number) == action for number, action in sampled]))


def _chains(env: NumberedEnv, samples: Samples) -> list[list[Step]]:
    """Return the steps that each transition spans: always n of them, or fewer before the end of an episode.

    The chain of a transition that never occurred is empty.
    """
    steps = {step.before: step for step in env.steps}
    chains = [_chain(steps, before, after) for before, after in zip(samples.before, samples.after, strict=True)]
    lengths = np.array([len(chain) for chain in chains])
    n = int(np.bincount(lengths[lengths > 0]).argmax()) if lengths.any() else 0
    return [chain if len(chain) == n or (chain and len(chain) < n and chain[-1].ended) else [] for chain in chains]


def _chain(steps: dict[int, Step], before: int, after: int) -> list[Step]:
    """Return the steps from one state to another within an episode, or an empty list."""
    chain: list[Step] = []
    while before in steps and len(chain) < MAX_STEPS:
        chain.append(steps[before])
        before = chain[-1].after
        if before == after:
            return chain
        if chain[-1].ended:
            break
    return []


def _ends(env: NumberedEnv, samples: Samples, chains: list[list[Step]]) -> Iterator[Finding]:
    """Check that terminated transitions are stored as terminated, and truncated ones are not."""
    flags = zip(chains, samples.terminated, strict=True)
    ends = [(chain[-1], flag) for chain, flag in flags if chain and chain[-1].ended]
    truncated = [flag for step, flag in ends if step.truncated]
    if truncated and np.mean(truncated) > 0.5:
        yield finding("environment.truncation_as_end", wrong=sum(truncated), count=len(truncated))
    terminated = [flag for step, flag in ends if step.terminated]
    happened = sum(step.terminated for step in env.steps)
    if not terminated and happened * len(chains) > 30 * len(env.steps):  # 30 of them were expected
        yield finding("replay.terminal_lost", happened=happened, steps=len(env.steps), count=len(chains))
    elif terminated and np.mean(terminated) < 0.5:
        yield finding("loop.termination_lost", wrong=len(terminated) - sum(terminated), count=len(terminated))


def _mixed(session: Session, samples: Samples, chains: list[list[Step]]) -> Iterator[Finding]:
    """Check that action and reward belong to the time steps between the two states."""
    returns = np.array([sum(session.gamma**k * step.reward for k, step in enumerate(chain)) for chain in chains])
    sums = np.array([sum(step.reward for step in chain) for chain in chains])  # for a repeated action
    happened = np.array([bool(chain) for chain in chains])
    scaled = any(_monotone(samples.reward[happened], values[happened]) for values in (returns, sums))
    actions = np.array([chain[0].action if chain else -1 for chain in chains])
    wrong = samples.action != actions
    if not scaled:
        wrong |= np.abs(samples.reward - returns) > 1e-3
    rows = np.flatnonzero(wrong & happened)
    if len(rows) > RARE * len(chains):
        row = rows[0]
        details = (
            f"{len(rows) / len(chains):.0%} of {len(chains)} sampled transitions have the action or reward of another "
            f"transition. Example: state {samples.before[row]} has action {samples.action[row]} and reward "
            f"{samples.reward[row]:.4g} instead of {actions[row]} and {returns[row]:.4g}"
        )
        yield finding("replay.mismatched", details=details)


def _monotone(stored: Array, actual: Array) -> bool:
    """Return whether the stored rewards are a non-decreasing function of the actual ones: scaled or clipped."""
    order = np.lexsort((stored, actual))
    stored, actual = stored[order], actual[order]
    equal = np.diff(actual) < 1e-6
    rises = np.diff(stored)
    return bool(np.ptp(stored) > 0 and (np.abs(rises[equal]) < 1e-3).all() and (rises[~equal] > -1e-3).all())


class Observer:
    """Records the Q-values of the agent before each time step of its loop."""

    def __init__(self, session: Session, agent: AgentCopy) -> None:
        self.agent = agent
        self.online: list[Array] = []  # Q of the online network before each step, always in the same states
        self.target: list[Array] = []
        self.greedy: list[int] = []  # the greedy action at each step
        self.failure: AgentFailed | None = None  # why Q could not be recorded
        self._states = session.observations(8)

    def __call__(self, obs: Array) -> None:
        """Record Q-values and the greedy action before a time step."""
        if self.failure is None:
            try:
                with keep_generators():
                    self.online.append(self.agent.q(self._states))
                    if self.agent.has("target_q_values"):
                        self.target.append(self.agent.target_q(self._states))
                    self.greedy.append(int(self.agent.q(obs[None])[0].argmax()))
            except AgentFailed as failure:  # the user's loop must not fail
                self.failure = failure


def check_loop(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Run the training loop and check resets, updates, syncs, exploration and the stored transitions."""
    observer = Observer(session, agent)
    env = NumberedEnv(session.observation_size, session.actions, observer)
    try:
        agent.call("run", env, RUN_STEPS)
    except AgentFailed as failure:
        # Did the loop expect the old results of reset() and step(), or is there another reason?
        error, text = failure.error, str(failure.error)
        unpacking = isinstance(error, ValueError) and "unpack" in text
        if not unpacking and (isinstance(error, IndexError) or not ("tuple" in text or "inhomogen" in text)):
            raise
        yield finding("environment.old_interface", error=failure).at(raised_at(error))
        return
    if observer.failure is not None:
        raise observer.failure
    steps = len(env.steps)
    if not steps:
        raise CannotTell(f"run(env, {RUN_STEPS}) took no time step")
    if env.late:
        yield finding("environment.no_reset", late=env.late, steps=steps)
        return
    updates = np.diff(observer.online, axis=0).any(axis=(1, 2)).sum()  # steps before which Q had changed
    if not updates:
        yield finding("loop.no_updates", steps=steps)
    elif observer.target and not np.diff(observer.target, axis=0).any():
        yield finding("target_network.not_synced_yet", steps=steps, updates=updates)
    yield from _exploration(session, env.steps, observer.greedy)
    if agent.has("sample") and not session.replay_faulty:
        yield from check_samples(session, draw(agent, SAMPLES), env, in_loop=True)


def _exploration(session: Session, steps: list[Step], greedy_actions: list[int]) -> Iterator[Finding]:
    """Check that the share of greedy actions rises, and does not start at 1."""
    quarter = len(steps) // 4
    if session.actions == 1 or quarter < 75:
        return
    greedy = np.array([step.action for step in steps]) == np.array(greedy_actions)
    shares = {"steps": len(steps), "first": greedy[:quarter].mean(), "last": greedy[-quarter:].mean()}
    chance = 1 / session.actions
    noisy = bool(session.not_regression)  # then the agent's greedy actions may differ from those of its q_values
    if shares["last"] < chance + 0.15 and shares["first"] < chance + 0.25 and not noisy:
        yield finding("exploration.stuck", **shares)
    elif shares["first"] > 0.97:
        yield finding("exploration.never_explores", **shares)
