"""Experience replay buffer and n-step accumulator (Lin, Self-Improving Reactive Agents, 1992)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ConfigError, DivergenceError, ShapeError

LARGEST_REWARD = float(np.finfo(np.float32).max)  # larger rewards would be stored as infinity


class Transition(NamedTuple):
    """An n-step transition: ``action`` in obs[O] leads to next_obs[O] after k <= n time steps of the episode."""

    obs: Array
    action: int
    reward: float
    discount: float
    next_obs: Array


class Batch(NamedTuple):
    """B transitions: obs[B, O], action[B], reward[B], discount[B], next_obs[B, O]."""

    obs: Array
    action: Array
    reward: Array
    discount: Array
    next_obs: Array


class NStep:
    """Turn time steps into n-step transitions.

    reward = sum over i < k of gamma^i r_i, and discount = gamma^k (1 - terminated), with k = n. When an episode ends,
    all pending steps become transitions with smaller k. After a truncation, they still bootstrap.

    Args:
        n: number of steps of the return, >= 1.
        gamma: discount factor.

    Sutton and Barto, Reinforcement Learning, 2nd edition, section 7.1.
    """

    def __init__(self, n: int, gamma: float) -> None:
        self.n = n
        self.gamma = gamma
        self.pending: deque[tuple[Array, int, float]] = deque()

    def push(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> Iterator[Transition]:
        """Yield the transitions that a time step completes, oldest first.

        Args:
            obs: the observation, float32 [O].
            action: the action, from 0 to A - 1.
            reward: the reward.
            next_obs: the next observation, float32 [O].
            terminated: whether the task has ended.
            truncated: whether the episode was cut off, for example by a time limit.

        Raises:
            DivergenceError: an n-step return is not finite in single precision.
        """
        self.pending.append((obs, action, reward))
        if terminated or truncated:
            while self.pending:
                yield self._oldest(next_obs, terminated)
        elif len(self.pending) == self.n:
            yield self._oldest(next_obs, terminated)

    def _oldest(self, next_obs: Array, terminated: bool) -> Transition:
        total, discount = 0.0, 1.0
        for _, _, reward in self.pending:
            total += discount * reward
            discount *= self.gamma
        if not -LARGEST_REWARD <= total <= LARGEST_REWARD:
            raise DivergenceError(
                f"the discounted sum of {len(self.pending)} rewards is {total:g}: expected a number that is finite in "
                "single precision. Set reward_scale, or clip rewards with gymnasium.wrappers.TransformReward."
            )
        obs, action, _ = self.pending.popleft()
        return Transition(obs, action, total, 0.0 if terminated else discount, next_obs)


class Replay:
    """Ring buffer of the newest transitions, in arrays that are allocated at the first use.

    Args:
        capacity: largest number of transitions.
        observation_size: O.

    Attributes:
        added: number of transitions added so far. With ``arrays``, this is the complete state.
    """

    def __init__(self, capacity: int, observation_size: int) -> None:
        self.capacity = capacity
        self.observation_size = observation_size
        self.added = 0
        self._batch: Batch | None = None

    @cached_property
    def arrays(self) -> Batch:
        """The transitions, one per row. Only the first ``len(self)`` rows are in use."""
        try:
            return _batch_arrays(self.capacity, self.observation_size)
        except (MemoryError, ValueError) as error:
            gib = self.capacity * (8 * self.observation_size + 16) / 2**30
            raise ConfigError(
                "buffer_size", self.capacity, f"a buffer that fits into memory; this one needs {gib:,.1f} GiB"
            ) from error

    @property
    def cursor(self) -> int:
        """The row of the next transition."""
        return self.added % self.capacity

    def __len__(self) -> int:
        """Return the number of transitions."""
        return min(self.added, self.capacity)

    def add(self, obs: Array, action: int, reward: float, discount: float, next_obs: Array) -> int:
        """Store a copy of a transition. If the buffer is full, replace the oldest transition.

        Args:
            obs: the observation, float [O].
            action: the action.
            reward: the n-step reward.
            discount: gamma^k (1 - terminated).
            next_obs: the observation k steps later, float [O].

        Returns:
            The row.

        Raises:
            ShapeError: ``obs`` or ``next_obs`` has the wrong shape.
        """
        at, arrays = self.cursor, self.arrays
        if not np.shape(obs) == np.shape(next_obs) == arrays.obs.shape[1:]:
            raise ShapeError(
                f"obs and next_obs must be [{arrays.obs.shape[1]}], got {list(np.shape(obs))} and "
                f"{list(np.shape(next_obs))}"
            )
        arrays.obs[at] = obs
        arrays.action[at] = action
        arrays.reward[at] = reward
        arrays.discount[at] = discount
        arrays.next_obs[at] = next_obs
        self.added += 1
        return at

    def sample(self, batch_size: int, generator: np.random.Generator) -> Batch:
        """Return transitions drawn uniformly with replacement. The next call overwrites the arrays.

        Args:
            batch_size: B.
            generator: source of the draws.
        """
        return self.take(generator.integers(len(self), size=batch_size))

    def take(self, index: Array) -> Batch:
        """Return the transitions in some rows. The next call overwrites the arrays.

        Args:
            index: the rows, int [B].
        """
        batch = self._batch
        if batch is None or len(batch.action) != len(index):
            batch = self._batch = _batch_arrays(len(index), self.arrays.obs.shape[1])
        for stored, out in zip(self.arrays, batch, strict=True):
            stored.take(index, axis=0, out=out, mode="clip")  # the only mode that writes to out directly
        return batch


def _batch_arrays(rows: int, observation_size: int) -> Batch:
    return Batch(
        obs=np.zeros((rows, observation_size), np.float32),
        action=np.zeros(rows, np.int64),
        reward=np.zeros(rows, np.float32),
        discount=np.zeros(rows, np.float32),
        next_obs=np.zeros((rows, observation_size), np.float32),
    )
