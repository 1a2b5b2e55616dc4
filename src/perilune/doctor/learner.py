"""Train agents on tiny problems whose values are known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from perilune._utils.arrays import Array
from perilune.doctor.protocol import Transitions
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session, seed_global_generators
from perilune.doctor.supervise import MORE

CLOSE = 0.05  # largest error of a learned value, for rewards of 1
WRONG = 0.1  # smallest error of a wrong value
FEW_UPDATES = 1500  # to learn all problems at once
MAX_UPDATES = 3000  # to learn a constant
CPU_SHARE = 0.2  # of the time limit, for all problems
CPU_SHARE_ALONE = 0.8  # the same if checks of single updates cannot run
STATES = 4
POOL = 32  # observations to choose from
ALIKE = 0.9  # overlap of observations or actions from which on differences take too long to learn
DRAWS = 32  # evaluations to average if q_values is noisy
SYNCS = 50  # calls of sync_target in a row if each is a small step


class Problem(NamedTuple):
    """Transitions, and the right value of Q(obs, action) for each of them."""

    name: str  # the finding of an agent that does not learn it
    what: str  # what an agent that learns it has learned
    story: str  # its states and rewards
    batch: Transitions
    right: Array  # (B,)

    @property
    def from_rewards(self) -> Problem:
        """The same values as rewards of terminated transitions."""
        ended = np.ones_like(self.batch.terminated)
        return self._replace(batch=self.batch._replace(reward=self.right.astype(np.float32), terminated=ended))


class Learned(NamedTuple):
    """How the values of a problem developed."""

    problem: Problem
    values: Array  # Q(obs, action) of each transition after each block of updates, (K, B)
    next_values: Array  # Q(next_obs, a) after each block of updates, (K, B, A)
    updates: int
    passed: bool
    stopped: bool  # whether the values no longer move
    synced: bool  # whether the target network agrees with the online network on next_obs

    @property
    def last(self) -> Array:
        """The mean values during the last quarter of the updates, (B,)."""
        return np.asarray(self.values[-max(1, len(self.values) // 4) :].mean(axis=0))

    @property
    def wrong(self) -> Array:
        """Whether each of these values is wrong, (B,)."""
        return np.asarray(np.abs(self.last - self.problem.right) > WRONG)

    @property
    def only_best_right(self) -> bool:
        """Whether only actions that are not the best in their state have wrong values, and all of these are too low."""
        right, state = self.problem.right, self.problem.batch.obs[:, :1]
        best = np.where(state == state.T, right, -np.inf).max(axis=1)
        low = (self.last < right) & (right < best)
        return bool(self.stopped and self.wrong.any() and low[self.wrong].all())

    def may_be_outdated(self, discount: float) -> Array:
        """Return whether values that a target network took at any time explain each of these values, (B,)."""
        low, high = self.next_values.min(axis=(0, 2)), self.next_values.max(axis=(0, 2))
        bootstrap = self.last - self.problem.batch.reward
        return np.asarray((discount * low - CLOSE < bootstrap) & (bootstrap < discount * high + CLOSE))


def _movement(values: list[Array], right: Array) -> float:
    """Return how far the mean values moved from the third to the last quarter of the updates, relative to the error."""
    third, last = (np.mean(part, axis=0) for part in np.array_split(values, 4)[2:])
    return float(np.abs(last - third).max() / (np.abs(last - right).max() + 1e-12))


class Learner:
    """Trains new agents on problems."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.began = time.process_time()
        self.pace = MAX_UPDATES  # updates to learn a constant
        self.block = 10  # updates between two evaluations
        self.updates = FEW_UPDATES  # allowed for a problem
        self.size = 1.0  # the value that the agent learns for a reward of 1
        self.obs, self.alike, self.alike_actions = self._observations()

    @property
    def late(self) -> bool:
        """Whether the check has used its CPU time."""
        share = CPU_SHARE_ALONE if self.session.not_regression else CPU_SHARE
        return time.process_time() - self.began > share * self.session.budget

    def problem(
        self,
        name: str,
        what: str,
        story: str,
        right: ArrayLike,
        reward: ArrayLike | None = None,
        following: Sequence[int] = (-1,) * STATES,
    ) -> Problem:
        """Return a problem in which every action is taken in each of the first S states.

        Args:
            name: The finding of an agent that does not learn it.
            what: What an agent that learns it has learned.
            story: Its states and rewards.
            right: Right values for rewards of this size, (S, A) or (S, 1).
            reward: Rewards, if they differ from the values. Broadcasts to (S, A).
            following: The state that follows each state, or -1 if its transitions are terminated, (S,).
        """
        reward = right if reward is None else reward
        count, actions = len(np.asarray(right)), self.session.actions
        values, rewards = (np.broadcast_to(one, (count, actions)).reshape(-1) for one in (right, reward))
        state = np.repeat(np.arange(count), actions)
        after = np.asarray(following)[state]
        # The state after a terminated transition has no effect, so it is one with another value.
        after_end = (state + 1) % count
        batch = Transitions(
            self.obs[state],
            np.tile(np.arange(actions), count),
            rewards.astype(np.float32),
            self.obs[np.where(after < 0, after_end, after)],
            after < 0,
        )
        return Problem(name, what, story, batch, self.size * values)

    def learn(self, problem: Problem, agent: AgentCopy | None = None) -> Learned:
        """Train until the values are right twice in a row, or until the limit of updates is reached."""
        agent = agent or self.session.new_copy()
        batch, right = problem.batch, problem.right
        rows = np.arange(len(right))
        close = CLOSE * max(self.size, float(np.max(np.abs(right))))
        after_first = agent.has("sync_target") or bool(
            batch.terminated.all()
        )  # no sync is to come that changes targets
        values: list[Array] = []
        done = near = 0
        stopped = False
        try:
            next_values = [self._q(agent, batch.next_obs)]
            while near < 2 and not stopped and done < self.updates and not self.late:
                self.train(agent, batch, self.block, seed=done)
                done += self.block
                self._sync(agent, batch.obs)
                both = self._q(agent, np.concatenate([batch.obs, batch.next_obs]))
                values.append(both[rows, batch.action])
                next_values.append(both[len(rows) :])
                near = near + 1 if np.max(np.abs(values[-1] - right)) < close else 0
                stopped = after_first and done >= 4 * self.pace and _movement(values, right) < 0.03
            synced = agent.has("target_q_values")
            synced = synced and np.abs(agent.target_q(batch.next_obs) - next_values[-1]).max() < close
        except AgentFailed as failure:
            raise CannotTell(f"the agent fails on a problem with known values: {failure}") from failure
        if not values:
            raise CannotTell(f"the agent is too slow for these problems. {MORE}")
        stopped = stopped or (done >= self.updates and _movement(values, right) < 0.1)
        return Learned(problem, np.array(values), np.array(next_values), done, near == 2, stopped, bool(synced))

    def _observations(self) -> tuple[Array, float, float]:
        """Return observations (S, O) that the agent can tell apart, and the overlaps of observations and actions.

        The overlap is the effect of training one of them on the Q-values of another, relative to that on its own.
        """
        for scale in (1.0, 10.0, 100.0):  # an agent may divide pixels by 255
            pool = self.session.observations(POOL, scale)
            chosen, alike, overlap = [0], 0.0, np.zeros(POOL)
            while len(chosen) < STATES:
                others, actions = self._overlap(pool, chosen[-1])
                overlap = np.maximum(overlap, others)
                chosen.append(int(overlap.argmin()))
                alike = max(alike, float(overlap.min()))
            if alike < ALIKE:
                break
        return pool[chosen], alike, actions

    def _overlap(self, pool: Array, row: int) -> tuple[Array, float]:
        """Train on action 0 in one state. Return the effect on each state of ``pool``, and on the other actions."""
        agent = self.session.new_copy()
        before = self._q(agent, pool)
        batch = Transitions(
            pool[[row]], np.zeros(1, np.int64), before[row, :1].astype(np.float32) + 1, pool[[row]], np.ones(1, bool)
        )
        updates, moved = 1, np.zeros_like(before)
        while moved[row, 0] < 0.2 and updates < MAX_UPDATES and not self.late:
            self.train(agent, batch, updates, seed=updates)
            moved = np.abs(self._q(agent, pool) - before)
            updates *= 2
        own = moved[row, 0]
        if not own:
            raise CannotTell(f"{updates} updates on one transition do not change its Q-value")
        others = moved[:, 0] / own
        others[row] = np.inf
        return others, float(moved[row, 1:].max(initial=0) / own)

    def train(self, agent: AgentCopy, batch: Transitions, updates: int, seed: int) -> None:
        """Run updates. Repeat rows if the batch is too small."""
        batch = agent.prepared(batch)
        batch = batch.rows(np.arange(max(len(batch.action), self.session.min_batch)) % len(batch.action))
        seed_global_generators(3 + seed)
        for _ in range(updates * self.session.calls_per_update):
            agent.call("train_batch", *(column.copy() for column in batch))

    def _sync(self, agent: AgentCopy, obs: Array) -> None:
        """Move the target network toward the online network, also if a sync is a small step."""
        if agent.has("sync_target"):
            agent.call("sync_target")
            if not (agent.has("target_q_values") and np.abs(agent.target_q(obs) - agent.q(obs)).max() < CLOSE / 5):
                for _ in range(SYNCS):
                    agent.call("sync_target")

    def _q(self, agent: AgentCopy, obs: Array) -> Array:
        """Return Q(obs, a), the mean of several evaluations if it is noisy, (N, A)."""
        q = agent.q(obs)
        if self.session.noise:
            q = np.mean([q, *(agent.array("q_values", obs.copy()) for _ in range(DRAWS))], axis=0)
        return q
