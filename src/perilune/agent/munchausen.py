"""Munchausen DQN: add the log-probability of the action to the reward (Vieillard et al., arXiv:2007.14430)."""

from __future__ import annotations

import numpy as np

from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig
from perilune.agent.targets import check_rows
from perilune.errors import ShapeError
from perilune.nn.backend import compiled


def log_softmax(q_values: Array, temperature: float) -> Array:
    """Return log pi(a | obs) of the policy pi = softmax(Q / temperature), float [B, A].

    Args:
        q_values: Q, float [B, A].
        temperature: > 0, in units of return. Lower temperatures are closer to the greedy policy.
    """
    scaled = (q_values - q_values.max(axis=1, keepdims=True)) / q_values.dtype.type(temperature)
    log_policy: Array = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return log_policy


def munchausen_reward(
    reward: Array,
    discount: Array,
    log_policy: Array,
    next_log_policy: Array,
    *,
    share: float,
    temperature: float,
    floor: float,
) -> Array:
    """Return reward + share max(temperature log pi(action | obs), floor) + discount temperature H.

    H = -sum over a of pi(a | next_obs) log pi(a | next_obs) is the entropy of the soft policy. The value of next_obs
    must be computed under the same policy. The reward favors actions that the policy already prefers.

    Args:
        reward: float [B].
        discount: float [B].
        log_policy: log pi(action | obs) of the action taken in the first step of the transition, float [B].
        next_log_policy: log pi(a | next_obs), float [B, A].
        share: alpha in the paper, in [0, 1].
        temperature: tau in the paper, > 0, in units of return.
        floor: l_0 in the paper, <= 0.

    Returns:
        float [B].

    Vieillard, Pietquin and Geist, Munchausen Reinforcement Learning, arXiv:2007.14430.
    """
    check_rows(reward, discount, next_log_policy)
    if log_policy.shape != reward.shape:
        raise ShapeError(f"log_policy must be {list(reward.shape)}, got {list(log_policy.shape)}")
    entropy = -(np.exp(next_log_policy) * next_log_policy).sum(axis=1)
    own = np.maximum(temperature * log_policy, floor)
    paid: Array = reward + share * own + discount * (temperature * entropy)
    return paid


def soft_policy(
    q_values: Array, next_q_values: Array, action: Array, reward: Array, discount: Array, config: DQNConfig
) -> tuple[Array, Array]:
    """Return the Munchausen reward, float [B], and the soft policy at next_obs, float [B, A].

    Args:
        q_values: Q of obs, float [B, A].
        next_q_values: Q of next_obs, float [B, A].
        action: int [B].
        reward: float [B].
        discount: float [B].
        config: provides ``munchausen``, ``munchausen_temperature`` and ``munchausen_floor``.
    """
    temperature = config.munchausen_temperature
    if (fast := compiled()) is not None:
        paid, policy = np.empty_like(reward), np.empty_like(next_q_values)
        settings = temperature, config.munchausen, config.munchausen_floor
        fast.soft_policy(q_values, next_q_values, action, reward, discount, *settings, paid, policy)
        return paid, policy
    log_policy = log_softmax(q_values, temperature)[np.arange(len(action)), action]
    next_log_policy = log_softmax(next_q_values, temperature)
    reward = munchausen_reward(
        reward,
        discount,
        log_policy,
        next_log_policy,
        share=config.munchausen,
        temperature=temperature,
        floor=config.munchausen_floor,
    )
    return reward, np.exp(next_log_policy)
