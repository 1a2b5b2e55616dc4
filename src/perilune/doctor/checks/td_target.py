"""BISECT: what an update aims at, against reward + gamma (1 - terminated) max_a Q_target(next_obs, a)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.balance import still_reward
from perilune.doctor.catalogue import found, listed
from perilune.doctor.patient import Transitions
from perilune.doctor.report import Finding, Points
from perilune.doctor.ward import CannotTell, Case, Ward

UNSURE = 5e-3  # of the largest bootstrap: how well it can be read
CLEAR = 0.01  # up to where a candidate is what the update aims at


class Targets(NamedTuple):
    """What updates on transitions aimed at: ``bootstrap``[K] = Q(obs, action) - still reward, in units of return."""

    transitions: Transitions
    bootstrap: Array


def check(ward: Ward) -> Iterator[Finding]:
    """The discount, and what stands for the value of next_obs."""
    speaks(ward)
    if ward.facts.get("routing") == "loss.others_to_zero":
        raise CannotTell("the other actions' errors move Q(obs, action) too")
    regression(ward)
    yield from _bootstrap(ward, ward.fresh())


def regression(ward: Ward) -> None:
    """An update that has nothing to learn leaves Q alone: a terminated transition whose reward is Q(obs, action).

    Raises:
        CannotTell: it does not. A distribution is learned, or a regularised or noisy target, and what Q alone shows
            of the update is no measure of it.
    """
    if "regression" not in ward.facts:
        ward.facts["regression"] = _why_no_regression(ward)
    if ward.facts["regression"]:
        raise CannotTell(ward.facts["regression"])


def _why_no_regression(ward: Ward) -> str:
    if ward.facts.get("ends", "sound") != "sound" or ward.facts.get("routing", "sound") != "sound":
        return ""  # a fault, told elsewhere, has its share in it
    case = ward.fresh()
    batch = ward.transitions(3)
    q = case.q(batch.obs)[np.arange(3), batch.action]
    width = float(np.abs(q).max()) + 1e-3
    try:
        still = np.array([still_reward(case, batch.rows([row]), width) for row in range(3)])
    except CannotTell as reason:
        return f"no reward leaves Q(obs, action) of a terminated transition where it is: {reason}"
    if np.abs(still - q).max() < 0.01 * width:
        return ""
    scale = float(still @ q / (still @ still))
    if np.abs(scale * still - q).max() < 0.01 * width:
        return f"the update multiplies rewards by {scale:.3g}: let the patient take rewards as its network sees them"
    return (
        f"terminated transitions leave Q(obs, action) alone at rewards of {listed(still)}, while Q is {listed(q)}: "
        "the update is no plain regression of Q on a number (a distribution, noise, or a regularised target)"
    )


def speaks(ward: Ward) -> None:
    """Raises CannotTell where Q is the same everywhere, so that updates cannot show what they aim at."""
    q = ward.fresh().q(ward.states(32))
    if np.ptp(q) <= 1e-9 + 10 * ward.noise:
        raise CannotTell(f"Q is {q[0, 0]:.4g} for every state and action of a new agent, so that no target shows")


# Differences: two updates that must come to the same, or must not


def ends(ward: Ward) -> Iterator[Finding]:
    """After a terminated transition comes nothing: next_obs has no say, and the reward has one."""
    speaks(ward)
    case = ward.fresh()
    count = 4 * ward.actions
    base = ward.transitions(count)
    other = base._replace(next_obs=ward.states(count, 3.0))
    terminal = running = 0.0
    # Where the errors of the two updates differ in sign, even Adam's first step differs: the rewards are put between.
    for between in _between(ward, case, base, other):
        one, two = base._replace(reward=between), other._replace(reward=between)
        terminal = max(terminal, _effect(case, one, two))
        running = max(running, _effect(case, _running(one), _running(two)))
    rewarded = rewarded_running = least = 0.0
    for reward in (0.3, 3.0, 100.0):  # larger ones where it takes them: there a loss may overflow, or be clipped away
        poor, rich = (base._replace(reward=np.full(count, sign * reward, np.float32)) for sign in (-1, 1))
        rewarded = max(rewarded, _effect(case, poor, rich))
        rewarded_running = max(rewarded_running, _effect(case, _running(poor), _running(rich)))
        least = 1e-4 * max(terminal, running, rewarded, rewarded_running)
        if min(rewarded, rewarded_running) > least:
            break
    if least == 0:
        raise CannotTell("neither reward nor next_obs changes what an update does")
    said = (
        f"another next_obs changes what an update does to Q by {terminal:.3g} where terminated is true and by "
        f"{running:.3g} where it is false; another reward by {rewarded:.3g} and {rewarded_running:.3g}"
    )
    if terminal > least and running <= least:
        ward.facts["ends"] = "mask_inverted"
        yield found("td_target.mask_inverted", said)
    elif terminal > least:
        if terminal < running / 2:  # without a mask they are the same
            raise CannotTell("after terminated transitions next_obs matters a little: in statistics of observations?")
        _is_bootstrap(ward, case)
        ward.facts["ends"] = "no_mask"
        yield found("td_target.no_mask", said)
    elif running <= least and ward.gamma > 0:
        yield found("td_target.no_bootstrap", said)
    if rewarded <= least < rewarded_running:
        ward.facts["ends"] = "reward_masked"
        yield found("td_target.reward_masked", said)
    elif max(rewarded, rewarded_running) <= least:
        yield found("td_target.no_reward", said)


def _is_bootstrap(ward: Ward, case: Case) -> None:
    """Statistics of next_obs, too, make a difference after a terminated transition; a bootstrap follows its values.

    Raises:
        CannotTell: what the update aims at does not.
    """
    batch = ward.transitions(6, scale=3.0)
    q = case.q(batch.obs)[np.arange(6), batch.action]
    width = float(np.abs(q).max()) + 1
    try:
        bootstrap = np.array([q[row] - still_reward(case, batch.rows([row]), width) for row in range(6)])
    except CannotTell as reason:
        raise CannotTell(f"after terminated transitions next_obs matters, and not as a bootstrap: {reason}") from reason
    if not any(np.corrcoef(bootstrap, values)[0, 1] > 0.7 for values in _candidates(case, batch).values()):
        raise CannotTell("after terminated transitions next_obs matters, and not as a bootstrap: by its statistics?")


def _between(ward: Ward, case: Case, base: Transitions, other: Transitions) -> Iterator[Array]:
    q = case.q(base.obs)[np.arange(len(base.action)), base.action]
    one, two = case.q(base.next_obs), case.q(other.next_obs)
    for middle in (one.max(axis=1) + two.max(axis=1), one.mean(axis=1) + two.mean(axis=1), one.max() + two.max()):
        yield (q - ward.gamma * middle / 2).astype(np.float32)


def _running(batch: Transitions) -> Transitions:
    return batch._replace(terminated=np.zeros_like(batch.terminated))


def _effect(case: Case, one: Transitions, other: Transitions) -> float:
    """How differently two batches change Q on their own states: the largest difference."""
    first, second = case.copy(), case.copy()
    first.train(one)
    second.train(other)
    return float(np.abs(first.q(one.obs) - second.q(one.obs)).max())


# Values: the bootstrap itself


def _bootstrap(ward: Ward, case: Case) -> Iterator[Finding]:
    running = ward.facts.get("ends") != "mask_inverted"
    targets = read_targets(ward, case, lambda batch: _candidates(case, batch), terminated=not running)
    name, discount, off = best_fit(targets, _candidates(case, targets.transitions))
    if off > CLEAR:
        raise CannotTell(
            f"what the update aims at, r + {listed(targets.bootstrap)}, is none of the targets that are known here; "
            f"the closest is {discount:.3g} times {name}, off by {off:.0%}"
        )
    said = (
        f"on {len(targets.bootstrap)} transitions the update leaves Q(obs, action) alone at r = Q - "
        f"{listed(targets.bootstrap)}; {discount:.4f} times {name} is that to {off:.1%}"
    )
    picture = against(
        targets, ward.gamma ** (ward.n_step or 1) * next(iter(_candidates(case, targets.transitions).values()))
    )
    _no_mixture(ward, case, targets)
    if name in FAULTY:
        yield found(FAULTY[name], said, picture=picture)
    for finding in _discount(ward, discount, off, said):
        yield replace(finding, picture=picture)


def _no_mixture(ward: Ward, case: Case, targets: Targets) -> None:
    """Expected SARSA of an epsilon-greedy policy aims at gamma ((1 - epsilon) max + epsilon mean), and is sound."""
    largest, mean, *_ = _candidates(case, targets.transitions).values()
    both = np.stack([largest, mean], axis=1)
    shares = np.linalg.lstsq(both, targets.bootstrap, rcond=None)[0]
    off = np.abs(both @ shares - targets.bootstrap).max() / np.abs(targets.bootstrap).max()
    if off < 1e-3 and min(shares) > 0.01 and abs(shares.sum() - ward.gamma ** (ward.n_step or 1)) < 2e-3:
        raise CannotTell(
            f"the update aims at r + {shares[0]:.3f} max + {shares[1]:.3f} mean of Q(next_obs, a): SARSA's"
        )


FAULTY = {
    "the mean of Q(next_obs, a)": "td_target.mean",
    "Q(next_obs, action), of the action taken before": "td_target.own_action",
    "the least of Q(next_obs, a)": "td_target.min",
    "the largest Q(obs, a), of obs instead of next_obs": "td_target.same_state",
}


def _candidates(case: Case, batch: Transitions) -> dict[str, Array]:
    rows = np.arange(len(batch.action))
    next_q = case.q(batch.next_obs)
    candidates = {
        "the largest Q(next_obs, a)": next_q.max(axis=1),
        "the mean of Q(next_obs, a)": next_q.mean(axis=1),
        "Q(next_obs, action), of the action taken before": next_q[rows, batch.action],
        "the least of Q(next_obs, a)": next_q.min(axis=1),
        "the largest Q(obs, a), of obs instead of next_obs": case.q(batch.obs).max(axis=1),
    }
    if case.has("target_q_values"):
        candidates["the target network's largest Q(next_obs, a)"] = case.target_q(batch.next_obs).max(axis=1)
    return candidates


def _discount(ward: Ward, discount: float, off: float, said: str) -> Iterator[Finding]:
    wanted = ward.gamma ** (ward.n_step or 1)
    if abs(discount - wanted) <= max(UNSURE, 2 * off):
        return
    powers = {k: ward.gamma**k for k in range(2, 21)}
    n = min(powers, key=lambda k: abs(powers[k] - discount))
    if ward.n_step is None and 0 < ward.gamma < 1 and abs(powers[n] - discount) < 5e-4:
        yield found("td_target.n_step", f"{said}; gamma is {ward.gamma}, and gamma^{n} = {powers[n]:.4f}")
    else:
        yield found(
            "td_target.gamma", f"{said}; gamma is {ward.gamma}" + (f", n_step {ward.n_step}" * bool(ward.n_step))
        )


def read_targets(
    ward: Ward, case: Case, candidates: Callable[[Transitions], dict[str, Array]], terminated: bool = False
) -> Targets:
    """The bootstraps of transitions that tell the first candidate from each of the others: two for each pair."""
    pool = ward.transitions(60 * ward.actions, terminated, scale=2.0)
    wanted, *rivals = candidates(pool).values()
    rows = sorted({int(row) for rival in rivals for row in np.argsort(np.abs(rival - wanted))[-2:]})
    batch = pool.rows(rows)
    values = case.q(batch.obs)[np.arange(len(rows)), batch.action]
    width = float(np.abs(wanted).max() + np.abs(values).max()) + 1e-6
    bootstrap = np.array([values[row] - still_reward(case, batch.rows([row]), width) for row in range(len(rows))])
    return Targets(batch, bootstrap)


def against(targets: Targets, right: Array) -> Points:
    """The picture of what updates aim at."""
    return Points(
        "what an update adds to the reward",
        "expected: gamma times the next value",
        "found: Q(obs, action) less the reward that moves nothing",
        right,
        targets.bootstrap,
        right,
    )


def fit(targets: Targets, values: Array) -> tuple[float, float]:
    """The number that takes ``values`` nearest to the bootstraps, and the relative distance that is left."""
    factor = float(targets.bootstrap @ values / (values @ values + 1e-30))
    off = np.abs(targets.bootstrap - factor * values).max() / (np.abs(targets.bootstrap).max() + 1e-12)
    return factor, float(off)


def best_fit(targets: Targets, candidates: dict[str, Array]) -> tuple[str, float, float]:
    """The candidate that, times one number, is nearest to the bootstraps: name, number, relative distance.

    Where others are no nearer than a bootstrap can be read, the first gets the benefit of the doubt.
    """
    fits = [(name, *fit(targets, values)) for name, values in candidates.items()]
    best = min(fits, key=lambda one: one[2])
    return fits[0] if fits[0][2] < best[2] + UNSURE else best
