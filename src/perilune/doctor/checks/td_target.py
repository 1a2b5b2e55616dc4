"""Check the target of an update against reward + gamma (1 - terminated) max_a Q_target(next_obs, a)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session
from perilune.doctor.td_reading import (
    CLEAR,
    UNSURE,
    Fit,
    Targets,
    read_bootstraps,
    read_targets,
    require_regression,
    require_varied_q,
)
from perilune.doctor.weights import differ, online, randomize, response, walk

# Parts of the names of candidates, and the findings for them.
FAULTY = {
    "the mean of Q(next_obs, a)": "td_target.mean",
    "Q(next_obs, action) of the action taken at obs": "td_target.own_action",
    "the smallest Q(next_obs, a)": "td_target.min",
    "the largest Q(obs, a), at obs instead of next_obs": "td_target.same_state",
    "of the greedy action at obs": "td_target.greedy_at_obs",
    "the sum of Q(next_obs, a)": "td_target.sum",
    "the index of": "td_target.action_number",
    "the largest probability": "td_target.probability",
}
VARIATIONS = 10
SCALELESS = ("td_target.action_number", "td_target.probability")  # a wrong discount is not visible behind these


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
        measure("reward", *(base._replace(reward=np.full(count, factor * reward, np.float32)) for factor in (-1, 2)))
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
    elif not matters["next_running"] and session.gamma > 0 and not _bootstraps(session, agent):
        yield finding("td_target.no_bootstrap", **effects)
    if matters["reward_running"] and not matters["reward_terminated"]:
        session.ends = "reward_masked"
        yield finding("td_target.reward_masked", **effects)
    elif not (matters["reward_terminated"] or matters["reward_running"]):
        yield finding("td_target.no_reward", **effects)
    elif session.ends == "sound":
        yield from _reward_in_target(session, agent)


def _reward_in_target(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that the target of a terminated transition is its reward. Undo a constant factor of the rewards."""
    batch = session.transitions(5)
    q = agent.q_taken(batch)
    width = float(np.abs(q).max()) + 1e-3
    try:
        neutral = q - read_bootstraps(agent, batch, width)
    except CannotTell:
        return
    difference = q - neutral
    scale = float(neutral @ q / (neutral @ neutral))
    apart = float(np.abs(scale * neutral - q).max()) / width
    if _is_discount(session, scale, apart):
        session.reward_scale = scale
        yield finding("td_target.reward_discounted", scale=scale, discount=session.discount, what="terminated")
        return
    if np.abs(difference).max() < CLEAR * width:
        return
    if apart < CLEAR and scale > 0:
        session.reward_scale = scale
        yield finding("td_target.reward_scaled", scale=scale)
    elif np.ptp(difference) < CLEAR * width:
        session.unexplained = True
        details = f"The target of a terminated transition is its reward plus {difference.mean():.3g}"
        yield finding("td_target.unexplained", bootstrap=difference, details=details)


def _is_discount(session: Session, factor: float, distance: float) -> bool:
    """Return whether a measured factor of the reward, fitted with this relative distance, is the discount and not 1."""
    gap = abs(1 - session.discount)
    return max(abs(factor - session.discount), distance) < 0.1 * gap


def _bootstraps(session: Session, agent: AgentCopy) -> bool:
    """Return whether the targets of transitions that are not terminated differ from their rewards."""
    try:
        targets = read_targets(session, agent, lambda batch: _candidates(agent, batch))
    except CannotTell:
        return False
    return not targets.all_zero


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


