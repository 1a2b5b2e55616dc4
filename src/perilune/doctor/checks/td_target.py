"""Check the target of an update against reward + gamma (1 - terminated) max_a Q_target(next_obs, a)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.td_reading import UNSURE, read_bootstraps, read_targets, require_regression, require_varied_q

FAULTY = {
    "the mean of Q(next_obs, a)": "td_target.mean",
    "Q(next_obs, action) of the action taken at obs": "td_target.own_action",
    "the smallest Q(next_obs, a)": "td_target.min",
    "the largest Q(obs, a), at obs instead of next_obs": "td_target.same_state",
}


def check_ends(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that the reward of a terminated transition affects the update, and that its next_obs does not."""
    require_varied_q(session)
    count = 4 * session.actions
    base = session.transitions(count)
    other = base._replace(next_obs=session.observations(count, 3.0))
    effects: dict[str, Any] = defaultdict(float)

    def measure(what: str, *pair: Transitions) -> None:
        for ending, ended in (("terminated", True), ("running", False)):
            batches = [one._replace(terminated=np.full(count, ended)) for one in pair]
            first, second = (agent.trained(batch).q(base.obs) for batch in batches)
            name = f"{what}_{ending}"
            effects[name] = max(effects[name], float(np.abs(first - second).max()))

    # Rewards between the two targets give the errors different signs, so that even Adam's first steps differ.
    one, two = agent.q(base.next_obs), agent.q(other.next_obs)
    for middle in (one.max(axis=1) + two.max(axis=1), one.mean(axis=1) + two.mean(axis=1), one.max() + two.max()):
        between = (agent.q_taken(base) - session.gamma * middle / 2).astype(np.float32)
        measure("next", base._replace(reward=between), other._replace(reward=between))
    for reward in (0.3, 3.0, 100.0):  # large rewards only if needed, because they may overflow or be clipped
        measure("reward", *(base._replace(reward=np.full(count, sign * reward, np.float32)) for sign in (-1, 1)))
        least = 1e-4 * max(effects.values())
        if min(effects["reward_terminated"], effects["reward_running"]) > least:
            break
    if least == 0:
        raise CannotTell("neither reward nor next_obs changes the effect of an update")
    matters = {name: effect > least for name, effect in effects.items()}
    if matters["next_terminated"] and not matters["next_running"]:
        session.ends = "mask_inverted"
        yield finding("td_target.mask_inverted", **effects)
    elif matters["next_terminated"]:
        if effects["next_terminated"] < effects["next_running"] / 2:  # without a mask, they are equal
            raise CannotTell(
                "next_obs of terminated transitions has a small effect. It may change running statistics of the "
                "observations"
            )
        _require_bootstrap(session, agent)
        session.ends = "no_mask"
        yield finding("td_target.no_mask", **effects)
    elif not matters["next_running"] and session.gamma > 0:
        yield finding("td_target.no_bootstrap", **effects)
    if matters["reward_running"] and not matters["reward_terminated"]:
        session.ends = "reward_masked"
        yield finding("td_target.reward_masked", **effects)
    elif not (matters["reward_terminated"] or matters["reward_running"]):
        yield finding("td_target.no_reward", **effects)


def _require_bootstrap(session: Session, agent: AgentCopy) -> None:
    """Raise CannotTell unless the targets of terminated transitions depend on the next Q-values."""
    batch = session.transitions(6, scale=3.0)
    try:
        bootstrap = read_bootstraps(agent, batch, float(np.abs(agent.q_taken(batch)).max()) + 1)
    except CannotTell as reason:
        raise CannotTell(
            f"next_obs of terminated transitions has an effect, but not as a bootstrap: {reason}"
        ) from reason
    if not any(np.corrcoef(bootstrap, values)[0, 1] > 0.7 for values in _candidates(agent, batch).values()):
        raise CannotTell(
            "next_obs of terminated transitions has an effect, but not as a bootstrap. It may change running "
            "statistics of the observations"
        )


def check_td_target(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check the discount and the next value in the target."""
    require_varied_q(session)
    if session.routing == "loss.others_to_zero":
        raise CannotTell("the errors of the other actions also change Q(obs, action)")
    require_regression(session)
    inverted = session.ends == "mask_inverted"
    targets = read_targets(session, agent, lambda batch: _candidates(agent, batch), terminated=inverted)
    name, factor, distance = targets.best_fit()
    largest, mean, *_ = targets.candidates.values()
    both = np.stack([largest, mean], axis=1)
    shares = np.linalg.lstsq(both, targets.bootstrap, rcond=None)[0]
    left = np.abs(both @ shares - targets.bootstrap).max() / np.abs(targets.bootstrap).max()
    if left < 1e-3 and min(shares) > 0.01 and abs(shares.sum() - session.discount) < 2e-3:
        raise CannotTell(
            f"the target is r + {shares[0]:.3f} max + {shares[1]:.3f} mean of Q(next_obs, a), as in Expected SARSA"
        )
    values: dict[str, Any] = {
        "count": len(targets.bootstrap),
        "bootstrap": targets.bootstrap,
        "factor": factor,
        "candidate": name,
        "distance": distance,
        "picture": targets.picture(session.discount),
    }
    if name in FAULTY:
        yield finding(FAULTY[name], **values)
    if abs(factor - session.discount) <= max(UNSURE, 2 * distance):
        return
    powers = {k: session.gamma**k for k in range(2, 21)}
    n = min(powers, key=lambda k: abs(powers[k] - factor))
    declared = f"{session.gamma}" + (f" and n_step {session.n_step}" if session.n_step else "")
    if session.n_step is None and 0 < session.gamma < 1 and abs(powers[n] - factor) < 5e-4:
        yield finding("td_target.n_step", **values, declared=f"{declared}, and gamma^{n} is {powers[n]:.4f}")
    else:
        yield finding("td_target.gamma", **values, declared=declared)


def _candidates(agent: AgentCopy, batch: Transitions) -> dict[str, Array]:
    """Return candidates for the next value (B,) by name, the correct one first."""
    next_q = agent.q(batch.next_obs)
    taken = next_q[np.arange(len(batch.action)), batch.action]
    wrong = (next_q.mean(axis=1), taken, next_q.min(axis=1), agent.q(batch.obs).max(axis=1))
    candidates = {"the largest Q(next_obs, a)": next_q.max(axis=1), **dict(zip(FAULTY, wrong, strict=True))}
    if agent.has("target_q_values"):
        candidates["the target network's largest Q(next_obs, a)"] = agent.target_q(batch.next_obs).max(axis=1)
    return candidates
