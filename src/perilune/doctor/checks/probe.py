"""Let the agent learn tiny problems whose values are known, with its own updates.

The checks of the target, the loss and the gradients measure single updates, and not every sound agent allows that.
But every sound agent learns the values of these problems, so they show what works without knowing how it works.

A wrong value is a finding only if it is decisive: the values stopped elsewhere, and what the agent can learn from
rewards alone, and an outdated target network, do not explain it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding, Passed
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session, seed_global_generators

TITLE = "probe problems"
CLOSE = 0.05  # largest error of a learned value, for rewards of 1
WRONG = 0.1  # smallest error of a wrong value
MAX_UPDATES = 3000  # to learn a constant
FEW_UPDATES = 1500  # to learn all problems at once
TIMES = 12  # updates allowed for a problem, relative to those for a constant
CPU_SECONDS = 12.0  # for all problems
POOL = 32  # observations to choose from
ALIKE, BLIND = 0.9, 0.999  # overlaps: too large to learn differences in time, and too large to learn them at all
DRAWS = 32  # evaluations to average if q_values is noisy
SYNCS = 50  # calls of sync_target in a row, in case each is a small step
STATES = 4

LOWERED = "lowers the values of all but the best action, as in Munchausen DQN and conservative Q-learning"

# Components whose findings explain that a problem is not learned.
EXPLAINING = ("numerics", "forward", "backward", "optimizer", "loss", "td_target", "target_network", "hyperparameters")


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
    def errors(self) -> Array:
        """The errors of these values, (B,)."""
        return np.asarray(self.last - self.problem.right)

    @property
    def only_best_right(self) -> bool:
        """Whether only actions that are not the best in their state have wrong values, and all of these are too low."""
        right, state = self.problem.right, self.problem.batch.obs[:, :1]
        wrong = np.abs(self.errors) > WRONG
        best = np.where(state == state.T, right, -np.inf).max(axis=1)
        return bool(self.stopped and (self.errors[wrong] < 0).all() and (right[wrong] < best[wrong]).all())


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
        return time.process_time() - self.began > CPU_SECONDS

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
        after_first = agent.has("sync_target") or bool(batch.terminated.all())  # no sync is to come that changes targets
        values: list[Array] = []
        done = near = 0
        stopped = False
        try:
            next_values = [self._q(agent, batch.next_obs)]
            while near < 2 and not stopped and done < self.updates and not self.late:
                self._train(agent, batch, self.block, seed=done)
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
            raise CannotTell(f"the problems need more than {CPU_SECONDS:.0f} s of CPU time")
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
            self._train(agent, batch, updates, seed=updates)
            moved = np.abs(self._q(agent, pool) - before)
            updates *= 2
        own = moved[row, 0]
        if not own:
            raise CannotTell(f"{updates} updates on one transition do not change its Q-value")
        others = moved[:, 0] / own
        others[row] = np.inf
        return others, float(moved[row, 1:].max(initial=0) / own)

    def _train(self, agent: AgentCopy, batch: Transitions, updates: int, seed: int) -> None:
        """Run updates. Repeat rows if the batch is too small."""
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


def check_probe_problems(session: Session, agent: AgentCopy) -> Iterator[Finding | Passed | str]:
    """Let the agent learn constants, values by observation and action, ends, and delayed rewards."""
    learner = Learner(session)
    *problems, everything = _problems(learner)
    at_once, negative = learner.learn(everything), _constant(learner, -1)
    if (at_once.passed or at_once.only_best_right) and learner.learn(negative).passed:
        yield from (Passed(TITLE, f"learns {one.what}") for one in (negative, *problems))
        if not at_once.passed:
            yield Passed(TITLE, LOWERED)
        return
    yield from _constants(learner)
    reasons = []
    for problem in _problems(learner)[:-1]:
        result = _judge(learner, learner.learn(problem))
        yield result
        if isinstance(result, Finding):  # the other problems would show its consequences
            return
        if isinstance(result, str):
            reasons.append(problem.what)
    if reasons:
        raise CannotTell(f"the agent was not shown to learn {', '.join(reasons)}")


def _constant(learner: Learner, reward: int) -> Problem:
    return learner.problem(
        "td_target.probe_constant",
        f"the value of a constant reward of {reward}",
        f"All transitions are terminated, with a reward of {reward}",
        np.full((STATES, 1), reward),
    )


def _constants(learner: Learner) -> Iterator[Finding | Passed | str]:
    """Train one agent on rewards of 1, 0 and -1 in turn, and set the pace of the other problems."""
    learner.updates = MAX_UPDATES
    session, agent = learner.session, learner.session.new_copy()
    lowest = float(agent.q(learner.obs).min())
    paces = []
    for reward in (1, 0, -1):
        learned = learner.learn(_constant(learner, reward), agent)
        mean, agreed = float(learned.last.mean()), learned.stopped and np.ptp(learned.last) < CLOSE
        if not learned.passed and reward == 1 and agreed and mean > WRONG:
            learner.size = mean  # sound agents may scale rewards
        elif not learned.passed and reward == -1 and agreed and session.not_regression and min(mean, lowest) > -CLOSE:
            yield f"a reward of -1 is learned as {mean:.2g}. The agent may learn a distribution without values below 0"
            continue
        else:
            result = _judge(learner, learned)
            if not isinstance(result, str):
                yield result
            if not isinstance(result, Passed):
                raise CannotTell(result if isinstance(result, str) else "the agent does not learn a constant value")
        paces.append(learned.updates)
    if learner.size != 1:
        yield f"a reward of 1 is learned as {learner.size:.3g}, so other values are expected to be of this size"
    learner.pace = max(paces)
    learner.block, learner.updates = max(5, learner.pace // 4), TIMES * learner.pace


def _problems(learner: Learner) -> list[Problem]:
    """Return the problems. The last one contains all others."""
    gamma, actions = learner.session.discount, np.arange(learner.session.actions)
    zero, one, even, first = 0 * actions, 0 * actions + 1, actions % 2 == 0, actions == 0
    end = -1
    return [
        learner.problem(
            "forward.probe_observation",
            "values that depend on the observation",
            "In state 0, all transitions end with a reward of 1, and in state 1 with a reward of 0",
            [one, zero],
        ),
        learner.problem(
            "loss.probe_action",
            "values that depend on the action",
            "In one state, actions 0, 2, ... end with a reward of 1, and the others with a reward of 0",
            [even],
        ),
        learner.problem(
            "forward.probe_both",
            "values that depend on observation and action",
            "In state 0, actions 0, 2, ... end with a reward of 1, and the others with a reward of 0. In state 1, it is "
            "the other way round",
            [even, ~even],
        ),
        learner.problem(
            "td_target.probe_ends",
            "that only running transitions bootstrap",
            "State 0 ends with a reward of 0. State 1 leads to state 2 with a reward of 0, and state 2 ends with a "
            "reward of 1",
            [zero, gamma * one, one],
            [zero, zero, one],
            [end, 2, end],
        ),
        learner.problem(
            "td_target.probe_discount",
            "the discounted value of a reward after one step, and after two",
            "State 0 leads to state 1, and state 1 to state 2, with rewards of 0. State 2 ends with a reward of 1",
            [gamma**2 * one, gamma * one, one],
            [zero, zero, one],
            [1, 2, end],
        ),
        learner.problem(
            "td_target.probe_best",
            "the value of the best next action",
            "State 0 leads to state 1 with a reward of 0. There, action 0 ends with a reward of 1, and the other "
            "actions with a reward of 0",
            [gamma * one, first],
            [zero, first],
            [1, end],
        ),
        learner.problem(
            "", "all of this", "", [zero, gamma * one, first, gamma**2 * one], [zero, zero, first, zero], [end, 2, end, 1]
        ),
    ]


def _judge(learner: Learner, learned: Learned) -> Finding | Passed | str:
    """Return what a problem shows: it is learned, it is decisively not learned, or why it shows neither."""
    problem, session = learned.problem, learner.session
    if learned.passed:
        return Passed(TITLE, f"learns {problem.what}")
    seen = (
        f"{problem.what}: after {learned.updates} updates, Q is {listed(learned.last)}, and {listed(problem.right)} is "
        "right"
    )
    explaining = [one for one in session.found if one.split(".")[0] in EXPLAINING]
    if explaining:
        raise CannotTell(f"the finding {explaining[0]} may explain what the agent does not learn: {seen}")
    if not learned.stopped:
        return f"the agent learns too slowly for this check. {seen}"
    wrong = np.abs(learned.errors) > WRONG * learner.size
    if not wrong.any():
        return f"the agent is not precise enough for this check. {seen}"
    overlap = {"forward.probe_observation": learner.alike, "loss.probe_action": learner.alike_actions}
    if ALIKE < overlap.get(problem.name, 0.0) < BLIND:
        return f"the agent learns differences too slowly for this check. {seen}"
    if learned.only_best_right:
        return Passed(TITLE, f"learns {problem.what}, but {LOWERED}")
    reason = "" if problem.batch.terminated.all() else _other_reason(learner, learned, wrong)
    if reason:
        return f"{reason}. {seen}"
    return finding(
        _name(learner, learned, wrong),
        story=problem.story,
        right=problem.right,
        learned=learned.last,
        updates=learned.updates,
        pace=learner.pace,
    )


def _name(learner: Learner, learned: Learned, wrong: Array) -> str:
    """Return the finding that fits the wrong values best."""
    problem = learned.problem
    ended = problem.batch.terminated
    if problem.name == "forward.probe_observation" and learner.alike < ALIKE:  # the network can tell them apart
        return "loss.probe_rows"
    if problem.name == "td_target.probe_ends" and not wrong[ended].any() and learned.last[~ended].min() > WRONG:
        return "td_target.probe_discount"
    return problem.name


def _other_reason(learner: Learner, learned: Learned, wrong: Array) -> str:
    """Return why wrong values of running transitions need not be a fault, or ""."""
    session, problem = learner.session, learned.problem
    if session.min_batch > 1:
        return "the agent may use batch normalization, so that next_obs of other transitions change the target"
    if not learner.learn(problem.from_rewards).passed:
        return "the agent does not learn these values from rewards alone either"
    bootstraps = session.discount * np.stack(
        [learned.next_values.min(axis=(0, 2)), learned.next_values.max(axis=(0, 2))]
    )
    low, high = problem.batch.reward * learner.size + bootstraps + [[-CLOSE], [CLOSE]]
    outdated = ~problem.batch.terminated & (low < learned.last) & (learned.last < high)
    if not learned.synced and outdated[wrong].all():
        raise CannotTell(
            f"the target network did not follow the online network within {learned.updates} updates. Add sync_target() "
            "and target_q_values() to the adapter, or sync more often"
        )
    return ""
