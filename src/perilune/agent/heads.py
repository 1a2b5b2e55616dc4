"""Heads whose outputs are a distribution of the return: C51 and QR-DQN."""

from __future__ import annotations

import numpy as np
from typing_extensions import override

from perilune._utils.arrays import Array
from perilune.agent.targets import Head, check_rows
from perilune.errors import ShapeError
from perilune.nn.backend import compiled
from perilune.nn.distributional import cross_entropy, quantile_huber


class Categorical(Head):
    """C51: the outputs are logits of the probabilities of N returns, evenly spaced from ``low`` to ``high``.

    Args:
        atoms: N.
        low: the lowest return.
        high: the highest return.

    Bellemare et al., A Distributional Perspective on Reinforcement Learning, arXiv:1707.06887.
    """

    def __init__(self, atoms: int, low: float, high: float) -> None:
        self.shape = (atoms,)
        self.support = np.linspace(low, high, atoms)  # float64: the projection divides by the distance of two atoms

    @override
    def read(self, outputs: Array) -> Array:
        powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        probability: Array = powers / powers.sum(axis=-1, keepdims=True)
        return probability

    @override
    def mean(self, values: Array) -> Array:
        expected: Array = values @ self.support.astype(values.dtype)
        return expected

    @override
    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        return categorical_target(reward, discount, next_values, self.support)

    @override
    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        return cross_entropy(chosen, td_target)


class Quantile(Head):
    """QR-DQN: the outputs are N quantiles of the return, at (2 i + 1) / 2 N for i = 0 .. N - 1.

    Args:
        quantiles: N.
        kappa: ``huber_delta`` of the quantile loss.

    Dabney et al., Distributional Reinforcement Learning with Quantile Regression, arXiv:1710.10044.
    """

    def __init__(self, quantiles: int, kappa: float) -> None:
        self.shape = (quantiles,)
        self.kappa = kappa
        self._shares = np.full(quantiles, 1 / quantiles, np.float32)
        self._scratch: Array = np.empty(0, np.float32)

    @override
    def mean(self, values: Array) -> Array:
        if compiled() is not None:  # one product, whose sums may be in another order than those of one product per row
            return (values.reshape(-1, values.shape[-1]) @ self._shares).reshape(values.shape[:-1])
        expected: Array = values @ self._shares
        return expected

    @override
    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        shape = (2, chosen.shape[1], td_target.shape[1], len(chosen))
        if self._scratch.shape != shape or self._scratch.dtype != chosen.dtype:
            self._scratch = np.empty(shape, chosen.dtype)
        return quantile_huber(chosen, td_target, self.kappa, self._scratch)


def categorical_target(reward: Array, discount: Array, next_probability: Array, support: Array) -> Array:
    """Return the distribution of reward + discount Z on ``support``, where Z has ``next_probability``.

    Each atom z_j moves to reward + discount z_j and is clipped to the ends of the support. Its probability is divided
    between the two nearest atoms by linear interpolation. This preserves the mean unless an atom is clipped.

    Args:
        reward: sum over the steps of the transition, float [B].
        discount: float [B].
        next_probability: distribution of the return from next_obs, float [B, N].
        support: the atoms, evenly spaced and increasing, float [N], in units of return.

    Returns:
        Probabilities, float [B, N].

    Bellemare et al., A Distributional Perspective on Reinforcement Learning, arXiv:1707.06887.
    """
    check_rows(reward, discount, next_probability)
    rows, atoms = next_probability.shape
    if support.shape != (atoms,):
        raise ShapeError(f"next_probability[B, N] needs support[N], got {[rows, atoms]} and {list(support.shape)}")
    moved = np.clip(reward[:, None] + discount[:, None] * support, support[0], support[-1])
    scale = (atoms - 1) / (float(support[-1]) - float(support[0]))  # the difference of two neighbors is less precise
    place = np.clip((moved - support[0]) * scale, 0, atoms - 1)  # in steps from the lowest atom
    below = np.minimum(place.astype(np.int64), atoms - 2)
    share_above = place - below
    flat = below + atoms * np.arange(rows)[:, None]
    probability = np.bincount(flat.ravel(), (next_probability * (1 - share_above)).ravel(), rows * atoms)
    probability += np.bincount(flat.ravel() + 1, (next_probability * share_above).ravel(), rows * atoms)
    return probability.reshape(rows, atoms).astype(next_probability.dtype)


def upper_mean(quantiles: Array, left_out: float) -> Array:
    """Return the mean of the upper quantiles, float [B, A]. It favors actions with uncertain returns.

    Args:
        quantiles: float [B, A, N], increasing along N.
        left_out: fraction of the lowest quantiles to ignore, in [0, 1). The lowest floor(left_out N) are ignored.

    Dabney et al., Implicit Quantile Networks, arXiv:1806.06923 (distortions of the distribution). Mavrin et al.,
    arXiv:1905.06125 (for exploration).
    """
    best: Array = quantiles[..., int(left_out * quantiles.shape[-1]) :].mean(axis=-1)
    return best
