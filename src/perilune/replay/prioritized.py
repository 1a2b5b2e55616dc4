"""Prioritized replay: sample transitions with large TD errors more often (Schaul et al., arXiv:1511.05952)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ConfigError, DivergenceError, ShapeError

SMALL = 0.01  # added to abs(td_error), in units of return, so that every transition can be sampled


class SumTree:
    """Numbers >= 0 that can be changed or found by cumulative sum in log2(capacity) steps.

    The numbers are the leaves of a perfect binary tree in one float64 array. The root is node 1, and the children of
    node i are 2i and 2i + 1. Each parent is the exact sum of its children, because every change recomputes it.
    ``values`` is a view of the leaves. Change it only with ``set`` and ``set_one``.

    Args:
        capacity: number of values.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.depth = (capacity - 1).bit_length()
        self.leaves = 2**self.depth  # the first leaf, and the number of leaves; leaves beyond capacity stay 0
        self.nodes = np.zeros(2 * self.leaves, np.float64)
        self._connect()

    def _connect(self) -> None:
        self.left, self.right = self.nodes[0::2], self.nodes[1::2]  # left[i], right[i]: children of i
        self.values = self.nodes[self.leaves : self.leaves + self.capacity]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, without views: copied views would not share memory with the nodes."""
        return {name: getattr(self, name) for name in ("capacity", "depth", "leaves", "nodes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()

    @property
    def total(self) -> float:
        """The sum of all values."""
        return float(self.nodes[1])

    def set(self, index: Array, value: Array) -> None:
        """Set values[index] = value. If an index occurs more than once, the last value counts.

        Args:
            index: int [N], from 0 to capacity - 1.
            value: float [N], >= 0.

        Raises:
            ShapeError: the shapes differ, or an index is out of range.
        """
        if np.ndim(index) != 1 or np.shape(value) != np.shape(index):
            raise ShapeError(
                f"index and value must both be [N], got {list(np.shape(index))} and {list(np.shape(value))}"
            )
        if not ((index >= 0) & (index < len(self.values))).all():
            raise ShapeError(f"index must be from 0 to {len(self.values) - 1}, got {index.min()} to {index.max()}")
        node = index + self.leaves
        self.nodes[node] = value
        for _ in range(self.depth):
            node >>= 1  # summing a parent twice is faster than finding duplicates
            self.nodes[node] = self.left[node] + self.right[node]

    def set_one(self, index: int, value: float) -> None:
        """Set values[index] = value for one index, faster than ``set`` and without checks.

        Args:
            index: from 0 to capacity - 1.
            value: >= 0.
        """
        node = index + self.leaves
        self.nodes[node] = value
        while node > 1:
            node >>= 1
            self.nodes[node] = self.left[node] + self.right[node]

    def find(self, mass: Array) -> Array:
        """Return the index i with values[0] + ... + values[i - 1] <= mass < values[0] + ... + values[i].

        An index with value 0 is never returned, even if rounding moves ``mass`` beyond the last positive value.

        Args:
            mass: float [N], from 0 to ``total``.

        Returns:
            int64 [N].

        Raises:
            ShapeError: all values are 0.
        """
        if self.total == 0:
            raise ShapeError("all values are 0. Set a value > 0 first.")
        rest = np.array(mass, np.float64)
        node = np.ones(len(rest), np.int64)
        for _ in range(self.depth):
            left = self.left[node]
            goes_right = (rest >= left) & (self.right[node] > 0)
            rest -= left * goes_right
            node = 2 * node + goes_right
        index: Array = node - self.leaves
        return index


class Priorities:
    """Sampling probabilities of the rows of a replay buffer: P(i) = p_i^exponent / sum over k of p_k^exponent.

    p = abs(td_error) + SMALL at the last update of a row. This is the proportional variant of Schaul et al.,
    arXiv:1511.05952, section 3.3. ``tree.values`` and ``greatest`` are the complete state.

    Args:
        capacity: number of rows.
        exponent: 0 samples uniformly, 1 in proportion to p.
    """

    def __init__(self, capacity: int, exponent: float) -> None:
        self.capacity = capacity
        self.exponent = exponent
        self.greatest = 1.0  # the greatest p^exponent so far

    @cached_property
    def tree(self) -> SumTree:
        """p^exponent of every row, allocated at the first use."""
        try:
            return SumTree(self.capacity)
        except (MemoryError, ValueError) as error:
            raise ConfigError("buffer_size", self.capacity, "a buffer whose priorities fit into memory") from error

    def add(self, slot: int) -> None:
        """Give a new transition the greatest priority so far, so that it is sampled soon.

        Args:
            slot: its row.
        """
        self.tree.set_one(slot, self.greatest)

    def sample(self, batch_size: int, beta: float, generator: np.random.Generator) -> tuple[Array, Array]:
        """Sample one row from each of B equal parts of the total priority, with importance weights.

        weight = w / max w of the batch, with w = (N P(row))^-beta and N the number of rows in use. N and the sum in P
        cancel, so weight = (smallest p^exponent of the batch / p^exponent)^beta.

        The paper does not specify whether max w is taken over the batch or the buffer. Perilune uses the batch, because
        otherwise one transition with a small error anywhere in the buffer would shrink every step.

        Args:
            batch_size: B.
            beta: from 0 (no correction) to 1. At 1, the expected gradient equals that of uniform sampling, except for
                the scale of each batch.
            generator: source of the draws.

        Returns:
            The rows, int64 [B], in ascending order, and the weights, float32 [B], of which the largest is 1.

        Raises:
            ShapeError: nothing has been added yet.
        """
        mass = (np.arange(batch_size) + generator.random(batch_size)) * (self.tree.total / batch_size)
        index = self.tree.find(mass)
        priority = self.tree.values[index]
        weights: Array = (priority.min() / priority) ** beta
        return index, weights.astype(np.float32)

    def update(self, index: Array, td_error: Array) -> None:
        """Set the priorities of sampled rows to abs(td_error) + SMALL.

        Args:
            index: the rows, int [B].
            td_error: float [B].

        Raises:
            ShapeError: the shapes differ, or a row does not exist.
            DivergenceError: a TD error is not finite.
        """
        if not np.isfinite(td_error).all():
            raise DivergenceError(
                f"{np.count_nonzero(~np.isfinite(td_error))} of {np.size(td_error)} TD errors are not finite, because "
                "the weights have diverged. Try a smaller learning_rate or max_grad_norm=10, and check that "
                "rewards and observations are finite."
            )
        priority = (np.abs(td_error, dtype=np.float64) + SMALL) ** self.exponent
        self.tree.set(index, priority)
        self.greatest = max(self.greatest, float(priority.max()))
