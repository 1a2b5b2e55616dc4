"""Check that each transition of a batch is learned with its own action, reward, end and next_obs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.td_reading import neutral_reward, require_regression, require_varied_q
from perilune.doctor.trials import first_step
from perilune.doctor.weights import cosine, differ, negative_gradients, response

ROWS = 6  # of a mixed batch
SMALL, LARGE = 0.5, 30.0  # TD errors: below the limits of most losses, and large enough to dominate a batch
PRECISION = 2e-6  # of rewards; Adam's first step is as large for the smallest gradients as for the largest
TINY = 0.05  # TD error that no limit changes
RARE = 0.01  # smallest gradient of a row, relative to the largest
CLOSE = 0.05  # largest part of a gradient that the rows do not explain
UNEQUAL = 0.3  # largest relative difference between the shares of two rows
ALIKE = 0.9  # smallest cosine between two updates that count as the same
AGES = 3  # updates before the test: an agent that samples its own batch ignores different transitions each time


def check_batch(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check that the transitions of a batch do not affect each other, except through the mean."""
    require_varied_q(session)
    for part in (_rows, _broadcast, _other_next_obs, _mixed_ends, _single_rows):
        if session.ends == "sound" or part in (_rows, _broadcast):
            faults = list(part(session, agent))
            yield from faults
            if any(isinstance(one, Finding) for one in faults):
                return


