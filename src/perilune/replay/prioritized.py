"""Prioritized replay: transitions with large TD errors are sampled more often (Schaul et al., arXiv:1511.05952)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import DivergenceError, ShapeError

SMALL = 0.01  # added to |td_error|, in units of return, so that every transition can be sampled


class SumTree:
    """``capacity`` values >= 0, any of which is changed, or found by its share of the total, in log2(capacity) steps.

    A perfect binary tree in one float64 array: the root is node 1, the children of node i are 2i and 2i + 1, and every
    parent is the sum of its children to the bit, because it is summed anew and never incremented. ``values`` is the
    view of the leaves; write to it by ``set`` and ``set_one`` only.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.depth = (capacity - 1).bit_length()
        self.leaves = 2**self.depth  # node of the first leaf, and the number of leaves; those beyond capacity stay 0
        self.nodes = np.zeros(2 * self.leaves, np.float64)
        self._connect()

    def _connect(self) -> None:
        self.left, self.right = self.nodes[0::2], self.nodes[1::2]  # of node i, left[i] and right[i]
        self.values = self.nodes[self.leaves : self.leaves + self.capacity]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs. Views are left out: copied one by one, they would no longer share memory."""
        return {name: getattr(self, name) for name in ("capacity", "depth", "leaves", "nodes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()

    @property
    def total(self) -> float:
        """The sum of all values."""
        return float(self.nodes[1])

    def set(self, index: Array, value: Array) -> None:
        """values[index] = value, for index[N] from 0 to capacity - 1 and value[N] >= 0; of equal ones the last holds.

        Raises:
            ShapeError: the shapes differ, or an index is no leaf's.
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
            node >>= 1  # equal parents are summed more than once, which is quicker than to look for them
            self.nodes[node] = self.left[node] + self.right[node]

    def set_one(self, index: int, value: float) -> None:
        """values[index] = value, as ``set`` does it, without the cost of arrays. The index is not checked."""
        node = index + self.leaves
        self.nodes[node] = value
        while node > 1:
            node >>= 1
            self.nodes[node] = self.left[node] + self.right[node]

    def find(self, mass: Array) -> Array:
        """The index i with values[0] + ... + values[i - 1] <= mass < values[0] + ... + values[i].

        Never one whose value is 0, though rounding may leave a mass at or beyond the end of all that is above 0.

        Args:
            mass: [N], from 0 to ``total``.

        Returns:
            index[N] in int64.

        Raises:
            ShapeError: every value is 0, so that there is nothing to find.
        """
        if self.total == 0:
            raise ShapeError("every value is 0, so there is nothing to find: set one first")
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
    """How often each of ``capacity`` slots of a replay is drawn: P(i) = p_i^exponent / sum over k of p_k^exponent.

    The transitions themselves are the replay's. A slot's priority is p = |td_error| + SMALL at its last update;
    ``exponent`` 0 draws uniformly, 1 in proportion. This is the proportional variant of Schaul et al.,
    arXiv:1511.05952, section 3.3. ``tree.values`` and ``greatest`` are all the state there is.
    """

    def __init__(self, capacity: int, exponent: float) -> None:
        self.capacity = capacity
        self.exponent = exponent
        self.greatest = 1.0  # p^exponent of the greatest priority so far

    @cached_property
    def tree(self) -> SumTree:
        """p^exponent of every slot. It takes its memory when it is first asked for, as the replay does."""
        return SumTree(self.capacity)

    def add(self, slot: int) -> None:
        """A new transition is in ``slot``: give it the greatest priority so far, so that it is soon drawn once."""
        self.tree.set_one(slot, self.greatest)

    def sample(self, batch_size: int, beta: float, generator: np.random.Generator) -> tuple[Array, Array]:
        """Slots drawn by their priorities, one from each of B equal shares of the total, and their weights.

        weight = w / max w of the batch, with w = (N P(slot))^-beta and N the number of slots in use. N and the sum in
        P cancel: what is left is (least p^exponent of the batch / p^exponent)^beta.

        The paper leaves open whether its max_i w_i is the batch's or the whole replay's. Here it is the batch's: one
        well predicted transition anywhere in the replay would otherwise shrink every step.

        Args:
            batch_size: B.
            beta: from 0, no correction, to 1, with which the weighted gradient is on average that of uniform draws,
                but for the scale of each batch.

        Returns:
            index[B] in int64 and ascending, weights[B] in float32 with 1 the greatest.

        Raises:
            ShapeError: nothing has been added yet.
        """
        mass = (np.arange(batch_size) + generator.random(batch_size)) * (self.tree.total / batch_size)
        index = self.tree.find(mass)
        priority = self.tree.values[index]
        weights: Array = (priority.min() / priority) ** beta
        return index, weights.astype(np.float32)

    def update(self, index: Array, td_error: Array) -> None:
        """The slots index[B] have just been learned from: p = |td_error| + SMALL, for td_error[B] of either sign.

        Raises:
            ShapeError: the shapes differ, or there is no such slot.
            DivergenceError: a td_error is not finite, and so would be every draw from then on.
        """
        if not np.isfinite(td_error).all():
            raise DivergenceError(
                f"td_error holds {np.count_nonzero(~np.isfinite(td_error))} of {np.size(td_error)} values that are not "
                "finite: the weights have diverged. Try a smaller learning_rate or a max_grad_norm such as 10, and see "
                "that the environment's rewards and observations are finite."
            )
        priority = (np.abs(td_error, dtype=np.float64) + SMALL) ** self.exponent
        self.tree.set(index, priority)
        self.greatest = max(self.greatest, float(priority.max()))
