"""API, PURE: are the answers of the right shape, the same alone as in a batch, and is what was given left alone?"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import found, listed
from perilune.doctor.patient import Transitions
from perilune.doctor.pointing import raised_at
from perilune.doctor.report import Finding
from perilune.doctor.ward import Case, NotFinite, PatientFailed, Ward

ROWS = (1, 2, 8, 32, 64, 128, 256)
MOST_CALLS = 64
STATES = 8  # some may lie where nothing can move


class CannotExamine(Exception):  # noqa: N818 -- a verdict, not an error of ours
    """Without this nothing can be examined; the reason is told to the user."""


def admit(ward: Ward) -> Iterator[Finding]:
    """Learn the patient's size, actions, smallest batch and noise, and whether deep copies are true ones."""
    patient = _made(ward)
    case = Case(ward, patient)
    yield from _forward(ward, case)
    yield from _training(ward)
    yield from _waiting(ward)
    _choose_copies(ward)


def _made(ward: Ward) -> Any:
    try:
        patient = ward.make()
    except PatientFailed as failure:
        raise CannotExamine(str(failure)) from failure
    missing = [name for name in ("q_values", "train_batch") if not callable(getattr(patient, name, None))]
    missing += [name for name in ("gamma", "observation_size") if not hasattr(patient, name)]
    if missing:
        raise CannotExamine(
            f"what the factory gave, a {type(patient).__name__}, lacks {', '.join(missing)}: a patient needs gamma, "
            "observation_size, q_values(obs) and train_batch(obs, action, reward, next_obs, terminated)"
        )
    size, gamma = patient.observation_size, patient.gamma
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise CannotExamine(f"observation_size = {size!r} is not allowed: a whole number >= 1")
    if isinstance(gamma, bool) or not isinstance(gamma, Real) or not 0 <= float(gamma) <= 1:
        raise CannotExamine(f"gamma = {gamma!r} is not allowed: a number from 0 to 1")
    ward.size, ward.gamma = int(size), float(gamma)
    ward.n_step = getattr(patient, "n_step", None)
    if ward.n_step is not None and (not isinstance(ward.n_step, int | np.integer) or ward.n_step < 1):
        raise CannotExamine(f"n_step = {ward.n_step!r} is not allowed: a whole number >= 1, or none at all")
    return patient


def _forward(ward: Ward, case: Case) -> Iterator[Finding]:
    obs = ward.states(7)
    given = obs.copy()
    try:
        values = case.array("q_values", given)
    except PatientFailed as failure:
        said = f"q_values(obs) with obs of shape {list(obs.shape)} and dtype float32: {failure}"
        yield found("forward.raises", said, raised_at(failure.error))
        raise CannotExamine("q_values raises") from failure
    if values.ndim != 2 or len(values) != len(obs) or values.dtype.kind not in "fiu":
        yield found(
            "forward.shape",
            f"q_values(obs) gave shape {list(values.shape)} and dtype {values.dtype} for obs of shape "
            f"{list(obs.shape)}; [7, number of actions] is wanted",
        )
        raise CannotExamine("q_values gives no table [N, A]")
    ward.actions = values.shape[1]
    if not np.isfinite(values).all():
        yield found("numerics.not_finite", f"{(~np.isfinite(values)).sum()} of {values.size} Q-values of a new agent")
        raise CannotExamine("q_values are not finite")
    if not np.array_equal(given, obs):
        yield found(
            "forward.changes_input",
            f"after q_values(obs), {(given != obs).sum()} of the {obs.size} numbers in the array that was given "
            f"have changed, by up to {np.abs(given - obs).max():.3g}",
        )
    values = values.astype(np.float64)
    ward.noise = float(np.abs(case.array("q_values", obs.copy()) - values).max())
    if ward.noise == 0:
        yield from _alone(case, obs, values)
    else:
        yield from _remembers(ward)


def _alone(case: Case, obs: Array, values: Array) -> Iterator[Finding]:
    alone = np.concatenate([case.q(row[None]) for row in obs])
    off = np.abs(alone - values).max()
    if off > 1e-3 * (np.abs(values).max() + 1e-6):
        row = int(np.abs(alone - values).max(axis=1).argmax())
        yield found(
            "forward.batch_differs",
            f"Q of state {row} alone is {listed(alone[row])}, in a batch of {len(obs)} it is {listed(values[row])}",
        )


