"""Heads: what a network's outputs for an action mean, and which target and loss go with that.

A head reads the outputs as expected returns or as distributions of the return. All else about learning is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from perilune._utils.arrays import Array
from perilune.agent import targets
from perilune.nn.losses import Loss, cross_entropy, huber, mse, quantile_huber

HeadName = Literal["expected", "c51", "qr"]


class Head(Protocol):
    """What the agent asks of a head.

    Arrays end in the axes ``shape``.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action's outputs: () for one number, (N,) for N."""

    def read(self, outputs: Array) -> Array:
        """What ``outputs`` stand for: values, quantiles or probabilities, in the same shape."""

    def mean(self, values: Array) -> Array:
        """The expected return of what ``read`` or ``target`` gave: the axis N, where there is one, is gone."""

    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        """td_target of reward[B], discount[B] and what ``read`` gave of next_obs under a policy, [B] or [B, N]."""

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        """The loss of the outputs of the actions taken, [B] or [B, N], and its derivative with respect to them."""


@dataclass(frozen=True)
class Expected:
    """One number an action: its expected return. Mnih et al., Nature 518, 2015."""

    name: Loss
    delta: float
    shape: tuple[int, ...] = ()

    def read(self, outputs: Array) -> Array:
        return outputs

    def mean(self, values: Array) -> Array:
        return values

    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        return targets.td_target(reward, discount, next_values)

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        return mse(chosen, td_target) if self.name == "mse" else huber(chosen, td_target, self.delta)


class Categorical:
    """Logits of the probabilities of N returns, evenly spaced from ``low`` to ``high``: C51.

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
        return targets.categorical_target(reward, discount, next_values, self.support)

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        return cross_entropy(chosen, td_target)


class Quantile:
    """N quantiles of the return, at (2 i + 1) / 2 N for i = 0 .. N - 1: QR-DQN.

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
        return targets.td_target(reward, discount, next_values)

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        shape = (2, chosen.shape[1], td_target.shape[1], len(chosen))
        if self._scratch.shape != shape or self._scratch.dtype != chosen.dtype:
            self._scratch = np.empty(shape, chosen.dtype)
        return quantile_huber(chosen, td_target, self.kappa, self._scratch)
