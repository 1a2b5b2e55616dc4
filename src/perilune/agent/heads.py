"""What a network's outputs for an action mean: the interface, and distributions of the return (C51, QR-DQN).

``targets`` has the head for plain expected returns.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from perilune._utils.arrays import Array
from perilune.agent.targets import check_rows, td_target
from perilune.errors import ShapeError
from perilune.nn.distributional import cross_entropy, quantile_huber

HeadName = Literal["expected", "c51", "qr"]


class Head(Protocol):
    """What a network's outputs for an action mean, and the target and loss that go with it.

    Arrays end in the axes ``shape``: () for one output per action, (N,) for N.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action's outputs."""

    def read(self, outputs: Array) -> Array:
        """Return the values, quantiles or probabilities that ``outputs`` stand for, in the same shape."""

    def mean(self, values: Array) -> Array:
        """Return the expected return of what ``read`` or ``target`` returned; the axis N is gone."""

    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        """Return td_target of reward[B], discount[B] and the next observations' values [B] or [B, N]."""

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        """Return the loss of the outputs of the actions taken, [B] or [B, N], and d loss / d chosen."""


class Categorical:
    """C51: the outputs are logits of the probabilities of N returns, evenly spaced from ``low`` to ``high``.

    Bellemare et al., A Distributional Perspective on Reinforcement Learning, arXiv:1707.06887.
    """

    def __init__(self, atoms: int, low: float, high: float) -> None:
        self.shape: tuple[int, ...] = (atoms,)
        self.support = np.linspace(low, high, atoms, dtype=np.float32)

    def read(self, outputs: Array) -> Array:
        powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        probability: Array = powers / powers.sum(axis=-1, keepdims=True)
        return probability

    def mean(self, values: Array) -> Array:
        expected: Array = values @ self.support
        return expected

    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        return categorical_target(reward, discount, next_values, self.support)

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        return cross_entropy(chosen, td_target)


class Quantile:
    """QR-DQN: the outputs are N quantiles of the return, at (2 i + 1) / 2 N for i = 0 .. N - 1.

    Dabney et al., Distributional Reinforcement Learning with Quantile Regression, arXiv:1710.10044.
    """

    def __init__(self, quantiles: int, kappa: float) -> None:
        self.shape: tuple[int, ...] = (quantiles,)
        self.kappa = kappa
        self._shares = np.full(quantiles, 1 / quantiles, np.float32)
        self._scratch: Array = np.empty(0, np.float32)

    def read(self, outputs: Array) -> Array:
        return outputs

    def mean(self, values: Array) -> Array:
        expected: Array = values @ self._shares
        return expected

    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        return td_target(reward, discount, next_values)

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        shape = (2, chosen.shape[1], td_target.shape[1], len(chosen))
        if self._scratch.shape != shape or self._scratch.dtype != chosen.dtype:
            self._scratch = np.empty(shape, chosen.dtype)
        return quantile_huber(chosen, td_target, self.kappa, self._scratch)


def categorical_target(reward: Array, discount: Array, next_probability: Array, support: Array) -> Array:
    """Return the distribution of reward + discount Z on ``support``, where Z has ``next_probability`` there.

    Each point z_j moves to reward + discount z_j, is clipped to the ends of the support, and its probability is shared
    between the two neighbouring points in proportion to its distance from the other. The mean is kept unless a point
    was clipped.

    Args:
        reward: [B], summed over the steps of the transition.
        discount: [B].
        next_probability: [B, N], of the return from next_obs on.
        support: [N], evenly spaced and increasing, in units of return.

    Returns:
        probability[B, N].

    Bellemare et al., A Distributional Perspective on Reinforcement Learning, arXiv:1707.06887.
    """
    check_rows(reward, discount, next_probability)
    rows, atoms = next_probability.shape
    if support.shape != (atoms,):
        raise ShapeError(f"next_probability[B, N] needs support[N], got {[rows, atoms]} and {list(support.shape)}")
    moved = np.clip(reward[:, None] + discount[:, None] * support, support[0], support[-1])
    place = np.clip((moved - support[0]) / (support[1] - support[0]), 0, atoms - 1)  # in steps from the lowest point
    below = np.minimum(place.astype(np.int64), atoms - 2)
    share_above = place - below
    flat = below + atoms * np.arange(rows)[:, None]
    probability = np.bincount(flat.ravel(), (next_probability * (1 - share_above)).ravel(), rows * atoms)
    probability += np.bincount(flat.ravel() + 1, (next_probability * share_above).ravel(), rows * atoms)
    return probability.reshape(rows, atoms).astype(next_probability.dtype)


def upper_mean(quantiles: Array, left_out: float) -> Array:
    """Return the mean of the upper quantiles, [B, A] for quantiles[B, A, N] that increase along N: optimism.

    The lowest floor(left_out N) quantiles are left out. An action whose outcome is uncertain looks better than it is,
    so it is tried. Distortions of the return's distribution: Dabney et al., Implicit Quantile Networks,
    arXiv:1806.06923; for exploration: Mavrin et al., arXiv:1905.06125.
    """
    best: Array = quantiles[..., int(left_out * quantiles.shape[-1]) :].mean(axis=-1)
    return best