def check_td_target(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Explain the target by a known one, and check its next value and its discount."""
    require_varied_q(session)
    if session.routing == "loss.others_to_zero":
        raise CannotTell("the errors of the other actions also change Q(obs, action)")
    require_regression(session)
    if session.ends == "mixed":
        raise CannotTell("the terminated flag of one transition affects the targets of others")
    inverted = session.ends == "mask_inverted"
    targets = read_targets(session, agent, lambda batch: _candidates(agent, batch), inverted)
    if targets.all_zero:
        return  # check_ends reports a missing bootstrap
    fit = targets.best_fit(session.discount)
    alike = any(targets.fit(name).clear for name in targets.candidates if _fault(name))
    if fit.clear and alike and _fault(fit.name) is None:
        varied = _with_varied_actions(session, agent)  # a fault is visible only if different actions are greedy
        others = read_targets(session, varied, lambda batch: _candidates(varied, batch), inverted)
        other_fit = others.best_fit(session.discount)
        if other_fit.clear:  # otherwise a hidden target network still has the old weights
            targets, fit = others, other_fit
    off = abs(fit.factor - session.discount) > max(UNSURE, 2 * fit.distance)
    if (off or not fit.clear) and (factor := _factor_of_rewards(session, agent, targets)):
        yield finding("td_target.reward_discounted", scale=factor, discount=session.discount, what="non-terminated")
        return
    if not fit.clear:
        session.unexplained = True
        yield from _unexplained(session, agent, targets, fit)
        return
    values: dict[str, Any] = {
        "count": len(targets.bootstrap),
        "bootstrap": targets.bootstrap,
        "factor": fit.factor,
        "candidate": fit.name,
        "distance": fit.distance,
        "picture": targets.picture(session.discount),
    }
    fault = _fault(fit.name)
    if fault is not None:
        yield finding(fault, **values)
    if not off:
        return
    powers = {k: session.gamma**k for k in range(2, 21)}
    n = min(powers, key=lambda k: abs(powers[k] - fit.factor))
    declared = f"{session.gamma}" + (f" and n_step {session.n_step}" if session.n_step else "")
    if session.n_step is None and 0 < session.gamma < 1 and abs(powers[n] - fit.factor) < 5e-4:
        yield finding("td_target.n_step", **values, declared=f"{declared}, and gamma^{n} is {powers[n]:.4f}")
    elif fault not in SCALELESS:
        yield finding("td_target.gamma", **values, declared=declared)


def _factor_of_rewards(session: Session, agent: AgentCopy, targets: Targets) -> float | None:
    """Return the factor f of the reward in the target f (r + V) if it is the discount, or None.

    The neutral reward is then r* = Q / f - V, so the measured bootstrap is Q - r* = V + (1 - 1 / f) Q.
    """
    q = agent.q_taken(targets.batch)
    for name, values in targets.candidates.items():
        rest = targets.bootstrap - values
        share = float(q @ rest / (q @ q))
        distance = np.abs(rest - share * q).max() / np.abs(targets.bootstrap).max()
        if _fault(name) is None and _is_discount(session, 1 / (1 - share), float(distance)):
            return 1 / (1 - share)
    return None


def _with_varied_actions(session: Session, agent: AgentCopy) -> AgentCopy:
    """Return a copy with other weights, for which the greedy action differs between states."""
    obs = session.observations(64, 2.0)
    best, most = agent, 0
    for seed in range(VARIATIONS):
        copy = agent.copy()
        try:
            copy.change(partial(randomize, seed=seed))
        except CannotTell:
            return agent
        times = np.bincount(copy.q(obs).argmax(axis=1), minlength=session.actions)
        if (others := len(obs) - times.max()) > most:
            best, most = copy, others
    return best


def _fault(candidate: str) -> str | None:
    """Return the finding for a candidate that must not be the next value, or None."""
    return next((fault for phrase, fault in FAULTY.items() if phrase in candidate), None)


def _unexplained(session: Session, agent: AgentCopy, targets: Targets, nearest: Fit) -> Iterator[Finding | str]:
    """Explain the target by several values of Q(next_obs, a), or report it as unexplained."""
    inverted = session.ends == "mask_inverted"
    count = 3 * session.actions + 6
    more = read_targets(session, agent, lambda batch: _candidates(agent, batch), inverted, count)
    batch, bootstrap = more.batch, more.bootstrap
    next_q = (agent.target_q if agent.has("target_q_values") else agent.q)(batch.next_obs)
    if soft := _soft(next_q, bootstrap, session.discount):
        yield soft
        return
    ranked = np.sort(next_q, axis=1)[:, ::-1]
    own = next_q[np.arange(len(next_q)), batch.action]
    values = np.column_stack([ranked, own, np.ones(len(next_q))])
    shares = np.linalg.lstsq(values, bootstrap, rcond=None)[0]
    left = float(np.abs(values @ shares - bootstrap).max() / (np.abs(bootstrap).max() + 1e-12))
    if left < CLEAR:
        best, *others = shares[: session.actions]
        even = max(*np.abs(np.array(others) - others[0]), *np.abs(shares[-2:])) < 2e-3
        if even and best > others[0] > 0 and abs(shares.sum() - session.discount) < 3e-3:
            yield (
                f"the update aims at r + {best - others[0]:.3f} max + {others[0] * session.actions:.3f} mean of "
                "Q(next_obs, a), like Expected SARSA"
            )
            return
        ranks = ["the largest", "the second largest", *(f"number {rank}" for rank in range(3, session.actions + 1))]
        named = zip([*ranks[: session.actions], "that of the action taken", "1"], shares, strict=True)
        formula = " + ".join(f"{share:.3f} x {name}" for name, share in named if abs(share) > 5e-3)
        details = f"A combination of the Q-values of next_obs explains these values: {formula}"
    elif others := _other_networks(session, agent):
        yield f"the target depends on arrays that neither q_values nor target_q_values uses: {', '.join(others[:4])}"
        return
    else:
        details = (
            f"The nearest known target, {nearest.factor:.3g} times {nearest.name}, differs by {nearest.distance:.0%}"
        )
    picture = targets.picture(session.discount)
    yield finding("td_target.unexplained", bootstrap=targets.bootstrap, details=details, picture=picture)


def _soft(next_q: Array, bootstrap: Array, discount: float) -> str | None:
    """Return a description of the target if it is a log-sum-exp of Q(next_obs, a) or its mean under softmax."""
    largest = next_q.max(axis=1, keepdims=True)
    for temperature in np.geomspace(1e-3, 1e2, 600):
        weights = np.exp((next_q - largest) / temperature)
        total = weights.sum(axis=1)
        soft = largest[:, 0] + temperature * np.log(total)
        options = {
            "temperature x log(sum(exp(Q(next_obs, a) / temperature)))": soft,
            "temperature x log(mean(exp(Q(next_obs, a) / temperature)))": soft - temperature * np.log(next_q.shape[1]),
            "the mean of Q(next_obs, a) under softmax(Q / temperature)": (weights * next_q).sum(axis=1) / total,
        }
        for name, value in options.items():
            if np.abs(discount * value - bootstrap).max() < CLEAR * np.abs(bootstrap).max():
                return f"the update aims at r + {discount:.3f} x {name}, with a temperature of {temperature:.3g}"
    return None


def _other_networks(session: Session, agent: AgentCopy) -> list[str]:
    """Return the arrays that affect targets with a bootstrap, but neither ``q_values`` nor ``target_q_values``."""
    running = session.transitions(max(8, session.min_batch), terminated=False)
    ended = running._replace(terminated=np.ones_like(running.terminated))
    own = set(online(agent))
    base = response(agent, running), response(agent, ended)
    found = []
    for name in walk(agent.agent):
        if name in own:
            continue
        changed = agent.copy()
        array = walk(changed.agent)[name]
        array += 0.1 + 0.1 * np.abs(array)
        try:
            if changed.has("target_q_values") and differ(changed.target_q(running.obs), agent.target_q(running.obs)):
                continue
            if differ(base[0], response(changed, running)) and not differ(base[1], response(changed, ended)):
                found.append(name)
        except (AgentFailed, CannotTell):
            continue
    return found


def _candidates(agent: AgentCopy, batch: Transitions) -> dict[str, Array]:
    """Return candidates for the next value (B,), the correct one first."""
    rows = np.arange(len(batch.action))
    networks = {"online": (agent.q(batch.next_obs), agent.q(batch.obs))}
    if agent.has("target_q_values"):
        target = agent.target_q(batch.next_obs), agent.target_q(batch.obs)
        networks = {"target": target} | (networks if differ(target[0], networks["online"][0]) else {})
    candidates: dict[str, Array] = {}
    for network, (next_q, here) in networks.items():
        values = {
            "the largest Q(next_obs, a)": next_q.max(axis=1),
            "the mean of Q(next_obs, a)": next_q.mean(axis=1),
            "Q(next_obs, action) of the action taken at obs": next_q[rows, batch.action],
            "the smallest Q(next_obs, a)": next_q.min(axis=1),
            "the largest Q(obs, a), at obs instead of next_obs": here.max(axis=1),
            "Q(next_obs, a) of the greedy action at obs": next_q[rows, here.argmax(axis=1)],
            "the sum of Q(next_obs, a)": next_q.sum(axis=1),
            "the index of the largest Q(next_obs, a)": next_q.argmax(axis=1).astype(float),
            "the largest probability of softmax(Q(next_obs, a))": 1
            / np.exp(next_q - next_q.max(axis=1)[:, None]).sum(1),
        }
        suffix = f" of the {network} network" if len(networks) == 2 else ""
        candidates |= {f"{name}{suffix}": value for name, value in values.items()}
    if len(networks) == 2:
        choice = networks["online"][0].argmax(axis=1)
        candidates["the target network's Q of the online network's greedy action"] = networks["target"][0][rows, choice]
        choice = networks["online"][1].argmax(axis=1)
        name = "the target network's Q(next_obs, a) of the greedy action at obs of the online network"
        candidates[name] = networks["target"][0][rows, choice]
    return candidates