def _broadcast(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that rewards cannot be exchanged between transitions, as they can if a (B, B) error is averaged."""
    rows = max(4, session.min_batch)
    change = largest = 0.0
    for _ in range(2):
        batch = session.transitions(rows)
        q = agent.q_taken(batch)
        # Neighbors have different errors. Their mean is not 0, even if clipped: a broadcast update would do nothing.
        errors = np.where(np.arange(rows) % 4 == 1, -3.0, 3.0)
        if session.ends in ("mask_inverted", "reward_masked"):
            batch = batch._replace(terminated=np.zeros(rows, bool))
        rewards = [q + errors, q - 3, *(np.roll(q + errors, shift) for shift in range(1, 4))]
        base, lower, *permuted = (agent.effect(batch._replace(reward=one.astype(np.float32))) for one in rewards)
        size = float(np.abs(base).max())
        if size == 0:
            raise CannotTell("no update on a batch changed Q")
        change, largest = max(change, *(float(np.abs(one - base).max()) for one in permuted)), max(largest, size)
        if change > 1e-5 * largest or 1e-5 * size > np.abs(lower - base).max():
            return
    yield finding("loss.broadcast", rows=rows, change=change, size=largest)


def _rows(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that the update depends on the reward, the action and the end of every transition."""
    rows = max(ROWS, session.min_batch)
    places = _places(rows)
    batch = _near_zero(session, agent, rows)
    ages = [agent.copy()]
    for _ in range(AGES - 1):
        ages.append(ages[-1].trained(_mixed(session, agent, rows)))

    def ignored(changes: Callable[[AgentCopy, int], Iterable[tuple[Transitions, Transitions]]]) -> list[int]:
        """Return the rows whose changes have no effect, if they are the same for an older agent."""
        found = []
        for age in ages:
            found.append(
                [
                    row
                    for row in places
                    if not any(differ(response(age, one), response(age, other)) for one, other in changes(age, row))
                ]
            )
            if not found[0]:
                return []
        if any(one != found[0] for one in found):
            raise CannotTell("each update ignores different transitions of the batch. It may sample its own batch")
        return found[0]

    def listed(rows: list[int]) -> str:
        return ", ".join(map(str, rows))

    if without := ignored(lambda age, row: _other_rewards(age, batch, row)):
        used = [row for row in places if row not in without]
        if used:
            yield finding("loss.rows_ignored", rows=rows, ignored=listed(without), used=listed(used))
        return
    if session.actions == 1 or "loss.all_actions" in session.found:  # then no action matters
        return
    if without := ignored(lambda age, row: _other_actions(session, batch, row)):
        used = [row for row in places if row not in without]
        exchanged = [batch._replace(action=np.roll(batch.action, shift)) for shift in range(1, rows)]
        if not any(differ(response(agent, batch), response(agent, other)) for other in exchanged):
            session.routing = "loss.actions_of_other_rows"
            details = (
                f"In a batch of {rows} transitions with different actions, exchanging the actions of the rows does not "
                "change the update"
            )
            yield finding("loss.actions_of_other_rows", details=details)
        elif used:  # otherwise check_gradients reports it
            details = (
                f"In a batch of {rows} transitions, changing the action of rows {listed(without)} does not change the "
                f"update. Changing the action of rows {listed(used)} does"
            )
            session.routing = "loss.wrong_action"
            yield finding("loss.wrong_action", details=details)


def _places(rows: int) -> list[int]:
    """Return the rows of a batch that are tested."""
    return sorted({0, 1, rows // 2, rows - 2, rows - 1})


def _mixed(session: Session, agent: AgentCopy, rows: int, first_ends: bool = True) -> Transitions:
    """Return transitions with random errors of one size, of which every other one is terminated."""
    batch = session.transitions(rows)
    ends = (np.arange(rows) % 2 == 0) == first_ends
    if session.ends in ("mask_inverted", "reward_masked"):
        ends[:] = False  # the rewards of terminated transitions may not matter
    batch = batch._replace(terminated=ends)
    bootstrap = session.discount * ~batch.terminated * agent.q(batch.next_obs).max(axis=1)
    error = SMALL * session.rng.choice([-1.0, 1.0], rows)
    return batch._replace(reward=(agent.q_taken(batch) - bootstrap + error).astype(np.float32))


def _near_zero(session: Session, agent: AgentCopy, rows: int) -> Transitions:
    """Return transitions with small Q, whose errors change sign even if rewards are clipped to [-1, 1]."""
    pool = session.transitions(16 * rows, terminated=session.ends in ("sound", "no_mask"))
    batch = pool.rows(np.argsort(np.abs(agent.q_taken(pool)))[:rows])
    error = SMALL * session.rng.choice([-1.0, 1.0], rows)
    return batch._replace(reward=(agent.q_taken(batch) + error).astype(np.float32))


def _with(batch: Transitions, row: int, **values: object) -> Transitions:
    """Return ``batch`` with other values in one row."""
    changed = batch.rows(slice(None))
    for name, value in values.items():
        getattr(changed, name)[row] = value
    return changed


def _other_rewards(agent: AgentCopy, batch: Transitions, row: int) -> Iterator[tuple[Transitions, Transitions]]:
    """Yield pairs of batches that differ in the reward of one row, one of them within [-1, 1] for clipped rewards."""
    reward = float(batch.reward[row])
    for low, high in ((reward - 2 * SMALL, reward + 2 * SMALL), (reward - LARGE, reward + LARGE), (-0.9, 0.9)):
        yield _with(batch, row, reward=low), _with(batch, row, reward=high)


def _other_actions(session: Session, batch: Transitions, row: int) -> Iterator[tuple[Transitions, Transitions]]:
    other = (batch.action[row] + 1) % session.actions
    for change in (0.0, 2 * SMALL, LARGE):
        rewarded = _with(batch, row, reward=batch.reward[row] + change)
        yield rewarded, _with(rewarded, row, action=other)


def _mixed_ends(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that next_obs affects the update in rows that are not terminated, and only in these."""
    rows = max(ROWS, session.min_batch)
    wrong_ended, wrong_running = [], []
    for first_ends in (True, False):
        batch = _mixed(session, agent, rows, first_ends)
        for row in _places(rows):
            # A pair of next observations with different values, and a reward between the two targets.
            options = session.observations(32, 3.0)
            values = agent.q(options).max(axis=1)
            low, high = options[values.argmin()], options[values.argmax()]
            middle = agent.q_taken(batch)[row] - session.discount * (values.min() + values.max()) / 2
            one = _with(batch, row, next_obs=low, reward=middle)
            other = _with(one, row, next_obs=high)
            matters = differ(response(agent, one), response(agent, other))
            if matters and batch.terminated[row]:
                wrong_ended.append((row, batch))
            elif not (matters or batch.terminated[row]) and _matters_alone(agent, one, other, row):
                wrong_running.append(row)
    if wrong_ended:
        row, batch = wrong_ended[0]
        flags = ", ".join("yes" if ended else "no" for ended in batch.terminated[:8])
        details = (
            f"In a batch of {rows} transitions (terminated: {flags}), changing next_obs of row {row}, which is "
            "terminated, changes the update. If all transitions are terminated, it does not"
        )
        session.ends = "mixed"
        yield finding("td_target.mask_of_another_row", details=details)
    elif wrong_running and session.gamma > 0.1:  # with a smaller one, next_obs hardly matters
        details = (
            f"In a batch of {rows} transitions, every other one is terminated. Changing next_obs of rows "
            f"{', '.join(map(str, sorted(set(wrong_running))))}, which are not terminated, does not change the update. "
            "In a batch of one, it does"
        )
        session.ends = "mixed"
        yield finding("td_target.mask_of_another_row", details=details)


def _matters_alone(agent: AgentCopy, one: Transitions, other: Transitions, row: int) -> bool:
    """Return whether two batches that differ in one row have different effects if they contain only this row."""
    return differ(response(agent, one.rows([row])), response(agent, other.rows([row])))


def _other_next_obs(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that next_obs of terminated transitions does not affect the only one that is not terminated."""
    require_regression(session)  # with batch normalization, the others have an effect
    rows = max(4, session.min_batch)
    matter = {running: _rows_that_matter(session, agent, rows, running) for running in (0, rows - 1)}
    if all(len(found) > 1 for found in matter.values()):
        yield finding("td_target.batch_axis", rows=rows, change=max(max(found.values()) for found in matter.values()))
        return
    for running, found in matter.items():
        if len(found) > 1:
            details = (
                f"In a batch of {rows} transitions, only row {running} is not terminated. Changing next_obs of rows "
                f"{', '.join(map(str, found))}, which are terminated, changes the update"
            )
            session.ends = "mixed"
            yield finding("td_target.mask_of_another_row", details=details)
            return
        if found:
            details = (
                f"In a batch of {rows} transitions, only row {running} is not terminated. Changing next_obs of row "
                f"{next(iter(found))} changes the update, but must not"
            )
            yield finding("td_target.other_row", details=details)
            return


def _rows_that_matter(session: Session, agent: AgentCopy, rows: int, running: int) -> dict[int, float]:
    """Return the changes of the update by next_obs of each other row, if only row ``running`` is not terminated."""
    batch = session.transitions(rows)
    options = session.observations(64, 4.0)
    largest = options[agent.q(options).max(axis=1).argmax()]
    q = agent.q_taken(batch)
    reward = q + 3.0
    # The error of row ``running`` changes its sign if its next value comes from another transition.
    middle = (agent.q(batch.next_obs).max() + agent.q(largest[None]).max()) / 2
    reward[running] = q[running] - session.discount * middle
    batch = batch._replace(terminated=np.arange(rows) != running, reward=reward.astype(np.float32))
    base = response(agent, batch)
    changed = {row: response(agent, _with(batch, row, next_obs=largest)) for row in _places(rows) if row != running}
    return {row: float(np.abs(one - base).max()) for row, one in changed.items() if differ(base, one)}


def _single_rows(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check that each transition trains itself: in a batch without other errors, and in equal shares with others."""
    require_regression(session)
    if session.routing != "sound":
        return
    if (
        first_step(agent) in ("damped", "inverse", "unknown")
        and negative_gradients(agent, session.transitions(1)) is None
    ):
        yield "the optimizer's steps do not reveal which transition a batch trains. Add gradients() to the adapter"
        return
    if session.min_batch > ROWS:
        yield f"errors of single transitions: train_batch needs at least {session.min_batch} transitions"
        return
    batch = session.transitions(ROWS)
    all_ended = batch._replace(reward=agent.q_taken(batch).astype(np.float32))
    batch = batch._replace(terminated=np.arange(ROWS) % 2 == 0)
    width = float(np.abs(agent.q(batch.obs)).max()) + 1
    neutral = [neutral_reward(agent, batch.rows([row]), width, PRECISION) for row in range(ROWS)]
    batch = batch._replace(reward=np.array(neutral, np.float32))
    similar = _similarity(agent, batch)
    for row in range(ROWS):
        own = similar(row, row)
        if own >= ALIKE:
            continue
        if session.ends == "sound" and _similarity(agent, all_ended)(row, row) >= ALIKE:
            details = (
                f"In a batch of {ROWS} transitions, every other one is terminated. Each has the reward for which an "
                "update on it alone changes nothing. But an update on the batch changes Q, unless all are terminated"
            )
            yield finding("td_target.other_row", details=details)
        elif session.actions > 1 and _similarity(agent, _one_action(agent, batch, row))(row, row) >= ALIKE:
            details = (
                f"In a batch of {ROWS} transitions with different actions, only row {row} has a TD error. The cosine "
                f"similarity between this update and an update on row {row} alone is {own:.2f} (1 is correct). If all "
                "transitions have the same action, the two updates agree"
            )
            yield finding("loss.actions_of_other_rows", details=details)
        else:
            best = max(range(ROWS), key=lambda other: similar(row, other))
            more = f" Its direction is that of row {best} ({similar(row, best):.2f})." if best != row else ""
            yield finding("loss.rows_mixed", rows=ROWS, row=row, cosine=own, more=more)
        return
    yield from _shares(agent, batch)


def _shares(agent: AgentCopy, batch: Transitions) -> Iterator[Finding]:
    """Check that the gradient of a batch contains the gradient of each transition in the same proportion.

    No row of ``batch`` changes Q. The errors that are added are small and positive, so that neither the loss nor a
    gradient clip changes the proportions.
    """
    batch = batch._replace(reward=batch.reward + np.float32(TINY))
    if negative_gradients(agent, batch.rows([0])) is None or agent.session.optimizer_steps > 1:
        return
    alone = np.array([response(agent, batch.rows([row])) for row in range(ROWS)])
    sizes = np.linalg.norm(alone, axis=1)
    whole = response(agent, batch)
    if sizes.min() < RARE * sizes.max():  # a row whose units are all inactive shows nothing
        return
    shares = np.linalg.lstsq(alone.T, whole, rcond=None)[0]
    explained = np.linalg.norm(shares @ alone - whole) < CLOSE * np.linalg.norm(whole)
    typical = np.median(shares)
    if explained and np.abs(shares - typical).max() > UNEQUAL * abs(typical):
        row = int(np.abs(shares - typical).argmax())
        yield finding("loss.unequal_rows", rows=ROWS, row=row, shares=shares, expected=1 / ROWS)


def _one_action(agent: AgentCopy, batch: Transitions, row: int) -> Transitions:
    """Return terminated transitions without errors whose actions are all that of ``row``."""
    batch = batch._replace(action=np.full_like(batch.action, batch.action[row]), terminated=np.ones(ROWS, bool))
    return batch._replace(reward=agent.q_taken(batch).astype(np.float32))


def _similarity(agent: AgentCopy, batch: Transitions) -> Callable[[int, int], float]:
    """Return ``similar(row, other)``: how similar an update is to one on ``other`` alone, if only ``row`` has an error.

    Without an error, no row of ``batch`` would change Q.
    """
    signs = first_step(agent) == "signs"

    @cache
    def update(row: int, alone: bool) -> Array:
        changed = _with(batch, row, reward=batch.reward[row] + SMALL)
        return response(agent, changed.rows([row]) if alone else changed)

    def similar(row: int, other: int) -> float:
        seen, alone = update(row, False), update(other, True)
        if not signs:
            return cosine(seen, alone)
        clear = np.abs(alone) > 0.05 * np.abs(alone).max()  # an optimizer such as Adam amplifies rounding elsewhere
        return cosine(np.sign(seen[clear]), np.sign(alone[clear]))

    return similar