def _remembers(ward: Ward) -> Iterator[Finding]:
    """Noise draws the same whatever the last state was; what is left over from that state does not."""
    obs, answers = ward.states(1), []
    for last in (obs, ward.states(1, 5.0)):
        case = Case(ward, ward.make())
        case.q(last)
        answers.append(case.q(obs))
    off = np.abs(answers[0] - answers[1]).max()
    if off > 1e-5 * np.abs(answers[0]).max():
        yield found(
            "forward.remembers",
            f"Q of the same state differs by {off:.3g} with the state that was asked about before it",
        )


def _training(ward: Ward) -> Iterator[Finding]:
    """Find the smallest batch that train_batch takes, and see that it leaves what it is given alone."""
    failure: PatientFailed | None = None
    for rows in ROWS:
        case = Case(ward, ward.make())
        batch = Transitions(*(np.repeat(column, rows, axis=0) for column in ward.transitions(1)))
        given = Transitions(*(column.copy() for column in batch))
        try:
            case.call("train_batch", *given)
            case.q(batch.obs)
        except PatientFailed as error:
            failure = failure or error
            continue
        except NotFinite:
            pass
        ward.rows = rows
        changed = [name for name, old, new in zip(batch._fields, batch, given, strict=True) if not _same(old, new)]
        if changed:
            yield found("forward.changes_input", f"train_batch changes the {' and '.join(changed)} that it is given")
        return
    place = None if failure is None else raised_at(failure.error)
    yield found("loss.raises", f"with batches of 1 to 256 transitions: {failure}", place)
    raise CannotExamine("train_batch raises")


def _waiting(ward: Ward) -> Iterator[Finding]:
    """Find what it takes until something is learned: train_batch may collect transitions, or gradients."""
    asked = [*((rows, 1) for rows in ROWS if rows >= ward.rows), (ward.rows, MOST_CALLS), (ROWS[-1], 8)]
    for rows, calls in np.repeat(asked, STATES, axis=0).tolist():
        case = Case(ward, ward.make())
        one = ward.transitions(1)
        batch = Transitions(*(np.repeat(column, rows, axis=0) for column in one))
        before = case.q(one.obs)
        batch = batch._replace(reward=(before[0, batch.action] + 0.3).astype(np.float32))  # no clipping takes it away
        for call in range(1, calls + 1):
            case.call("train_batch", *(column.copy() for column in batch))
            if not np.array_equal(case.q(one.obs), before):
                ward.rows, ward.calls = rows, call
                return
    yield found(
        "loss.no_update",
        f"{MOST_CALLS} calls of train_batch on a terminated transition whose reward lies 0.3 above Q(obs, action), and "
        f"8 on a batch of {ROWS[-1]} such, leave Q(obs) as it was to the last digit, and so in {STATES} states",
    )


def _choose_copies(ward: Ward) -> None:
    """Deep copies if they are true: equal, apart from each other, and each learning what the original would."""
    obs, batch = ward.states(16), ward.transitions(16)  # some of them lie where something can move
    batch = batch._replace(reward=batch.reward + 7)
    ward.deep = False
    made, again = ward.fresh(), ward.fresh()
    repeatable = np.array_equal(made.q(obs), again.q(obs))
    again.train(batch)
    learned = again.q(obs)
    ward.deep = True
    try:
        original = Case(ward, made.patient)
        before = original.q(obs)
        first, second = original.copy(), original.copy()
        equal = np.allclose(first.q(obs), before, atol=3 * ward.noise)
        first.train(batch)
        moved = not np.array_equal(first.q(obs), before) or np.array_equal(learned, before)
        apart = np.allclose(original.q(obs), before, atol=3 * ward.noise)
        second.train(batch)
        alike = np.array_equal(first.q(obs), second.q(obs)) or ward.noise > 0
        if repeatable and ward.noise == 0:
            moved = moved and np.allclose(second.q(obs), learned)
    except Exception:  # whatever stops a copy being made, the factory can make one
        equal = False
        moved = apart = alike = False
    ward.deep = equal and moved and apart and alike
    if not ward.deep and not repeatable:
        raise CannotExamine(
            "deepcopy makes no true copy of this agent, and the factory makes a different one each time: "
            "let the factory take a seed, or seed NumPy's and torch's generators in it"
        )


def _same(old: Array, new: Array) -> bool:
    return old.shape == new.shape and np.array_equal(old, new)
