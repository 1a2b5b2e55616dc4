"""Check the target network: its memory, its syncs, and its role in the target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.td_reading import CLEAR, read_targets, require_regression, with_error
from perilune.doctor.weights import as_named, linear, online, perturbed, target_arrays

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
    if session.unexplained:
        raise CannotTell("the target is not a known one, so it does not show which network it uses")
    yield from _roles(session, agent)


def _follows_online(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that updates move the online network only, and if not, whether the two networks share memory."""
    obs = session.observations(16)
    q, target_q = agent.q(obs), agent.target_q(obs)
    difference = np.abs(target_q - q).max()
    if difference > 1e-5 * (np.abs(target_q).max() + 1e-9) + 10 * session.noise:
        yield finding("target_network.differs_at_start", difference=difference)
    trained = agent.copy()
    _learn_fives(session, trained)  # the first update may sync
    yield from _moves_along(session, trained, obs, "")


def _moves_along(session: Session, agent: AgentCopy, obs: Array, when: str) -> Iterator[Finding]:
    """Check that two updates do not move the target network as far as the online network."""
    moves, target_moves, gaps = [], [], []
    for _ in range(2):
        before = agent.q(obs), agent.target_q(obs)
        _learn_fives(session, agent)
        moves.append(float(np.abs(agent.q(obs) - before[0]).max()))
        target_moves.append(float(np.abs(agent.target_q(obs) - before[1]).max()))
        gaps.append(float(np.abs(agent.target_q(obs) - agent.q(obs)).max()))
    if any(own <= 0.3 * move for own, move in zip(target_moves, moves, strict=True)):
        return
    if shared := _shared_arrays(agent):
        details = (
            f"{when}Updates changed the online network's Q-values by {listed(moves)}, and those of the target network "
            f"by {listed(target_moves)}. These arrays of the two networks share memory: {shared}"
        )
        yield finding("target_network.shared", details=details)
    elif _follows_perturbation(agent, obs):
        details = (
            f"{when}Updates changed the online network's Q-values by {listed(moves)}, and those of the target network "
            f"by {listed(target_moves)}. A change to the online network's weights changes both"
        )
        yield finding("target_network.shared", details=details)
    elif all(gap < 0.02 * move for gap, move in zip(gaps, moves, strict=True)):
        details = (
            f"Updates without a sync changed Q by {listed(moves)}, but afterwards, the two networks differ by only "
            f"{listed(gaps)}"
        )
        yield finding("target_network.every_update", details=details)


def _shared_arrays(agent: AgentCopy) -> str:
    """Return the names of parameters of the online and the target network that share memory."""
    if not agent.has("parameters", "target_parameters"):
        return ""
    online, target = (as_named(agent.call(name)) for name in ("parameters", "target_parameters"))
    pairs = [(one, other) for one in online for other in target if np.shares_memory(online[one], target[other])]
    return ", ".join(f"{one} and {other}" for one, other in pairs)


def _follows_perturbation(agent: AgentCopy, obs: Array) -> bool:
    """Return whether a change to the online network's weights also changes the target network's Q-values."""
    try:
        apart = perturbed(agent, 0)
    except CannotTell:
        return False
    moved = np.abs(apart.target_q(obs) - agent.target_q(obs)).max()
    return bool(moved > 0.5 * np.abs(apart.q(obs) - agent.q(obs)).max())


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
        return
    if left * gap <= 10 * session.noise:
        left = 0.0  # the networks differ by their noise only
    if left > 1e-4 and (parts := _parts_left(agent)):
        copied, kept = parts
        yield finding("target_network.partly_synced", left=left, copied=copied, kept=kept)
        return
    if 1e-4 < left < 0.4:
        yield finding("target_network.tau_reversed", gap=gap, moved=moved, left=left)
    faults = list(_moves_along(session, apart, obs, "After a sync: "))
    yield from (fault for fault in faults if fault.id == "target_network.shared")


def _parts_left(agent: AgentCopy) -> tuple[str, str] | None:
    """Return which arrays of the target network a sync copies and which it does not, or None if it treats all alike."""
    apart = perturbed(agent, 2)
    try:
        target = target_arrays(apart)
    except CannotTell:
        return None
    before = {name: array.copy() for name, array in target.items()}
    goal = {name: array.copy() for name, array in online(apart).items()}
    apart.sync()
    after = target_arrays(apart)
    shares: dict[str, float] = {}
    for (name, start), end in zip(before.items(), goal.values(), strict=False):
        if start.shape != end.shape or name not in after or not np.abs(end - start).max():
            return None
        shares[name] = float(np.sum((after[name] - start) * (end - start)) / np.sum((end - start) ** 2))
    kept = [name for name, share in shares.items() if share < 0.01 * max(shares.values())]
    if len(before) != len(goal) or not kept or len(kept) == len(shares):
        return None
    copied = [name for name in shares if name not in kept]
    return ", ".join(copied), ", ".join(kept)


def _roles(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
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
    if name == ONLINE and session.start and linear(agent):
        yield "the agent has no target network, which is usual for linear agents whose weights start at 0"
    elif name in faults:
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
