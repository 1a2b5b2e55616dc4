"""The loss against its own derivative, at many sizes of the TD error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import networks, pushes
from perilune.doctor.balance import still_reward
from perilune.doctor.catalogue import found, listed
from perilune.doctor.checks.td import regression
from perilune.doctor.optimizers import Steps
from perilune.doctor.patient import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.responses import Known, known_weight, response
from perilune.doctor.ward import CannotTell, Case, PatientFailed, Ward

ERRORS = np.array([0.1, 0.3, 0.6, 1.5, 3.0, 10.0, 30.0])
DOUBLED = np.array([0.06, 0.12, 0.25, 0.45, 0.7, 0.95, 1.8, 4.0, 9.0])  # as a rule, delta is 1
BEFORE = 6  # updates with the single error
CLOSE = 0.01  # how well a step is told, in units of the first


def check(ward: Ward) -> Iterator[Finding]:
    """Against the stated loss where there is one; else against what the derivatives of losses have in common."""
    regression(ward)
    case = ward.fresh()
    dead = list(_clipped_away(ward, case))
    if dead:
        yield from dead
    elif case.has("loss", "gradients"):
        yield from _stated(ward, case)
    else:
        yield from _growth(ward, case)


def _clipped_away(ward: Ward, case: Case) -> Iterator[Finding]:
    """An error that is clipped inside the loss has the derivative 0 beyond the limit."""
    transition = ward.transitions(1)
    aimed = pushes.aim(case, transition)
    moves = []
    for error in DOUBLED:
        trained = case.copy()
        trained.train(pushes.towards(case, transition, float(error), aimed))
        moves.append(np.abs(trained.q(transition.obs) - case.q(transition.obs)).max())
    if moves[0] > 0 and moves[-2] == moves[-1] == 0:
        yield found(
            "loss.clipped_away", f"updates with TD errors of {listed(DOUBLED)} move Q(obs) by {listed(np.array(moves))}"
        )


def _stated(ward: Ward, case: Case) -> Iterator[Finding]:
    """d loss / d reward, by differences, against how hard the gradients push."""
    transition = ward.transitions(1)
    aimed = pushes.aim(case, transition)
    base = pushes.gradient_push(case, pushes.towards(case, transition, ERRORS[0], aimed))
    if base is None:
        raise CannotTell("gradients() is not laid out like parameters()")
    direction = pushes.joined(base)
    slopes = pushes.slopes(case, transition.obs)
    slope = np.concatenate([slope.slope[:, transition.action[0]] for slope in slopes.values()])
    stated, pushed = [], []
    for error in (*-ERRORS, *ERRORS):
        batch = pushes.towards(case, transition, float(error), aimed)
        step = 0.01 * abs(error)
        up, down = (
            _loss(case, batch._replace(reward=(batch.reward + shift).astype(np.float32))) for shift in (step, -step)
        )
        stated.append((up - down) / (2 * step))
        push = pushes.gradient_push(case, batch) or {}
        sampled = np.concatenate([push[name].reshape(-1)[places] for name, (places, _) in slopes.items()])
        pushed.append(float(sampled @ slope / (slope @ slope)))
    if not direction.any() or not np.all(stated):
        raise CannotTell("the loss does not depend on the reward, or not on all: are rewards clipped?")
    ratio = np.array(pushed) / np.array(stated)
    if np.ptp(ratio) > 0.05 * np.abs(ratio).max():
        yield found(
            "loss.derivative",
            f"the gradient is {listed(ratio[len(ERRORS) :])} times the derivative of loss() at TD errors of "
            f"{listed(ERRORS)}, and {listed(ratio[: len(ERRORS)])} times at minus these",
        )


def _growth(ward: Ward, case: Case) -> Iterator[Finding]:
    """Twice the error must push at least as hard, and at most twice as hard: squared, Huber's and others all do so.

    An optimiser that normalises its steps hides how hard a single push is, but not how much harder than those before.
    """
    steps = ward.facts.get("steps")
    if steps is None:
        raise CannotTell("without loss() and gradients() it takes an optimiser that is known here")
    weight = known_weight(ward, case)

    def grown(error: float, times: float, due: Array) -> tuple[bool, float, Array]:
        """Whether an error of ``times`` the size of those before makes a step that a gradient ``due`` times makes."""
        seen = response(case, weight, [error] * BEFORE + [times * error])
        step = float(seen[-1] / seen[0])
        made = np.concatenate([_steps_after(steps, first, due) for first in (error, min(error, 1.0))])
        return bool(np.abs(made - step).min() < CLOSE), step, made

    wrong = []
    for error in DOUBLED:
        fits, step, made = grown(error, 2.0, np.linspace(1, 2, 50))
        # And not because the updates between have changed the agent too much: the same error again must fit.
        if not fits and grown(error, 1.0, np.ones(1))[0]:
            wrong.append(
                f"after {BEFORE} updates with a TD error of {error:g} one of {2 * error:g} makes a step {step:.3g} "
                f"times as long as the first; {made.min():.3g} to {made.max():.3g} are due"
            )
    if wrong:
        _rewards_reach(ward, case, weight)
        yield found("loss.derivative", "; ".join(wrong))


def _rewards_reach(ward: Ward, case: Case, weight: Known) -> None:
    """Rewards that are clipped cannot make an error large, and to clip them is no fault.

    Raises:
        CannotTell: no reward holds a Q(obs, action) that was set to 5.
    """
    transition = weight.transition._replace(terminated=np.full(1, pushes.aim(case, weight.transition).terminated))

    def rise(case: Case) -> None:
        place = np.unravel_index(weight.place, networks.online(case)[weight.name].shape)
        before = case.q(transition.obs)[0, 0]
        networks.online(case)[weight.name][place] += 1
        slope = case.q(transition.obs)[0, 0] - before
        networks.online(case)[weight.name][place] += (5 - before - slope) / slope

    high = case.copy()
    high.change(rise)
    try:
        still_reward(high, transition, 1.0)
    except CannotTell as reason:
        raise CannotTell(f"rewards are clipped on their way into the target: {reason}") from reason


def _steps_after(steps: Steps, first: float, sizes: Array) -> Array:
    """The steps, in units of the first, that are made of a gradient ``sizes``[K] times as large as those before."""
    made = [steps(np.array([first] * BEFORE + [first * size])) for size in sizes]
    return np.array([step[-1] / step[0] for step in made])


def _loss(case: Case, batch: Transitions) -> float:
    value = case.copy().array("loss", *(np.array(column) for column in batch))
    if value.size != 1:
        raise PatientFailed("loss", f"gave shape {list(value.shape)}; a number is wanted")
    return float(value.reshape(-1)[0])
