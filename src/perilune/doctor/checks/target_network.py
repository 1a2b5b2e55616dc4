"""Check the target network: its memory, its syncs, and its role in the target."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.td_reading import CLEAR, read_targets, require_regression, with_error
from perilune.doctor.weights import as_named, perturbed

ONLINE = "the online network's largest Q(next_obs, a)"
TARGET = "the target network's largest Q(next_obs, a)"
DOUBLE = "the target network's Q of the online network's greedy action"
SWAPPED = "the online network's Q of the target network's greedy action"


def check_target_network(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check what changes the target network, what a sync does, and which network the target uses."""
    if agent.has("target_q_values"):
        found = list(_follows_online(session, agent))
        yield from found
        if any(one.id == "target_network.shared" for one in found):
            return
    if agent.has("target_q_values", "sync_target"):
        yield from _sync(session, agent)
    require_regression(session)
    yield from _roles(session, agent)


def _follows_online(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that the target network stays fixed when only the online network should change."""
    obs = session.observations(16)
    if agent.has("parameters", "target_parameters"):
        online, target = (as_named(agent.call(name)) for name in ("parameters", "target_parameters"))
        pairs = [(one, other) for one in online for other in target if np.shares_memory(online[one], target[other])]
        if pairs:
            names = ", ".join(f"{one} and {other}" for one, other in pairs)
            details = f"These arrays of the online and the target network share memory: {names}"
            yield finding("target_network.shared", details=details)
            return
    q, target_q = agent.q(obs), agent.target_q(obs)
    difference = np.abs(target_q - q).max()
    if difference > 1e-5 * (np.abs(target_q).max() + 1e-9) + 10 * session.noise:
        yield finding("target_network.differs_at_start", difference=difference)
    with contextlib.suppress(CannotTell):
        apart = perturbed(agent, 0)
        moved, expected = np.abs(apart.target_q(obs) - target_q).max(), np.abs(apart.q(obs) - q).max()
        if moved > 0.5 * expected:
            details = (
                f"A change to the online network's weights changes its Q-values by {expected:.3g}, and those of the "
                f"target network by {moved:.3g}"
            )
            yield finding("target_network.shared", details=details)
            return
    trained = agent.copy()
    gaps, moves = [], []
    for _ in range(3):
        last = trained.q(obs)
        _learn_fives(session, trained)
        gaps.append(float(np.abs(trained.target_q(obs) - trained.q(obs)).max()))
        moves.append(float(np.abs(trained.q(obs) - last).max()))
    if all(gap < 0.02 * move for gap, move in zip(gaps[1:], moves[1:], strict=True)):  # the first update may sync
        details = (
            f"Updates without a sync changed Q by {listed(moves)}, but afterwards, the two networks differ by only "
            f"{listed(gaps)}"
        )
        yield finding("target_network.every_update", details=details)


def _learn_fives(session: Session, agent: AgentCopy) -> None:
    batch = session.transitions(max(8, session.min_batch))
    agent.train(batch._replace(reward=batch.reward + 5))


def _sync(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check that a sync moves the target network all the way to the online network, or a small part of it."""
    obs = session.observations(16)
    try:
        apart = perturbed(agent, 1)
    except CannotTell:
        apart = agent.copy()
        for _ in range(20):
            _learn_fives(session, apart)
    online, target = apart.q(obs), apart.target_q(obs)
    gap = np.abs(online - target).max()
    if gap < 1e-6:
        yield "the two networks are equal, so the effect of sync_target() is unknown"
        return
    apart.sync()
    after = apart.target_q(obs)
    change = np.abs(apart.q(obs) - online).max()
    if change > 1e-6 * gap + 10 * session.noise:
        yield finding("target_network.backwards", change=change)
        return
    left, moved = np.abs(online - after).max() / gap, np.abs(after - target).max() / gap
    if moved == 0:
        yield finding("target_network.never_synced", gap=gap, moved=moved, left=left)
    elif 1e-4 < left < 0.4:
        yield finding("target_network.tau_reversed", gap=gap, moved=moved, left=left)


def _roles(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Change only the online network, and find which network's values are in the target."""
    # This update changes no weight. It is the first one, which may sync.
    idle = agent.trained(with_error(agent, session.transitions(1), 0.0))
    apart = perturbed(idle, 2)

    def candidates(batch: Transitions) -> dict[str, Array]:
        rows = np.arange(len(batch.action))
        online = apart.q(batch.next_obs)
        target = apart.target_q(batch.next_obs) if apart.has("target_q_values") else idle.q(batch.next_obs)
        return {
            TARGET: target.max(axis=1),
            DOUBLE: target[rows, online.argmax(axis=1)],
            ONLINE: online.max(axis=1),
            SWAPPED: online[rows, target.argmax(axis=1)],
        }

    targets = read_targets(session, apart, candidates)
    fit = targets.best_fit(session.discount)
    if not fit.clear:
        raise CannotTell(targets.described(fit))
    name, factor, distance = fit
    faults = {ONLINE: "target_network.none", SWAPPED: "td_target.double_swapped"}
    if name in faults:
        picture = targets.picture(session.discount) if name == ONLINE else None
        yield finding(faults[name], factor=factor, candidate=name, distance=distance, picture=picture)
    elif not agent.has("target_q_values"):
        yield from _synced_inside(session, agent)


def _synced_inside(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check, without target_q_values, that two updates do not sync the target network."""
    batch = session.transitions(max(8, session.min_batch))
    # This update changes no weight, so the optimizer has no momentum. The first update may sync, which is fine.
    idle = agent.trained(with_error(agent, batch, 0.0))
    apart = perturbed(idle, 3)
    for _ in range(2):
        apart.train(with_error(apart, batch, 0.0))

    def candidates(batch: Transitions) -> dict[str, Array]:
        return {TARGET: idle.q(batch.next_obs).max(axis=1), ONLINE: apart.q(batch.next_obs).max(axis=1)}

    targets = read_targets(session, apart, candidates)
    _, factor, distance = targets.fit(ONLINE)
    old_factor = targets.fit(TARGET).factor
    if distance < 2 * CLEAR and abs(factor - session.discount) < 0.02 <= abs(old_factor - session.discount):
        details = (
            "Two updates after the doctor changed the online network's weights, an update moves Q toward r + "
            f"{factor:.3f} times {ONLINE}, within {distance:.1%}"
        )
        yield finding("target_network.every_update", details=details)
