"""Check the user's training loop on an environment with numbered states, looking at the agent at every step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.checks.replay import SAMPLES, check_samples, draw
from perilune.doctor.locate import raised_at
from perilune.doctor.numbered_env import NumberedEnv, Record
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, NotFinite, Session, preserve_global_generators

RUN_STEPS = 1_000


class Observer:
    """Looks at the agent before every step of its loop."""

    def __init__(self, session: Session, agent: AgentCopy) -> None:
        self.agent = agent
        self.updates = self.syncs = 0  # steps before which Q of the online or the target network had changed
        self.greedy: list[int] = []  # the greedy action at each step
        self.failure: NotFinite | AgentFailed | None = None  # what made Q unusable
        self._online: Array | None = None
        self._target: Array | None = None
        self._states = session.observations(8)

    def __call__(self, obs: Array) -> None:
        if self.failure is None:
            try:
                with preserve_global_generators():
                    self._look(obs)
            except (NotFinite, AgentFailed) as failure:  # must not disturb the user's loop
                self.failure = failure

    def _look(self, obs: Array) -> None:
        online = self.agent.q(self._states)
        self.updates += self._online is not None and not np.array_equal(online, self._online)
        self._online = online
        if self.agent.has("target_q_values"):
            target = self.agent.target_q(self._states)
            self.syncs += self._target is not None and not np.array_equal(target, self._target)
            self._target = target
        self.greedy.append(int(self.agent.q(obs[None])[0].argmax()))


def check_loop(session: Session) -> Iterator[Finding]:
    """Run the loop and check resets, updates, syncs, exploration and what it stored."""
    agent = session.new_copy()
    if not agent.has("run"):
        raise CannotTell("the adapter has no run(env, env_steps)")
    observer = Observer(session, agent)
    env = NumberedEnv(session.observation_size, session.actions, observer)
    try:
        agent.call("run", env, RUN_STEPS)
    except AgentFailed as failure:
        yield _raised(failure)
        return
    if observer.failure is not None:
        raise observer.failure
    record = env.record
    steps = len(record.steps)
    if not steps:
        raise CannotTell(f"run(env, {RUN_STEPS}) took no step")
    if record.late:
        yield finding("environment.no_reset", late=record.late, steps=steps)
        return
    if not observer.updates:
        yield finding("loop.no_updates", steps=steps)
    elif agent.has("target_q_values") and not observer.syncs:
        yield finding("target_network.not_synced_yet", steps=steps, updates=observer.updates)
    yield from _exploration(session, observer, record)
    if agent.has("sample") and not session.replay_faulty:
        yield from check_samples(session, draw(agent, SAMPLES), record, in_loop=True)


def _raised(failure: AgentFailed) -> Finding:
    """Did the loop raise because of what reset() and step() return, or for another reason?"""
    error, place = failure.error, raised_at(failure.error)
    unpacking = isinstance(error, ValueError) and "unpack" in str(error)
    if unpacking or (not isinstance(error, IndexError) and any(word in str(error) for word in ("tuple", "inhomogen"))):
        return finding("environment.old_interface", error=failure, where=place)
    return finding("loop.raises", error=failure, where=place)


def _exploration(session: Session, observer: Observer, record: Record) -> Iterator[Finding]:
    """The share of greedy actions must rise, and not start at 1."""
    steps = len(record.steps)
    if session.actions == 1 or steps < 300:
        return
    greedy = np.array([step.action for step in record.steps]) == np.array(observer.greedy)
    first, last = greedy[: steps // 4].mean(), greedy[-(steps // 4) :].mean()
    chance = 1 / session.actions
    noisy = bool(session.not_regression)  # then the agent's greedy actions differ from those of its q_values
    if last < chance + 0.15 and first < chance + 0.25 and not noisy:
        yield finding("exploration.stuck", steps=steps, first=first, last=last)
    elif first > 0.97:
        yield finding("exploration.never_explores", steps=steps, first=first, last=last)
