"""Temporal-difference targets. Each is one equation on arrays, and a constant to the gradient.

``discount`` says all there is to say about ends: gamma^k (1 - terminated), with k the number of steps between the two
observations. A truncated episode goes on in principle, so its discount stays (Pardo et al., arXiv:1712.00378).
"""

from __future__ import annotations

import numpy as np

from perilune.errors import ShapeError
from perilune.nn.layers import Array


def q_learning_target(reward: Array, discount: Array, next_q_target: Array) -> Array:
    """td_target = reward + discount max_a Q_target(next_obs, a).

    Args:
        reward: [B], summed over the steps of the transition.
        discount: [B].
        next_q_target: [B, A], the target network's values of next_obs.

    Returns:
        td_target[B].

    Mnih et al., Human-level control through deep reinforcement learning, Nature 518, 2015.
    """
    return double_q_target(reward, discount, next_q_target, next_q_target)


def double_q_target(reward: Array, discount: Array, next_q_online: Array, next_q_target: Array) -> Array:
    """td_target = reward + discount Q_target(next_obs, argmax_a Q_online(next_obs, a)).

    The online network chooses and the target network judges, so that one network's luck is not both chosen and
    believed.

    Args:
        reward: [B], summed over the steps of the transition.
        discount: [B].
        next_q_online: [B, A], the online network's values of next_obs.
        next_q_target: [B, A], the target network's.

    Returns:
        td_target[B].

    van Hasselt et al., Deep Reinforcement Learning with Double Q-learning, arXiv:1509.06461.
    """
    rows = reward.shape
    if len(rows) != 1 or discount.shape != rows or next_q_target.shape[:1] != rows or next_q_target.ndim != 2:
        raise ShapeError(
            "td_target needs reward[B], discount[B] and next_q[B, A], got "
            f"{list(rows)}, {list(discount.shape)} and {list(next_q_target.shape)}"
        )
    if next_q_online.shape != next_q_target.shape:
        raise ShapeError(
            f"both networks' next_q must be [B, A], got {list(next_q_online.shape)} and {list(next_q_target.shape)}"
        )
    bootstrap = next_q_target[np.arange(rows[0]), next_q_online.argmax(axis=1)]
    td_target: Array = reward + discount * bootstrap
    return td_target
