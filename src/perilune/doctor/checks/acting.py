"""ACT: greedy where epsilon is 0, evenly random where it is 1, and never outside the range."""

from __future__ import annotations

from collections.abc import Iterator
from math import erfc, sqrt

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import found
from perilune.doctor.report import Finding
from perilune.doctor.ward import CannotTell, Case, PatientFailed, Ward

STATES = 600
UNLIKELY = 1e-7  # a healthy agent is called sick as often as this


def check(ward: Ward) -> Iterator[Finding]:
    case = ward.fresh()
    if not case.has("act"):
        raise CannotTell("the patient has no act(obs, epsilon)")
    obs = ward.states(STATES, 2.0)
    q = case.q(obs)
    greedy, random, half = (_actions(case, obs, epsilon) for epsilon in (0.0, 1.0, 0.5))
    outside = [int(action) for action in np.concatenate([greedy, random, half]) if not 0 <= action < ward.actions]
    if outside:
        yield found("exploration.out_of_range", f"act gave {outside[0]}; actions go from 0 to {ward.actions - 1}")
        return
    if ward.actions == 1:
        return
    clear = np.ptp(q, axis=1) > 20 * ward.noise + 1e-9
    if not clear.any():
        raise CannotTell("all actions have the same Q, so that none is greedy")
    best, worst = q.argmax(axis=1), q.argmin(axis=1)
    agree, agree_at_1 = ((actions == best)[clear].mean() for actions in (greedy, random))
    said = (
        f"in {clear.sum()} states the action of the largest Q is taken in {agree:.0%} at epsilon 0 and in "
        f"{agree_at_1:.0%} at 1"
    )
    if (greedy == worst)[clear].mean() > 0.95:
        yield found(
            "exploration.argmin",
            f"{said}; at epsilon 0 that of the smallest Q in {(greedy == worst)[clear].mean():.0%}",
        )
    elif agree_at_1 > 0.95 and agree < 0.9:
        yield found("exploration.inverted", said)
    elif agree < 0.9 and _not_greedy(ward, agree, greedy, _actions(case, obs, 0.0)):
        yield found("exploration.not_greedy", said)
    elif len(set(random)) == 1 or agree_at_1 > 0.95:
        yield found("exploration.never_random", said)
    else:
        uneven = list(_even(ward, random))
        yield from uneven or _half((half == best)[clear], (agree + agree_at_1) / 2)


def _not_greedy(ward: Ward, agree: float, greedy: Array, again: Array) -> bool:
    """Whether it is no noise in the layers that makes other actions than those of the largest Q be taken."""
    return bool((greedy == again).mean() > 0.99 or agree < 1 / ward.actions + 0.1)


def _actions(case: Case, obs: Array, epsilon: float) -> Array:
    actions = []
    for row in obs:
        action = case.array("act", row.copy(), epsilon)
        if action.size != 1 or action.dtype.kind not in "iub":
            raise PatientFailed(
                "act", f"gave {action!r} for one obs of shape {list(row.shape)}; a whole number is wanted"
            )
        actions.append(int(action.reshape(-1)[0]))
    return np.array(actions)


def _even(ward: Ward, random: Array) -> Iterator[Finding]:
    counts = np.bincount(random, minlength=ward.actions)
    expected = len(random) / ward.actions
    said = f"of {len(random)} actions at epsilon 1: {', '.join(map(str, counts))}"
    if (counts == 0).any() and (1 - 1 / ward.actions) ** len(random) < UNLIKELY:
        yield found("exploration.action_never_tried", said)
        return
    # By the normal approximation, for the rarest and the most frequent action.
    z = np.abs(counts - expected).max() / sqrt(expected * (1 - 1 / ward.actions))
    if ward.actions * erfc(z / sqrt(2)) < UNLIKELY:
        yield found("exploration.uneven", said)


def _half(greedy: Array, due: float) -> Iterator[Finding]:
    """At epsilon 0.5 the share of greedy actions must be half-way between those at 0 and at 1."""
    z = abs(greedy.mean() - due) / sqrt(1.5 * due * (1 - due) / len(greedy) + 1e-12)
    if erfc(z / sqrt(2)) < UNLIKELY:
        yield found(
            "exploration.epsilon_ignored",
            f"at epsilon 0.5 the action of the largest Q is taken in {greedy.mean():.0%} of {len(greedy)} states; "
            f"{due:.0%} is due",
        )
