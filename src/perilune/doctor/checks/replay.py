"""Check the replay buffer on an environment with numbered states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.locate import advanced_too_early, lines_run
from perilune.doctor.numbered_env import COUNT, NumberedEnv, Step, play, state_numbers
from perilune.doctor.report import Finding, Line
from perilune.doctor.session import AgentCopy, AgentFailed, Session, as_array

STORED = 600  # transitions stored before the first sample
FIRST_SAMPLES = 12_000  # with uniform sampling, a given transition is missing from all of them with probability 2e-9
MANY = 25_000  # transitions stored in total: more than the capacity of some buffers
MOST_ENTRIES = 25_000_000  # entries of all observations stored
SAMPLES = 4000
RARE = 0.01  # share of transitions that may be wrong, such as the first and last ones of a run
MAX_STEPS = 30  # the longest n-step transition
RUN_FOR_LINES = 50  # time steps
EXACT = 3e-6  # largest difference between a stored reward and the reward that it copies


def check_replay(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Store numbered transitions through ``remember`` and check what ``sample`` returns."""
    env = NumberedEnv(session.observation_size, session.actions)
    play(agent, env, STORED)
    samples = draw(agent, FIRST_SAMPLES)
    for one in check_samples(session, samples, env):
        session.replay_faulty |= one.severity != "note"
        yield one
    if session.replay_faulty:
        return
    dependent = list(_check_draws(samples, env))
    yield from dependent
    if dependent:
        return
    play(agent, env, min(MANY, MOST_ENTRIES // session.observation_size) - STORED)
    samples = draw(agent, SAMPLES)
    yield from check_samples(session, samples, env)
    stored = len(env.steps)
    newest = (samples.before >= env.steps[-STORED].before).mean()
    if newest < 0.25 * STORED / stored:  # with a smaller capacity, the share of the newest transitions is larger
        yield finding("replay.oldest_only", count=len(samples.before), stored=stored, newest=newest, last=STORED)


class Samples(NamedTuple):
    """Sampled transitions: state numbers before (N,) and after (N,), action (N,), reward (N,), terminated (N,).

    ``call`` (N,) numbers the call of ``sample`` or ``train_batch``. ``empty`` (N,) marks observations of zeros only.
    """

    before: Array
    action: Array
    reward: Array
    after: Array
    terminated: Array
    call: Array
    empty: Array


def draw(agent: AgentCopy, count: int) -> Samples:
    """Sample at least ``count`` transitions in batches of 64."""
    parts: list[Samples] = []
    while sum(len(part.before) for part in parts) < count:
        given = agent.call("sample", 64)
        try:
            parts.append(as_samples(given, agent.session.observation_size, len(parts)))
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise AgentFailed("sample", f"returned values that are not arrays: {error}", error) from error
        if not len(parts[-1].before):
            raise AgentFailed("sample", "returned no transitions")
    return joined(parts)


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the samples of several calls as one."""
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def as_samples(given: Sequence[Any], size: int, call: int, decode: Callable[[Array], Array] = state_numbers) -> Samples:
    """Decode a batch: obs, action, reward, next_obs and terminated. Raise ValueError if it is not a batch."""
    if len(given) < 5:
        raise ValueError(f"{len(given)} arrays: expected obs, action, reward, next_obs and terminated")
    obs, action, reward, next_obs, terminated = (_as_column(column) for column in list(given)[:5])
    rows = len(obs)

    def numbers(obs: Array) -> Array:
        flat = obs.reshape(rows, -1)
        return decode(flat) if flat.shape[1] == size else np.full(rows, -1)

    return Samples(
        numbers(obs),
        action.reshape(rows),
        reward.reshape(rows),
        numbers(next_obs),
        terminated.reshape(rows).astype(bool),
        np.full(rows, call),
        np.asarray(~obs.reshape(rows, -1).any(axis=1)),
    )


def _as_column(column: Any) -> Array:
    """Return a column as an array. Rows without a next observation, such as None, become NaN."""
    may_lack = isinstance(column, list | tuple) or (isinstance(column, np.ndarray) and column.dtype == object)
    if may_lack and any(row is None for row in column):
        given = [as_array(row) for row in column if row is not None]
        empty = np.full(given[0].shape if given else (1,), np.nan)
        return np.array([empty if row is None else as_array(row) for row in column])
    if isinstance(column, list | tuple) and column and hasattr(column[0], "detach"):
        return np.array([as_array(row) for row in column])
    array = as_array(column)
    if array.ndim == 0:
        raise ValueError("a single number: expected an array with a row for each transition")
    return array


def check_samples(session: Session, samples: Samples, env: NumberedEnv, in_loop: bool = False) -> Iterator[Finding]:
    """Check that each sampled transition occurred, or combines consecutive transitions of an episode.

    The tests run from coarse to fine, and stop at a fault that would explain further ones. They ignore next_obs of
    terminated transitions, because targets ignore it.
    """
    count = len(samples.before)
    matters = ~samples.terminated
    modified = ((samples.before < 0) | ((samples.after < 0) & matters)).mean()
    if modified > RARE:
        name = "environment.observations_changed" if in_loop else "replay.changes_observations"
        yield finding(name, share=modified, count=count)
        return
    if (empty := samples.empty.sum()) >= 5:
        yield finding("replay.unwritten", empty=empty, count=count)
        return
    different = len(np.unique(samples.before))
    same = (samples.after == samples.before)[matters].mean() if matters.any() else 0.0
    if same > 0.5 or different <= 2:
        # Do both contain the state before the time step, or did the state after it overwrite them?
        before, after = (_share_with_action(samples, env, key) for key in ("before", "after"))
        reused = different <= 2 or after > before + 0.2
        found = finding(
            "environment.buffer_reused" if reused else "replay.next_is_current",
            same=same,
            count=count,
            different=different,
        )
        line = advanced_too_early(_lines_of_loop(session)) if in_loop and reused else None
        yield finding("loop.advanced_too_early", same=same, count=count).at(line) if line else found
        return
    chains = _chains(env, samples)
    broken = chains.each(not chain for chain in chains.distinct)
    starts, ends = (np.isin(numbers, list(env.first)) for numbers in (samples.before, samples.after))
    across = broken & ends & ~starts
    if max(across.mean(), broken.mean()) > RARE:
        wrong = across if across.mean() > RARE else broken
        before, after = samples.before[wrong][0], samples.after[wrong][0]
        if across.mean() > RARE:
            name = "environment.reset_as_next" if in_loop else "replay.next_of_another_episode"
            yield finding(name, before=before, after=after, wrong=wrong.sum(), count=count)
            return
        details = f"{broken.mean():.0%} of {count} sampled transitions never occurred. Example: state {before} -> "
        details += f"state {after}"
        first = starts[wrong].mean()
        if in_loop and first > 0.8:
            details += f". Of these transitions, {first:.0%} start in the first state of an episode"
            yield finding("loop.state_not_advanced", details=details)
        else:
            yield finding("replay.mismatched", details=details)
        return
    yield from _ends(env, samples, chains)
    yield from _mixed(session, samples, chains, env, in_loop)


def _lines_of_loop(session: Session) -> list[Line]:
    agent = session.new_copy()
    env = NumberedEnv(session.observation_size, session.actions)
    return lines_run(lambda: agent.call("run", env, RUN_FOR_LINES))


def _share_with_action(samples: Samples, env: NumberedEnv, key: str) -> float:
    """Return the share of samples whose action belongs to the step that starts ("before") or ends ("after") in obs."""
    actions = {getattr(step, key): step.action for step in env.steps}
    sampled = zip(samples.before.tolist(), samples.action.tolist(), strict=True)
    return float(np.mean([actions.get(number) == action for number, action in sampled]))


class Chains(NamedTuple):
    """The steps that each transition spans. ``distinct`` has every chain once, and ``which`` (N,) selects one of them.

    The chain of a transition that never occurred is empty.
    """

    distinct: list[list[Step]]
    which: Array

    def each(self, values: Iterable[Any]) -> Array:
        """Return the value of each transition (N,), given those of the distinct chains."""
        return np.array([*values])[self.which]


def _chains(env: NumberedEnv, samples: Samples) -> Chains:
    """Return the steps that each transition spans: always n of them, or fewer before the end of an episode.

    A terminated transition spans the steps to the end of its episode, with any next_obs.
    """
    steps = {step.before: step for step in env.steps}
    keys = ((samples.before + 1) * 2 * COUNT + samples.after + 1) * 2 + samples.terminated  # a number may be -1
    _, rows, which = np.unique(keys, return_index=True, return_inverse=True)
    distinct = [
        _chain(steps, before, after) or (_chain(steps, before, None) if flag else [])
        for before, after, flag in zip(
            *(column[rows].tolist() for column in (samples.before, samples.after, samples.terminated)), strict=True
        )
    ]
    lengths = np.array([len(chain) for chain in distinct])[which]
    n = int(np.bincount(lengths[lengths > 0]).argmax()) if lengths.any() else 0
    whole = [chain if len(chain) == n or (len(chain) < n and chain and chain[-1].ended) else [] for chain in distinct]
    return Chains(whole, which)


def _chain(steps: dict[int, Step], before: int, after: int | None) -> list[Step]:
    """Return the steps from a state to another one of its episode, or to the end if ``after`` is None, or []."""
    chain: list[Step] = []
    while before in steps and len(chain) < MAX_STEPS:
        chain.append(steps[before])
        before = chain[-1].after
        if before == after or (after is None and chain[-1].ended):
            return chain
        if chain[-1].ended:
            break
    return []


def _ends(env: NumberedEnv, samples: Samples, chains: Chains) -> Iterator[Finding]:
    """Check that terminated transitions are stored as terminated, and truncated ones are not."""
    count = len(chains.which)
    truncated = samples.terminated[chains.each(bool(chain) and chain[-1].truncated for chain in chains.distinct)]
    if len(truncated) and truncated.mean() > 0.5:
        yield finding("environment.truncation_as_end", wrong=truncated.sum(), count=len(truncated))
    within = chains.each(bool(chain) and not chain[-1].ended for chain in chains.distinct)
    if (early := within & samples.terminated).mean() > RARE:
        yield finding("replay.false_ends", wrong=early.sum(), count=within.sum())
    terminated = samples.terminated[chains.each(bool(chain) and chain[-1].terminated for chain in chains.distinct)]
    happened = sum(step.terminated for step in env.steps)
    if not len(terminated) and happened * count > 30 * len(env.steps):  # 30 of them were expected
        yield finding("replay.terminal_lost", happened=happened, steps=len(env.steps), count=count)
    elif len(terminated) and terminated.mean() < 0.5:
        yield finding("loop.termination_lost", wrong=(~terminated).sum(), count=len(terminated))


def _mixed(session: Session, samples: Samples, chains: Chains, env: NumberedEnv, in_loop: bool) -> Iterator[Finding]:
    """Check that action and reward belong to the time steps between the two states, and whether rewards change."""
    count = len(chains.which)
    happened = chains.each(bool(chain) for chain in chains.distinct)
    actions = chains.each(chain[0].action if chain else -1 for chain in chains.distinct)
    returns = chains.each(
        sum(session.gamma**k * step.reward for k, step in enumerate(chain)) for chain in chains.distinct
    )
    sums = chains.each(sum(step.reward for step in chain) for chain in chains.distinct)  # for a repeated action
    rewards = sums if np.abs(samples.reward - sums).mean() < np.abs(samples.reward - returns).mean() else returns
    wrong_action = happened & (samples.action != actions)
    wrong_reward = happened & (np.abs(samples.reward - rewards) > 1e-3)
    of_others = wrong_reward.mean() > RARE and _of_others(session, samples, chains, env, wrong_reward)
    if in_loop and wrong_action.mean() > RARE >= wrong_reward.mean():
        row = np.flatnonzero(wrong_action)[0]
        values = {"stored": samples.action[row], "taken": actions[row], "state": samples.before[row]}
        yield finding("loop.other_action_stored", share=wrong_action.mean(), count=count, **values)
    elif in_loop and of_others and (repeats := _repeats(chains)) > 1 and _last_only(samples, chains):
        yield finding("environment.last_reward_only", repeats=repeats, share=wrong_reward.mean(), count=count)
    elif wrong_action.mean() > RARE or of_others:
        wrong = wrong_action if wrong_action.mean() > RARE else wrong_reward
        row = np.flatnonzero(wrong)[0]
        details = (
            f"{wrong.mean():.0%} of {count} sampled transitions have the action or reward of another transition. "
            f"Example: state {samples.before[row]} has action {samples.action[row]} and reward "
            f"{samples.reward[row]:.4g} instead of {actions[row]} and {rewards[row]:.4g}"
        )
        yield finding("replay.mismatched", details=details)
    elif wrong_reward.mean() > RARE:
        rows = np.flatnonzero(wrong_reward)[:3]
        examples = ", ".join(f"{rewards[row]:.3g} -> {samples.reward[row]:.3g}" for row in rows)
        yield finding("replay.rewards_changed", share=wrong_reward.mean(), count=count, examples=examples)


def _repeats(chains: Chains) -> int:
    """Return how many times the loop repeats each action, or 1 if the actions of a chain differ."""
    same = all(len({step.action for step in chain}) == 1 for chain in chains.distinct if chain)
    return max(map(len, chains.distinct)) if same else 1


def _last_only(samples: Samples, chains: Chains) -> bool:
    """Return whether each reward is that of the last time step."""
    rows = zip((chains.distinct[row] for row in chains.which), samples.reward, strict=True)
    pairs = [(chain[-1].reward, reward) for chain, reward in rows if chain]
    return bool(np.mean([abs(last - stored) < EXACT for last, stored in pairs]) > 1 - RARE)


def _of_others(session: Session, samples: Samples, chains: Chains, env: NumberedEnv, wrong: Array) -> bool:
    """Return whether wrong rewards are those of other transitions, or all equal. Otherwise, the agent changes them."""
    if np.ptp(samples.reward) == 0:
        return True
    n = max(len(chain) for chain in chains.distinct)
    rewards = np.array([step.reward for step in env.steps])
    known = [rewards]
    for discount in (session.gamma, 1.0):
        powers = discount ** np.arange(n)
        known.append(np.convolve(rewards, powers[::-1], "valid") if len(rewards) >= n else rewards)
    pool = np.sort(np.concatenate(known))
    places = np.searchsorted(pool, samples.reward[wrong]).clip(1, len(pool) - 1)
    nearest = np.minimum(*(np.abs(pool[places - shift] - samples.reward[wrong]) for shift in (0, 1)))
    return bool((nearest < EXACT).mean() > 0.5)


def _check_draws(samples: Samples, env: NumberedEnv) -> Iterator[Finding]:
    """Check that samples come from all stored transitions and are independent of each other."""
    stored = np.array([step.before for step in env.steps])
    count, ranks = len(samples.before), np.searchsorted(stored, samples.before)
    calls = [ranks[samples.call == call] for call in np.unique(samples.call)]
    ranks = ranks[samples.before >= 0]
    values: dict[str, Any] = {"count": count, "stored": len(stored)}
    if ranks.min() > 0.5 * len(stored):
        yield finding("replay.newest_only", newest=len(stored) - ranks.min(), **values)
    elif ranks.max() < 0.5 * len(stored):
        last = len(stored) // 2
        yield finding("replay.oldest_only", newest=(ranks >= len(stored) - last).mean(), last=last, **values)
    elif len(calls) > 3 and all(np.array_equal(np.sort(call), np.sort(calls[0])) for call in calls):
        yield finding("replay.same_draws", calls=len(calls), different=len(np.unique(ranks)), **values)
    elif np.mean([len(call) >= 8 and (np.diff(np.sort(call)) == 1).all() for call in calls]) > 0.95:
        yield finding("replay.consecutive", calls=len(calls), size=len(calls[0]))
    else:
        times = np.bincount(ranks, minlength=len(stored))[: len(stored)]
        # An n-step buffer may drop transitions whose returns a time limit cuts off.
        span = max(int(np.median(samples.after - samples.before)), 1)
        ended = np.array([step.ended for step in env.steps] + [False] * span)
        inner = ~np.any([ended[shift : shift + len(stored)] for shift in range(span)], axis=0)
        inner[:MAX_STEPS] = inner[-MAX_STEPS:] = False  # buffers may exclude rows near the next write position
        seen = times[inner & (times > 0)]
        even = seen.var() < 2 * seen.mean()  # priorities make it larger
        if even and (missing := (times == 0)[inner].mean()) > 0.05:
            yield finding("replay.never_sampled", missing=missing, **values)
