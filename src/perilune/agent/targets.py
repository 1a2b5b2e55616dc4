"""Temporal-difference targets and policies. Targets are constants: no gradient passes through them.

``discount`` is gamma^k (1 - terminated), with k the number of steps between the two observations. A truncated episode
could have continued, so it keeps its discount (Pardo et al., arXiv:1712.00378).
"""

from __future__ import annotations

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ShapeError
from perilune.nn.losses import huber, mse


def greedy(q_values: Array) -> Array:
    """Return argmax_a Q(obs, a), int [B]. If several actions have the largest value, return the first.

    Args:
        q_values: float [B, A].
    """
    action: Array = q_values.argmax(axis=1)
    return action


def expected_value(policy: Array, values: Array) -> Array:
    """Return the expectation of ``values`` under a policy: sum over a of pi(a | obs) values(obs, a).

    Args:
        policy: the action of each row, int [B], or probabilities, float [B, A].
        values: float [B, A], or [B, A, N] for N quantiles or probabilities per action.

    Returns:
        float [B], or [B, N].
    """
    if values.ndim not in (2, 3) or policy.shape not in (values.shape[:1], values.shape[:2]):
        raise ShapeError(
            "expected_value needs a policy action[B] or probability[B, A], and values[B, A] or [B, A, N], got "
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
    Q_target(next_obs, argmax_a Q_online(next_obs, a)), it is Double DQN (van Hasselt et al., arXiv:1509.06461): one
    network selects the action and the other evaluates it, which reduces overestimation. With N quantiles as next_value,
    it is the target of QR-DQN (Dabney et al., arXiv:1710.10044).

    Args:
        reward: sum over the steps of the transition, float [B].
        discount: float [B].
        next_value: float [B], or [B, N].

    Returns:
        The target, with the same shape as ``next_value``.
    """
    check_rows(reward, discount, next_value)
    if next_value.ndim == 2:
        reward, discount = reward[:, None], discount[:, None]
    target: Array = reward + discount * next_value
    return target


def check_rows(reward: Array, discount: Array, next_value: Array) -> None:
    """Raise ShapeError unless all arrays have B rows: (B, 1) + (B,) would silently broadcast to (B, B).

    Args:
        reward: float [B].
        discount: float [B].
        next_value: float [B, ...].
    """
    if reward.ndim != 1 or discount.shape != reward.shape or next_value.shape[:1] != reward.shape:
        raise ShapeError(
            "a target needs reward[B], discount[B] and values of B next observations, got "
            f"{list(reward.shape)}, {list(discount.shape)} and {list(next_value.shape)}"
        )


class Head:
    """Meaning of the outputs of a network. This base class has one output per action, the expected return.

    Distributional heads inherit from it. Their arrays have a last axis N, and their ``shape`` is (N,) instead of ().

    Mnih et al., Human-level control through deep reinforcement learning, Nature 518, 2015.

    Args:
        loss: "huber" or "mse".
        delta: ``huber_delta`` of the Huber loss.
    """

    shape: tuple[int, ...] = ()

    def __init__(self, loss: str, delta: float) -> None:
        self.name = loss
        self.delta = delta

    def read(self, outputs: Array) -> Array:
        """Return the values, quantiles or probabilities that ``outputs`` represent, with the same shape.

        Args:
            outputs: float ``[..., *shape]``.
        """
        return outputs

    def mean(self, values: Array) -> Array:
        """Return the expected returns, float [...].

        Args:
            values: result of ``read`` or ``target``, float ``[..., *shape]``.
        """
        return values

    def target(self, reward: Array, discount: Array, next_values: Array) -> Array:
        """Return the TD target, with the same shape as ``next_values``.

        Args:
            reward: float [B].
            discount: float [B].
            next_values: values of the next observations, float ``[B, *shape]``.
        """
        return td_target(reward, discount, next_values)

    def loss(self, chosen: Array, td_target: Array) -> tuple[float, Array]:
        """Return the loss, and d loss / d chosen.

        Args:
            chosen: outputs of the actions taken, float ``[B, *shape]``.
            td_target: their target, float ``[B, *shape]``.
        """
        return mse(chosen, td_target) if self.name == "mse" else huber(chosen, td_target, self.delta)
