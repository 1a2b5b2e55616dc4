"""Experience replay: what was lived is stored once and learned from many times (Lin, 1992)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ConfigError, DivergenceError, ShapeError

LARGEST_REWARD = float(np.finfo(np.float32).max)  # beyond which it is stored as an infinity


class Transition(NamedTuple):
    """n steps of one episode seen as one: from obs, ``action``, and k <= n steps later next_obs."""

    obs: Array
    action: int
    reward: float
    discount: float
    next_obs: Array


class Batch(NamedTuple):
    """B transitions as arrays: obs[B, O], action[B], reward[B], discount[B], next_obs[B, O]."""

    obs: Array
    action: Array
    reward: Array
    discount: Array
    next_obs: Array


class NStep:
    """Turns single steps into transitions over n steps.

    reward = sum over i < k of gamma^i r_i, discount = gamma^k (1 - terminated), where k is n, or fewer at the end of
    an episode: there every pending start is flushed, and a truncated end keeps its bootstrap. Nothing crosses an
    episode. Sutton and Barto, Reinforcement Learning, 2nd edition, section 7.1.

    Raises:
        DivergenceError: a sum of rewards is not finite in single precision.
    """

    def __init__(self, n: int, gamma: float) -> None:
        self.n = n
        self.gamma = gamma
        self.pending: deque[tuple[Array, int, float]] = deque()

    def push(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> Iterator[Transition]:
        """Take one step in; give the transitions that it completes, oldest first. obs is kept: it must not change."""
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
                f"the sum of {len(self.pending)} rewards is {total:g}, which is not finite in single precision and "
                "would spoil every weight: scale or clip rewards with gymnasium.wrappers.TransformReward"
            )
        obs, action, _ = self.pending.popleft()
        return Transition(obs, action, total, 0.0 if terminated else discount, next_obs)


class Replay:
    """The newest ``capacity`` transitions, in arrays allocated once and written round and round.

    ``added`` is how many there have ever been, and with the arrays all the state there is.

    Raises:
        ConfigError: the arrays do not fit into memory; told when they are first asked for.
    """

    def __init__(self, capacity: int, observation_size: int) -> None:
        self.capacity = capacity
        self.observation_size = observation_size
        self.added = 0
        self._batch: Batch | None = None

    @cached_property
    def arrays(self) -> Batch:
        """The transitions, a row each: none but the first ``size`` rows mean anything."""
        try:
            return _batch_arrays(self.capacity, self.observation_size)
        except (MemoryError, ValueError) as error:
            gib = self.capacity * (8 * self.observation_size + 16) / 2**30
            raise ConfigError(
                "buffer_size", self.capacity, f"a buffer that fits into memory; this one needs {gib:,.1f} GiB"
            ) from error

    @property
    def cursor(self) -> int:
        """Where the next transition goes."""
        return self.added % self.capacity

    @property
    def size(self) -> int:
        """How many transitions there are."""
        return min(self.added, self.capacity)

    def __len__(self) -> int:
        return self.size

    def add(self, obs: Array, action: int, reward: float, discount: float, next_obs: Array) -> int:
        """Store copies of one transition, over the oldest where the arrays are full; the slot where it is now."""
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
        """``batch_size`` transitions drawn uniformly with replacement."""
        return self.take(generator.integers(self.size, size=batch_size))

    def take(self, index: Array) -> Batch:
        """The transitions in the slots ``index``[B]. The arrays are filled anew at every call."""
        batch = self._batch
        if batch is None or len(batch.action) != len(index):
            batch = self._batch = _batch_arrays(len(index), self.arrays.obs.shape[1])
        for stored, out in zip(self.arrays, batch, strict=True):
            stored.take(index, axis=0, out=out, mode="clip")  # the mode that writes to out without a copy between
        return batch


def _batch_arrays(rows: int, observation_size: int) -> Batch:
    return Batch(
        obs=np.zeros((rows, observation_size), np.float32),
        action=np.zeros(rows, np.int64),
        reward=np.zeros(rows, np.float32),
        discount=np.zeros(rows, np.float32),
        next_obs=np.zeros((rows, observation_size), np.float32),
    )
