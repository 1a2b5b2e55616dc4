"""Check the hyperparameters by their effect on the speed at which the agent learns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune.doctor.catalogue import finding, listed
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, CannotTell, Session

UPDATES = 200  # on one batch
SOME = 20  # updates in which a speed is measured
SLOWEST = 1e5  # updates to halve an error
FADED = 0.02  # remaining share of the first speed
TRANSITIONS = 4


def check_hyperparameters(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check that updates reduce errors, neither too slowly nor only at first."""
    if session.ends != "sound":
        raise CannotTell("the target of terminated transitions is wrong, which hides other effects")
    rows = max(32, session.min_batch)
    updates = min(UPDATES, max(2, session.affordable(0.1, train_batch=1, q_values=1, state=rows)))
    yield from session.fewer(UPDATES, updates, "updates")
    trained = session.new_copy()
    fast = list(_too_fast(session, trained, rows, updates))
    yield from fast
    if updates < UPDATES:
        return
    if session.noise:
        yield "q_values returns different values for the same observations, which hides the speed of learning"
    elif not fast:
        yield from _too_slow(session)
        if "hyperparameters.fades" not in session.found:
            yield from _fades(session, trained)


def _too_fast(session: Session, agent: AgentCopy, rows: int, updates: int) -> Iterator[Finding]:
    """Check that training repeatedly on one batch reduces its error from the first update on."""
    batch = session.transitions(rows)
    goal = np.clip(session.rng.standard_normal(rows), -2, 2)
    batch = batch._replace(reward=goal.astype(np.float32))
    errors = []
    for _ in range(updates):
        errors.append(float(np.sqrt(np.mean((agent.q_taken(batch) - goal) ** 2))))
        agent.train(batch)
    first, second, last = errors[0], errors[1], float(np.mean(errors[-20:]))
    unstable = updates == UPDATES and np.abs(np.diff(errors)).max() > 0.1 * first
    if second > 1.5 * first or (unstable and last > 2 * goal.std() and last > 0.9 * first):
        values = {"first": first, "second": second, "last": last, "spread": goal.std()}
        yield finding("hyperparameters.too_fast", updates=updates, rows=rows, **values)


def _too_slow(session: Session) -> Iterator[Finding]:
    """Check how many updates halve the error of one transition."""
    agent, transition = session.new_copy(), session.transitions(1)
    early = _movement(agent, transition, SOME)
    late = early + _movement(agent, transition, UPDATES - SOME, above=1 - early) if early < 0.5 else early
    speed, growth = late / UPDATES, late / UPDATES / (early / SOME + 1e-12)
    if 0 < speed * SLOWEST < 0.5 and growth < 3:  # otherwise the learning rate or the momentum still grows
        yield finding("hyperparameters.too_slow", updates=UPDATES, moved=late, needed=0.5 / speed)


def _fades(session: Session, trained: AgentCopy) -> Iterator[Finding]:
    """Check that an agent that has learned from one batch still learns from new transitions."""
    shares = []
    for _ in range(TRANSITIONS):
        transition = session.transitions(1)
        first = _movement(session.new_copy(), transition, SOME)
        later = _movement(trained, transition, SOME)
        shares.append(later / (first + 1e-12) if first else 1.0)
        if shares[-1] > FADED:
            return
    details = (
        f"The doctor trained a new agent, and an agent after {UPDATES} updates on another batch, on {TRANSITIONS} "
        f"transitions for {SOME} updates each, with a TD error of 1. The second agent moved Q(obs, action) "
        f"{listed(shares)} times as far as the first one"
    )
    yield finding("hyperparameters.fades", details=details)


def _movement(agent: AgentCopy, transition: Transitions, updates: int, above: float = 1.0) -> float:
    """Train on one transition with a TD error of ``above``. Return how far Q(obs, action) moves."""
    q = agent.q_taken(transition)
    batch = transition._replace(reward=(q + above).astype(np.float32))
    for _ in range(updates):
        agent.train(batch)
    return float(np.abs(agent.q_taken(transition) - q)[0])
