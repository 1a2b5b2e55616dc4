"""Check the actions: valid, greedy at epsilon 0, and uniformly random at epsilon 1."""

from __future__ import annotations

from collections.abc import Iterator
from math import erfc, sqrt
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session, seed_global_generators

STATES = 600
MIN_STATES = 100
UNLIKELY = 1e-7  # false-alarm rate of each statistical test
DECIDED = 16  # states with the largest gaps between the best two values
CALLS = 400  # calls of act in each of them
MASKED = 1e4  # values lower than the largest one by this many times its size mark unavailable actions


def check_actions(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Compare the actions at epsilon 0, 0.5 and 1 with the greedy actions of ``q_values``."""
    states = min(STATES, max(MIN_STATES, session.affordable(0.1, q_values=3)))
    yield from session.fewer(STATES, states, "states")
    obs = session.observations(states, 2.0)
    q = agent.q(obs)
    copies = [agent.copy() for _ in range(3)]  # so that the agent's own schedule restarts for each epsilon
    greedy, random, _ = taken = [_actions(copies[i], obs, epsilon) for i, epsilon in enumerate((0.0, 1.0, 0.5))]
    for action in np.concatenate(taken):
        if not 0 <= action < session.actions:
            yield finding("exploration.out_of_range", action=action, last=session.actions - 1)
            return
    if session.actions == 1:
        return
    valid = available(q)
    best, worst = q.argmax(axis=1), np.where(valid, q, np.inf).argmin(axis=1)
    clear = (q.max(axis=1) - np.where(valid, q, np.inf).min(axis=1) > 20 * session.noise + 1e-9) & (best != worst)
    if not clear.any():
        raise CannotTell("all actions have the same Q-value in every tested state, so no action is greedy")
    agree, agree_at_1, share = ((actions == best)[clear].mean() for actions in taken)
    as_worst = (greedy == worst)[clear].mean()
    shares: dict[str, Any] = {"states": clear.sum(), "greedy": agree, "random": agree_at_1, "worst": as_worst}
    same = (greedy == random).mean() > 0.99  # copies draw the same random numbers, so only epsilon differs
    ignored = same or max(abs(agree - agree_at_1), abs(agree - share)) < 0.05
    if as_worst > 0.95:
        yield finding("exploration.argmin", **shares)
    elif agree_at_1 > 0.95 and agree < 0.9:
        yield finding("exploration.inverted", **shares)
    elif agree < 0.9 and (greedy == _actions(copies[0], obs, 0.0)).mean() > 0.99:
        yield finding("exploration.not_greedy", **shares)
    elif agree < 0.9 and ignored:
        yield (
            f"exploration: act() takes the action with the largest Q in {agree:.0%} of the states, at epsilon 0, 0.5 "
            "and 1. It may use a schedule or a temperature of its own. Pass epsilon to the agent in the adapter"
        )
    elif agree < 0.9 and _flips_anywhere(session, copies[0], obs[clear], q[clear], 1 - agree):
        yield finding("exploration.not_greedy", **shares)
    elif len(set(random)) == 1:
        yield finding("exploration.never_random", **shares)
    else:
        yield from _random_actions(session, agent, taken, q, clear, shares)


def _random_actions(
    session: Session, agent: AgentCopy, taken: list[Array], q: Array, clear: Array, shares: dict[str, Any]
) -> Iterator[Finding | str]:
    """Check that actions are uniform at epsilon 1, and half as often random at epsilon 0.5."""
    _, random, half = taken
    best, agree, agree_at_1 = q.argmax(axis=1), shares["greedy"], shares["random"]
    valid = available(q)
    prefers = _prefers_values(q[clear], (random != best)[clear])
    if agree_at_1 > 0.95 and not prefers:
        if redraws_noise(session, agent):
            yield "random actions: the noise of the network may replace epsilon"
        else:
            yield finding("exploration.never_random", **shares)
        return
    counts = np.bincount(random, minlength=session.actions)
    equal = float(np.sum((counts / len(random)) ** 2))  # expected share of equal neighbors
    if unlikely((random[1:] == random[:-1]).sum(), len(random) - 1, equal, above=True):
        yield "random actions: they last several time steps, so tests of single actions do not apply"
        return
    by_chance = float((counts / len(random))[best[clear]].mean()) if valid.all() else agree_at_1
    dependent = unlikely(agree_at_1 * clear.sum(), int(clear.sum()), by_chance)
    chances = valid / valid.sum(axis=1)[:, None], np.full(q.shape, 1 / session.actions)  # masked actions may count
    uneven = all(_uneven(random, chance) for chance in chances)
    if (dependent and agree_at_1 < by_chance) or (prefers and (dependent or uneven or agree_at_1 > 0.95)):
        yield "random actions: their probabilities depend on Q, as in softmax exploration"
        return
    if dependent:
        yield finding(
            "exploration.epsilon_ignored", epsilon=1, share=agree_at_1, states=clear.sum(), expected=by_chance
        )
    elif uneven:
        never = (counts == 0).any()
        name = "exploration.action_never_tried" if never else "exploration.uneven"
        yield finding(name, count=len(random), counts=", ".join(map(str, counts)), origin="of act() at epsilon 1")
    else:
        share, expected = (half == best)[clear].mean(), (agree + agree_at_1) / 2  # half-way between 0 and 1
        z = abs(share - expected) / sqrt(1.5 * expected * (1 - expected) / clear.sum() + 1e-12)
        if erfc(z / sqrt(2)) < UNLIKELY:
            yield finding(
                "exploration.epsilon_ignored", epsilon=0.5, share=share, states=clear.sum(), expected=expected
            )


def _actions(agent: AgentCopy, obs: Array, epsilon: float) -> Array:
    actions = []
    seed_global_generators(3)
    for row in obs:
        action = agent.array("act", row.copy(), epsilon)
        if action.size != 1 or action.dtype.kind not in "iub":
            raise AgentFailed("act", f"returned {action!r} for an observation of shape {row.shape}: expected an int")
        actions.append(int(action.reshape(-1)[0]))
    return np.array(actions)


def available(q: Array) -> Array:
    """Return which actions q (N, A) does not mask with a very low value, (N, A)."""
    best = q.max(axis=1, keepdims=True)
    return np.asarray(q > best - MASKED * (1 + np.abs(best)))


def unlikely(count: float, total: int, share: float, above: bool = False) -> bool:
    """Return whether chance cannot explain how far ``count`` of ``total`` is from ``share``, or ``above`` it."""
    z = (count - share * total) / sqrt(share * (1 - share) * total + 1e-12)
    return erfc((z if above else abs(z)) / sqrt(2)) < UNLIKELY


def _gaps(q: Array) -> Array:
    """Return the distance between the best two values of each state, (N,)."""
    two = np.sort(q, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def _flips_anywhere(session: Session, agent: AgentCopy, obs: Array, q: Array, share: float) -> bool:
    """Return whether actions differ from the greedy ones even where one action is much better than the others.

    Noise in the layers changes actions where values are close. ``share`` is the share of other actions in all states.
    """
    rows = np.argsort(_gaps(q))[-DECIDED:]
    calls = min(CALLS, max(1, session.affordable(0.1, q_values=len(rows))))
    other = [(_actions(agent, obs[rows], 0.0) != q[rows].argmax(axis=1)).mean() for _ in range(calls)]
    error = sqrt(share * (1 - share) / (calls * len(rows)))
    return bool(np.mean(other) - 5 * error > 0.7 * share)


def _prefers_values(q: Array, other: Array) -> bool:
    """Return whether the actions that differ from the greedy one occur mostly where two values are close."""
    ranks = _gaps(q).argsort().argsort()[other] / len(q)
    return bool(len(ranks)) and float(0.5 - ranks.mean()) * sqrt(12 * len(ranks)) > 3


def redraws_noise(session: Session, agent: AgentCopy) -> bool:
    """Return whether q_values has noise that calls or updates draw again, so that Q moves back and forth."""
    if session.noise:
        return True
    copy, states = agent.copy(), session.observations(16)
    batch = session.transitions(max(32, session.min_batch))
    batch = batch._replace(reward=(copy.q_taken(batch) + 1).astype(np.float32))
    seed_global_generators(3)
    values = []
    for _ in range(20):
        if copy.has("act"):
            copy.call("act", states[0], 0.0)
        for _ in range(session.calls_per_update):
            copy.call("train_batch", *(column.copy() for column in batch))
        values.append(copy.array("q_values", states.copy()).astype(np.float64))
    return back_and_forth(np.array(values))


def back_and_forth(values: Array) -> bool:
    """Return whether a series of values (T, ...) is noise around a level: consecutive changes then have opposite signs.

    The correlation of consecutive changes is -0.5 for pure noise, and about 0 or more for learning.
    """
    moves = np.diff(values, axis=0)
    one, other = moves[:-1], moves[1:]
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return size > 0 and float((one * other).sum()) < -0.25 * size


def _uneven(random: Array, chance: Array) -> bool:
    """Return whether chance cannot explain how far the counts of the actions (N,) are from ``chance`` (N, A)."""
    actions = chance.shape[1]
    expected, variance = chance.sum(axis=0), (chance * (1 - chance)).sum(axis=0)
    counts = np.bincount(random, minlength=actions)
    possible = variance > 0
    z = np.abs(counts - expected)[possible] / np.sqrt(variance[possible])
    with np.errstate(divide="ignore"):
        log_never = np.log1p(-chance).sum(axis=0)[(counts == 0) & possible]
    never = bool(len(log_never)) and np.exp(log_never.min()) < UNLIKELY
    return never or (bool(len(z)) and actions * erfc(z.max() / sqrt(2)) < UNLIKELY)
