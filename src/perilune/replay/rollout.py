"""Rollouts of several environments and their lambda-returns, for learning without replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ShapeError
from perilune.replay.buffer import Batch, Replay


class Rollout:
    """The latest time steps of K environments, which take turns in the rows of a replay buffer.

    When the buffer is full, ``finish`` replaces the rewards by lambda-returns, and ``batches`` yields the steps in
    random order. The next step begins a new rollout.

    Args:
        replay: the buffer. With ``trace``, it is the complete state.
        gamma: discount factor.
        trace_decay: lambda.

    Attributes:
        trace: lambda for each row, or 0 where an episode ends, float32 [capacity].

    Gallici et al., Simplifying Deep Temporal Difference Learning, arXiv:2407.04811.
    """

    def __init__(self, replay: Replay, gamma: float, trace_decay: float) -> None:
        self.replay = replay
        self.gamma = gamma
        self.trace_decay = trace_decay
        self.trace = np.zeros(replay.capacity, np.float32)

    def add(
        self,
        obs: Array,
        action: Sequence[int],
        reward: Sequence[float] | Array,
        next_obs: Array,
        terminated: Sequence[bool],
        truncated: Sequence[bool],
    ) -> None:
        """Store a copy of one time step of each environment.

        Args:
            obs: the observations, float [K, O].
            action: the actions, [K].
            reward: the rewards, [K].
            next_obs: the next observations, float [K, O].
            terminated: whether the task has ended, [K].
            truncated: whether the episode was cut off, [K].
        """
        continues = ~np.asarray(terminated)
        rows = slice(self.replay.cursor, self.replay.cursor + len(obs))
        columns = (obs, action, reward, self.gamma * continues, next_obs)
        for stored, column in zip(self.replay.arrays, columns, strict=True):
            stored[rows] = column
        self.trace[rows] = self.trace_decay * (continues & ~np.asarray(truncated))
        self.replay.added += len(obs)

    @property
    def full(self) -> bool:
        """Whether the latest step completed the rollout."""
        return self.replay.cursor == 0

    def drop_unfinished(self) -> None:
        """Begin a new rollout with the next step."""
        self.replay.added -= self.replay.cursor

    def finish(self, next_value: Array, envs: int) -> None:
        """Replace the rewards by lambda-returns.

        Args:
            next_value: value of next_obs in each row, float [capacity].
            envs: K, a divisor of the capacity.
        """
        stored = self.replay.arrays
        columns = (stored.reward, stored.discount, next_value, self.trace)
        stored.reward[:] = lambda_returns(*(column.reshape(-1, envs) for column in columns)).ravel()
        stored.discount.fill(0)  # the returns are complete

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield the steps in random order. Drop the last ones if they do not fill a batch.

        Args:
            batch_size: B. The next batch overwrites the arrays of the previous one.
            generator: source of the order.
        """
        order = generator.permutation(self.replay.capacity)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            yield self.replay.take(order[start : start + batch_size])


def lambda_returns(reward: Array, discount: Array, next_value: Array, trace: Array) -> Array:
    """Return the lambda-return of every time step of a rollout, a mean of its n-step returns.

    G[t] = reward[t] + discount[t] ((1 - trace[t]) next_value[t] + trace[t] G[t + 1])

    In the last row, and where an episode ends, the return bootstraps from ``next_value`` alone.

    Args:
        reward: float [T, K], for T time steps of K environments.
        discount: gamma (1 - terminated), float [T, K].
        next_value: value of the observation after the time step, float [T, K].
        trace: lambda, or 0 where an episode ends, float [T, K].

    Returns:
        float [T, K].

    Raises:
        ShapeError: the shapes differ.

    Sutton and Barto, Reinforcement Learning, 2nd edition, section 12.1.
    """
    shapes = {reward.shape, discount.shape, next_value.shape, trace.shape}
    if len(shapes) > 1 or reward.ndim != 2:
        raise ShapeError(f"lambda_returns needs four arrays [T, K], got {sorted(map(list, shapes))}")
    returns = np.empty_like(reward)
    after = next_value[-1]
    for t in reversed(range(len(reward))):
        after = reward[t] + discount[t] * (next_value[t] + trace[t] * (after - next_value[t]))
        returns[t] = after
    return returns
