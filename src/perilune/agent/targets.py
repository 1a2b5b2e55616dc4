"""Temporal-difference targets. Each is one equation on arrays, and a constant to the gradient.

``discount`` says all there is to say about ends: gamma^k (1 - terminated), with k the number of steps between the two
observations. A truncated episode goes on in principle, so its discount stays (Pardo et al., arXiv:1712.00378).

A policy is given in one of two forms: action[B], the one action that it takes, or probability[B, A].
"""

from __future__ import annotations

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ShapeError


def greedy(q_values: Array) -> Array:
    """argmax_a Q(obs, a): action[B] for q_values[B, A]; the first of equals."""
    action: Array = q_values.argmax(axis=1)
    return action


def log_softmax(q_values: Array, temperature: float) -> Array:
    """log pi(a | obs) of the policy pi = softmax(Q / temperature): [B, A] for q_values[B, A].

    temperature is in units of return; the smaller, the nearer to greedy. No exponential can overflow.
    """
    scaled = (q_values - q_values.max(axis=1, keepdims=True)) / q_values.dtype.type(temperature)
    log_policy: Array = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return log_policy


def upper_mean(quantiles: Array, left_out: float) -> Array:
    """The mean of the upper quantiles, [B, A] for quantiles[B, A, N] that rise along N: optimism about the return.

    floor(left_out N) of the lowest are left out. An action whose outcome is uncertain looks better than it is, and so
    is tried. Distortions of the return's distribution: Dabney et al., Implicit Quantile Networks, arXiv:1806.06923; for
    exploration: Mavrin et al., arXiv:1905.06125.
    """
    best: Array = quantiles[..., int(left_out * quantiles.shape[-1]) :].mean(axis=-1)
    return best


def under(policy: Array, values: Array) -> Array:
    """What ``values`` come to under a policy: sum over a of pi(a | obs) values(obs, a).

    Args:
        policy: action[B], or probability[B, A].
        values: [B, A], or [B, A, N] for N quantiles or probabilities each.

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
    """td_target = reward + discount next_value.

    With next_value = max_a Q_target(next_obs, a) this is DQN (Mnih et al., Nature 518, 2015); with
    Q_target(next_obs, argmax_a Q_online(next_obs, a)) it is Double DQN, where one network chooses and another judges,
    so that one network's luck is not both chosen and believed (van Hasselt et al., arXiv:1509.06461). N quantiles as
    next_value give those of the target (QR-DQN, Dabney et al., arXiv:1710.10044).

    Args:
        reward: [B], summed over the steps of the transition.
        discount: [B].
        next_value: [B], or [B, N].

    Returns:
        td_target, shaped as next_value.
    """
    _check_rows(reward, discount, next_value)
    if next_value.ndim == 2:
        reward, discount = reward[:, None], discount[:, None]
    target: Array = reward + discount * next_value
    return target


def categorical_target(reward: Array, discount: Array, next_probability: Array, support: Array) -> Array:
    """The distribution of reward + discount Z on the points of ``support``, where Z has ``next_probability``.

    Every point z_j moves to reward + discount z_j, is clipped to the support's ends, and its probability is shared
    between the two neighbouring points, the nearer getting more; the mean is kept where nothing was clipped.

    Args:
        reward: [B], summed over the steps of the transition.
        discount: [B].
        next_probability: [B, N], of the return from next_obs on.
        support: [N], evenly spaced and rising, in units of return.

    Returns:
        probability[B, N].

    Bellemare et al., A Distributional Perspective on Reinforcement Learning, arXiv:1707.06887.
    """
    _check_rows(reward, discount, next_probability)
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
    """reward + share max(temperature log pi(action | obs), floor) + discount temperature H(pi(. | next_obs)).

    The agent pays itself for what it is sure of. H = -sum over a of pi log pi is the entropy that goes with a soft
    policy at next_obs, which must then be the one that next_obs is valued under.

    Args:
        reward, discount: [B].
        log_policy: [B], log pi(action | obs) of the action taken, the first of the transition's steps.
        next_log_policy: [B, A], log pi(a | next_obs).
        share: alpha of the paper, in [0, 1].
        temperature: tau of the paper, > 0, in units of return.
        floor: l_0 of the paper, <= 0.

    Returns:
        reward[B].

    Vieillard, Pietquin and Geist, Munchausen Reinforcement Learning, arXiv:2007.14430.
    """
    _check_rows(reward, discount, next_log_policy)
    if log_policy.shape != reward.shape:
        raise ShapeError(f"log_policy must be {list(reward.shape)}, got {list(log_policy.shape)}")
    entropy = -(np.exp(next_log_policy) * next_log_policy).sum(axis=1)
    own = np.maximum(temperature * log_policy, floor)
    paid: Array = reward + share * own + discount * (temperature * entropy)
    return paid


def _check_rows(reward: Array, discount: Array, next_value: Array) -> None:
    # (B, 1) + (B,) would broadcast to (B, B) in silence.
    if reward.ndim != 1 or discount.shape != reward.shape or next_value.shape[:1] != reward.shape:
        raise ShapeError(
            "a target needs reward[B], discount[B] and values of B next observations, got "
            f"{list(reward.shape)}, {list(discount.shape)} and {list(next_value.shape)}"
        )
