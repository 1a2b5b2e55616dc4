"""Check the actions: valid, greedy at epsilon 0, and uniformly random at epsilon 1."""

from __future__ import annotations

from collections.abc import Iterator
from math import erfc, sqrt
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session

STATES = 600
UNLIKELY = 1e-7  # false-alarm rate of each statistical test


def check_actions(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Compare the actions at epsilon 0, 0.5 and 1 with the greedy actions of ``q_values``."""
    obs = session.observations(STATES, 2.0)
    q = agent.q(obs)
    greedy, random, _ = taken = [_actions(agent, obs, epsilon) for epsilon in (0.0, 1.0, 0.5)]
    for action in np.concatenate(taken):
        if not 0 <= action < session.actions:
            yield finding("exploration.out_of_range", action=action, last=session.actions - 1)
            return
    if session.actions == 1:
        return
    clear = np.ptp(q, axis=1) > 20 * session.noise + 1e-9
    if not clear.any():
        raise CannotTell("all actions have the same Q-value in every tested state, so no action is greedy")
    best, worst = q.argmax(axis=1), q.argmin(axis=1)
    agree, agree_at_1, share = ((actions == best)[clear].mean() for actions in taken)
    as_worst = (greedy == worst)[clear].mean()
    shares: dict[str, Any] = {"states": clear.sum(), "greedy": agree, "random": agree_at_1, "worst": as_worst}
    if as_worst > 0.95:
        yield finding("exploration.argmin", **shares)
    elif agree_at_1 > 0.95 and agree < 0.9:
        yield finding("exploration.inverted", **shares)
    elif agree < 0.9 and (agree < 1 / session.actions + 0.1 or (greedy == _actions(agent, obs, 0.0)).mean() > 0.99):
        yield finding("exploration.not_greedy", **shares)  # noisy layers cannot explain the mismatch
    elif len(set(random)) == 1 or agree_at_1 > 0.95:
        yield finding("exploration.never_random", **shares)
    elif uneven := list(_uneven(session, random)):
        yield from uneven
    else:
        expected = (agree + agree_at_1) / 2  # half-way between 0 and 1
        z = abs(share - expected) / sqrt(1.5 * expected * (1 - expected) / clear.sum() + 1e-12)
        if erfc(z / sqrt(2)) < UNLIKELY:
            yield finding("exploration.epsilon_ignored", share=share, states=clear.sum(), expected=expected)


def _actions(agent: AgentCopy, obs: Array, epsilon: float) -> Array:
    actions = []
    for row in obs:
        action = agent.array("act", row.copy(), epsilon)
        if action.size != 1 or action.dtype.kind not in "iub":
            raise AgentFailed("act", f"returned {action!r} for an observation of shape {row.shape}: expected an int")
        actions.append(int(action.reshape(-1)[0]))
    return np.array(actions)


def _uneven(session: Session, random: Array) -> Iterator[Finding]:
    counts = np.bincount(random, minlength=session.actions)
    expected = len(random) / session.actions
    # Normal approximation for the most extreme count.
    z = np.abs(counts - expected).max() / sqrt(expected * (1 - 1 / session.actions))
    never = (counts == 0).any() and (1 - 1 / session.actions) ** len(random) < UNLIKELY
    if never or session.actions * erfc(z / sqrt(2)) < UNLIKELY:
        name = "exploration.action_never_tried" if never else "exploration.uneven"
        yield finding(name, count=len(random), counts=", ".join(map(str, counts)))
