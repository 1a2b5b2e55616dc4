"""ALIAS, SYNC, and the two networks' roles in the target: which chooses the next action, and which judges it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import networks, pushes
from perilune.doctor.catalogue import found, listed
from perilune.doctor.checks.td import CLEAR, Targets, against, best_fit, fit, read_targets, regression
from perilune.doctor.report import Finding, NotRun
from perilune.doctor.ward import CannotTell, Case, Ward

ONLINE = "the online network's largest Q(next_obs, a)"
TARGET = "the target network's largest Q(next_obs, a)"
DOUBLE = "the target network's Q of the action that the online network likes best"
SWAPPED = "the online network's Q of the action that the target network likes best"


def check(ward: Ward) -> Iterator[Finding | NotRun]:
    case = ward.fresh()
    if case.has("target_q_values"):
        follows = list(_follows(ward, case))
        yield from follows
        if any(finding.id == "target_network.shared" for finding in follows):
            return
    if case.has("target_q_values", "sync_target"):
        yield from _sync(ward, case)
    regression(ward)
    yield from roles(ward, case)


def _follows(ward: Ward, case: Case) -> Iterator[Finding]:
    """Does the target network move when only the online network should?"""
    obs = ward.states(16)
    poked = case.copy()
    if case.has("parameters", "target_parameters"):
        online, target = (networks.as_named(poked.call(name)) for name in ("parameters", "target_parameters"))
        both = [(one, other) for one in online for other in target if np.shares_memory(online[one], target[other])]
        if both:
            said = ", ".join(f"{one} and {other}" for one, other in both)
            yield found("target_network.shared", f"of the online and the target network share their memory: {said}")
            return
    before = poked.target_q(obs)
    online_before = poked.q(obs)
    if np.abs(before - online_before).max() > 1e-5 * (np.abs(before).max() + 1e-9) + 10 * ward.noise:
        yield found(
            "target_network.differs_at_start",
            f"of a new agent the two networks' Q-values differ by up to {np.abs(before - online_before).max():.3g}",
        )
    try:
        poked.change(lambda case: networks.shake(case, 0))
    except CannotTell:
        pass
    else:
        moved, wanted = np.abs(poked.target_q(obs) - before).max(), np.abs(poked.q(obs) - online_before).max()
        if moved > 0.5 * wanted:
            yield found(
                "target_network.shared",
                f"changing the online network's weights changes the target network's Q by {moved:.3g} at once, and "
                f"the online network's by {wanted:.3g}",
            )
            return
    trained = case.copy()
    gaps, moves = [], []
    for _ in range(3):
        batch = ward.transitions(max(8, ward.rows))
        last = trained.q(obs)
        trained.train(batch._replace(reward=batch.reward + 5))
        gaps.append(float(np.abs(trained.target_q(obs) - trained.q(obs)).max()))
        moves.append(float(np.abs(trained.q(obs) - last).max()))
    if all(gap < 0.02 * move for gap, move in zip(gaps[1:], moves[1:], strict=True)):  # the first one may sync
        yield found(
            "target_network.every_update",
            f"after updates, without a sync, the target network's Q is the online network's to {listed(gaps)}; the "
            f"updates moved it by {listed(moves)}",
        )


def _sync(ward: Ward, case: Case) -> Iterator[Finding | NotRun]:
    """A sync takes the target network to the online network, or a small part of the way there."""
    obs = ward.states(16)
    apart = case.copy()
    try:
        apart.change(lambda case: networks.shake(case, 1))
    except CannotTell:
        for _ in range(20):
            batch = ward.transitions(max(8, ward.rows))
            apart.train(batch._replace(reward=batch.reward + 5))
    online, target = apart.q(obs), apart.target_q(obs)
    gap = np.abs(online - target).max()
    if gap < 1e-6:
        yield NotRun("target network", "sync_target() does not show where the two networks cannot be told apart")
        return
    apart.sync()
    after, still = apart.target_q(obs), apart.q(obs)
    if np.abs(still - online).max() > 1e-6 * gap + 10 * ward.noise:
        yield found(
            "target_network.backwards",
            f"sync_target() moves the online network's Q by {np.abs(still - online).max():.3g}",
        )
        return
    left = np.abs(online - after).max() / gap
    moved = np.abs(after - target).max() / gap
    said = (
        f"the networks' Q were {gap:.3g} apart; sync_target() moved the target network by {moved:.2%} of that, and "
        f"left {left:.2%}"
    )
    if moved == 0:
        yield found("target_network.never_synced", said)
    elif 1e-4 < left < 0.4:
        yield found("target_network.tau_reversed", said)


def roles(ward: Ward, case: Case) -> Iterator[Finding]:
    """With the online network shaken and the target network not, whose values does an update aim at?"""
    still = case.copy()
    still.train(pushes.towards(still, ward.transitions(1), 0.0))  # nothing to learn; but the first update may sync
    apart = still.copy()
    apart.change(lambda case: networks.shake(case, 2))

    def candidates(obs: Array) -> dict[str, Array]:
        rows = np.arange(len(obs))
        online = apart.q(obs)
        target = apart.target_q(obs) if apart.has("target_q_values") else still.q(obs)
        return {
            TARGET: target.max(axis=1),
            DOUBLE: target[rows, online.argmax(axis=1)],
            ONLINE: online.max(axis=1),
            SWAPPED: online[rows, target.argmax(axis=1)],
        }

    targets: Targets = read_targets(ward, apart, lambda batch: candidates(batch.next_obs))
    name, factor, off = best_fit(targets, candidates(targets.transitions.next_obs))
    if off > CLEAR:
        raise CannotTell(
            f"with the networks apart the update aims at none of the targets known here; {name} is {off:.0%} off"
        )
    said = (
        f"with the online network's weights changed and the target network's not, the update aims at r + {factor:.3f} "
        f"times {name}, to {off:.1%}"
    )
    right = ward.gamma ** (ward.n_step or 1) * candidates(targets.transitions.next_obs)[TARGET]
    if name == ONLINE:
        yield found("target_network.none", said, picture=against(targets, right))
    elif name == SWAPPED:
        yield found("td_target.double_swapped", said)
    elif not case.has("target_q_values"):
        yield from _synced_inside(ward, case)


def _synced_inside(ward: Ward, case: Case) -> Iterator[Finding]:
    """Of a target network that cannot be asked: do two updates in a row take it to where the online network is?"""
    still = case.copy()
    batch = ward.transitions(max(8, ward.rows))
    # Nothing is to be learned, so that no momentum is left over; but the first update may sync, and be in order.
    still.train(pushes.towards(still, batch, 0.0))
    apart = still.copy()
    apart.change(lambda case: networks.shake(case, 3))
    for _ in range(2):
        apart.train(pushes.towards(apart, batch, 0.0))

    def candidates(obs: Array) -> dict[str, Array]:
        return {TARGET: still.q(obs).max(axis=1), ONLINE: apart.q(obs).max(axis=1)}

    targets = read_targets(ward, apart, lambda batch: candidates(batch.next_obs))
    fits = {name: fit(targets, values) for name, values in candidates(targets.transitions.next_obs).items()}
    discounts = {name: abs(factor - ward.gamma ** (ward.n_step or 1)) < 0.02 for name, (factor, _) in fits.items()}
    factor, off = fits[ONLINE]
    if off < 2 * CLEAR and discounts[ONLINE] and not discounts[TARGET]:
        yield found(
            "target_network.every_update",
            f"two updates after the online network's weights were changed, the update aims at r + {factor:.3f} times "
            f"{ONLINE}, to {off:.1%}",
        )
