"""Check the adapter: shapes, batches against single observations, and whether calls modify their arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from time import process_time
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.validation import Count, check_value
from perilune.doctor.catalogue import finding
from perilune.doctor.module_state import separated
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, NotFinite, Session
from perilune.doctor.td_reading import neutral_reward
from perilune.doctor.weights import has_gradients
from perilune.errors import ConfigError

BATCH_SIZES = (1, 2, 8, 32, 64, 128, 256)
MAX_CALLS = 64
STATES = 8  # tried in turn, because an update in some states may not change any weight


def check_interface(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Find the agent's sizes, its smallest batch and its noise, and whether deep copies of it are independent."""
    yield from _check_members(session, agent)
    yield from _check_q_values(session, agent)
    yield from _find_smallest_batch(session)
    yield from _find_calls_per_update(session)
    _choose_copies(session)
    _measure_cost(session)
    if session.running_next is not None:
        yield from _read_running_bootstrap(session)


def _check_members(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    missing = [name for name in ("q_values", "train_batch") if not agent.has(name)]
    missing += [name for name in ("gamma", "observation_size") if not hasattr(agent.agent, name)]
    if missing:
        raise CannotTell(
            f"the factory returned a {type(agent.agent).__name__} without {', '.join(missing)}. An adapter needs "
            "gamma, observation_size, q_values(obs) and train_batch(obs, action, reward, next_obs, terminated)"
        )
    try:
        session.observation_size = check_value("observation_size", agent.agent.observation_size, Count)
        session.gamma = check_value("gamma", agent.agent.gamma, float)
        session.n_step = check_value("n_step", getattr(agent.agent, "n_step", None), Count | None)
    except ConfigError as error:
        raise CannotTell(str(error)) from error
    if not 0 <= session.gamma <= 1:
        yield finding("hyperparameters.gamma", gamma=session.gamma)


def _check_q_values(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    obs = session.observations(7)
    given = obs.copy()
    values = agent.array("q_values", given)
    if values.ndim != 2 or len(values) != len(obs) or values.dtype.kind not in "fiu":
        yield finding("forward.shape", shape=values.shape, dtype=values.dtype, obs_shape=obs.shape)
        raise CannotTell("q_values does not return an array of shape (N, A)")
    session.actions = values.shape[1]
    if not np.isfinite(values).all():
        raise NotFinite(
            "q_values", f"returned NaN or infinity in {(~np.isfinite(values)).sum()} of {values.size} values"
        )
    if not np.array_equal(given, obs):
        details = (
            f"{(given != obs).sum()} of {obs.size} entries of obs changed, by up to {np.abs(given - obs).max():.3g}"
        )
        yield finding("forward.changes_input", call="q_values(obs)", details=details)
    values = values.astype(np.float64)
    session.noise = float(np.abs(agent.array("q_values", obs.copy()) - values).max())
    if session.noise:
        yield from _compare_memory(session)
        return
    alone = np.concatenate([agent.q(row[None]) for row in obs])
    distance = np.abs(alone - values)
    if distance.max() > 1e-3 * (np.abs(values).max() + 1e-6):
        row = int(distance.max(axis=1).argmax())
        yield finding("forward.batch_differs", row=row, alone=alone[row], batched=values[row], count=len(obs))


def _compare_memory(session: Session) -> Iterator[Finding]:
    """Check that Q does not depend on the previously evaluated state. Equal seeds make the noise equal."""
    obs, answers = session.observations(1), []
    for previous in (obs, session.observations(1, 5.0)):
        agent = session.new_copy()
        agent.q(previous)
        answers.append(agent.q(obs))
    difference = np.abs(answers[0] - answers[1]).max()
    if difference > 1e-5 * np.abs(answers[0]).max():
        yield finding("forward.remembers", difference=difference)


def _find_smallest_batch(session: Session) -> Iterator[Finding]:
    failures = []
    for terminated in (True, False):
        for rows in BATCH_SIZES:
            batch = session.transitions(1, terminated).repeat(rows)
            given = batch.rows(slice(None))
            agent = session.new_copy()
            try:
                agent.call("train_batch", *given)
                with contextlib.suppress(NotFinite):
                    agent.q(batch.obs)
            except AgentFailed as failure:
                failures.append(failure)
                continue
            session.min_batch = rows
            pairs = zip(batch._fields, batch, given, strict=True)
            changed = [name for name, before, after in pairs if not np.array_equal(before, after)]
            if changed:
                yield finding("forward.changes_input", call="train_batch", details=" and ".join(changed))
            if not terminated:
                session.running_next = batch.next_obs[:1], 0.0
            return
    raise failures[0]


def _read_running_bootstrap(session: Session) -> Iterator[str]:
    """Measure a bootstrap, so that batches can also contain transitions that are not terminated."""
    agent, transition = session.new_copy(), session.transitions(1, terminated=False)
    width = float(np.abs(agent.q(transition.next_obs)).max() + np.abs(agent.q(transition.obs)).max()) + 1e-3
    bootstrap = float(agent.q_taken(transition)[0]) - neutral_reward(agent, transition, width)
    session.running_next = transition.next_obs, bootstrap
    yield (
        "batches in which every transition is terminated: train_batch raises an exception, so the doctor adds "
        "transitions that are not terminated"
    )


def _find_calls_per_update(session: Session) -> Iterator[Finding]:
    """Call train_batch until Q changes. Some agents first collect transitions or gradients."""
    largest, smallest = BATCH_SIZES[-1], session.min_batch
    tries = [*((rows, 1) for rows in BATCH_SIZES if rows >= smallest), (smallest, MAX_CALLS), (largest, 8)]
    for number, (rows, calls) in enumerate(np.repeat(tries, STATES, axis=0).tolist()):
        agent = session.new_copy()
        one = session.transitions(1, terminated=session.running_next is None)
        before = agent.q(one.obs)
        reward = before[0, one.action] + 0.3 * (-1) ** number  # small, so that clipping does not hide it
        batch = one._replace(reward=reward.astype(np.float32)).repeat(rows)
        for call in range(1, calls + 1):
            agent.call("train_batch", *batch.rows(slice(None)))
            if not np.array_equal(agent.q(one.obs), before):
                session.min_batch, session.calls_per_update = rows, call
                return
    name = "optimizer.no_step" if has_gradients(agent.agent) else "loss.no_update"
    yield finding(name, calls=MAX_CALLS, rows=largest, states=STATES)


def _measure_cost(session: Session) -> None:
    """Measure the CPU time of the agent's calls, with separate observations. Those of the checks stay the same."""
    kept, session.rng = session.rng, np.random.default_rng(0)
    agent, batch, one, many = session.new_copy(), session.transitions(32), *map(session.observations, (1, 65))
    calls: dict[str, Callable[[], object]] = {
        "q_values": lambda: agent.q(one),
        "state": lambda: agent.q(many),
        "copy": agent.copy,
        "train_batch": lambda: agent.train(batch),
    }
    session.cost = {name: _cpu_seconds(call) for name, call in calls.items()}
    session.cost["state"] = max(0.0, session.cost["state"] - session.cost["q_values"]) / 64
    session.rng = kept


def _cpu_seconds(call: Callable[[], object]) -> float:
    """Return the CPU time of the faster one of two calls."""
    times = []
    for _ in range(2):
        began = process_time()
        call()
        times.append(process_time() - began)
    return min(times)


class _Pair(NamedTuple):
    """Two new agents, of which one was trained: Q of ``made`` before, and of the other one after the update."""

    obs: Array
    batch: Transitions
    made: AgentCopy
    before: Array
    learned: Array
    repeatable: bool  # whether both had the same Q at first

    def share_state(self) -> bool:
        """Return whether training the other agent changed this one."""
        unchanged = np.allclose(self.made.q(self.obs), self.before, atol=3 * self.made.session.noise)
        return not unchanged and not np.array_equal(self.learned, self.before)


def _train_one_of_two(session: Session) -> _Pair:
    obs, batch = session.observations(16), session.transitions(16)  # enough that some of them change weights
    batch = batch._replace(reward=batch.reward + 7)
    made, again = session.new_copy(), session.new_copy()
    before = made.q(obs)
    repeatable = np.array_equal(before, again.q(obs))
    again.train(batch)
    return _Pair(obs, batch, made, before, again.q(obs), repeatable)


def _choose_copies(session: Session) -> None:
    """Give agents that share state their own variables of the module, and decide how to copy agents.

    Deep copies must equal the original, be independent of it, and learn in the same way.
    """
    pair = _train_one_of_two(session)
    if pair.share_state():
        with contextlib.suppress(Exception):  # some variables cannot be copied
            session.factory = separated(session.factory)
        pair = _train_one_of_two(session)
        if pair.share_state():
            raise CannotTell(
                "agents from the factory share state: training one changes another. Create the networks and the "
                "optimizer inside the factory, and not in module variables or class attributes"
            )
    obs, batch, made, before, learned, repeatable = pair
    session.deepcopy = True
    try:
        first, second = made.copy(), made.copy()
        equal = np.allclose(first.q(obs), before, atol=3 * session.noise)
        first.train(batch)
        moved = not np.array_equal(first.q(obs), before) or np.array_equal(learned, before)
        independent = np.allclose(made.q(obs), before, atol=3 * session.noise)
        second.train(batch)
        alike = np.array_equal(first.q(obs), second.q(obs)) or session.noise > 0
        if repeatable and session.noise == 0:
            moved = moved and np.allclose(second.q(obs), learned)
        session.deepcopy = equal and moved and independent and alike
    except Exception:  # the factory can make a new agent instead
        session.deepcopy = False
    if not session.deepcopy and not repeatable:
        raise CannotTell(
            "copy.deepcopy does not make an independent copy of this agent, and the factory returns a different agent "
            "each time. Add a parameter `seed` to the factory, or seed NumPy's and PyTorch's random generators in it"
        )
