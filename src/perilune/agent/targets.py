"""Temporal-difference targets, and what a network's outputs mean. Each target is a constant to the gradient.

``discount`` is gamma^k (1 - terminated), with k the number of steps between the two observations. It replaces flags for
the end of an episode: a truncated episode could have continued, so its discount stays (Pardo et al., arXiv:1712.00378).

A policy is either action[B], the action that it takes, or probability[B, A].
"""

from __future__ import annotations

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ShapeError
from perilune.nn.losses import Loss, huber, mse


def greedy(q_values: Array) -> Array:
    """Return argmax_a Q(obs, a), action[B] for q_values[B, A]; the first of equal ones."""
    action: Array = q_values.argmax(axis=1)
    return action


def expected_value(policy: Array, values: Array) -> Array:
    """Return the expectation of ``values`` under a policy: sum over a of pi(a | obs) values(obs, a).

    Args:
        policy: action[B], or probability[B, A].
        values: [B, A], or [B, A, N] for N quantiles or probabilities per action.

    Returns:
        [B], or [B, N].
    """
    if values.ndim not in (2, 3) or policy.shape not in (values.shape[:1], values.shape[:2]):
        raise ShapeError(
            "a policy action[B] or probability[B, A] goes with values[B, A] or [B, A, N], got "
            f"{list(policy.shape)} and {list(values.shape)}"
        )
    if policy.ndim == 1:
        taken: Array = values[np.arange(len(policy)), policy]
        return taken
    mixed: Array = np.einsum("ba,ba...->b...", policy, values)
    return mixed


def td_target(reward: Array, discount: Array, next_value: Array) -> Array:
    """Return td_target = reward + discount next_value.

    With next_value = max_a Q_target(next_obs, a), this is DQN (Mnih et al., Nature 518, 2015). With
    Q_target(next_obs, argmax_a Q_online(next_obs, a)), it is Double DQN: one network chooses the action and another
    values it, so that an overestimate is not both chosen and believed (van Hasselt et al., arXiv:1509.06461). N
    quantiles as next_value give the quantiles of the target (QR-DQN, Dabney et al., arXiv:1710.10044).

    Args:
        reward: [B], summed over the steps of the transition.
        discount: [B].
        next_value: [B], or [B, N].

    Returns:
        td_target, in the shape of next_value.
    """
    check_rows(reward, discount, next_value)
    if next_value.ndim == 2:
        reward, discount = reward[:, None], discount[:, None]
    target: Array = reward + discount * next_value
    return target


def check_rows(reward: Array, discount: Array, next_value: Array) -> None:
    """Raise ShapeError unless all have B rows: (B, 1) + (B,) would silently broadcast to (B, B)."""
    if reward.ndim != 1 or discount.shape != reward.shape or next_value.shape[:1] != reward.shape:
        raise ShapeError(
            "a target needs reward[B], discount[B] and values of B next observations, got "
            f"{list(reward.shape)}, {list(discount.shape)} and {list(next_value.shape)}"
        )


class Head:
    """What a network's outputs for an action mean. This head has one output: the expected return (Mnih et al., 2015).

    Heads of distributions inherit from it. Their arrays have a last axis N, and ``shape`` is (N,) instead of ().
    """

    shape: tuple[int, ...] = ()

    def __init__(self, loss: Loss, delta: float) -> None:
        self.name = loss
        self.delta = delta

    def read(self, outputs: Array) -> Array:
        """Return the values, quantiles or probabilities that ``outputs`` stand for, in the same shape."""
        return outputs

    def mean(self, values: Array) -> Array:
        """Return the expected return of what ``read`` or ``target`` returned; the axis N is gone."""
        return values

    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        """Return td_target of reward[B], discount[B] and the next observations' values [B] or [B, N]."""
        return td_target(reward, discount, next_values)

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        """Return the loss of the outputs of the actions taken, [B] or [B, N], and d loss / d chosen."""
        return mse(chosen, td_target) if self.name == "mse" else huber(chosen, td_target, self.delta)
