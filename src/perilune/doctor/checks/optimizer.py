"""OPT: gradients that are known, against the steps that the optimiser makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import networks, optimizers, pushes
from perilune.doctor.catalogue import found, listed
from perilune.doctor.checks.backward import TRIALS, trial
from perilune.doctor.checks.td import regression
from perilune.doctor.patient import Transitions
from perilune.doctor.report import Finding, NotRun
from perilune.doctor.responses import known_weight, response
from perilune.doctor.ward import CannotTell, Case, Ward

# TD errors that are trained on in turn, in units of return: small, so that no clipping sets in, then smaller, then
# the other way. What follows are errors of 0, and the steps must fade.
ERRORS = np.array([0.05] * 8 + [0.005] * 4 + [-0.05] * 4)
SILENCE = 60
CLOSE = 0.01  # relative distance at which steps are those of a known optimiser


def check(ward: Ward) -> Iterator[Finding | NotRun]:
    case = ward.fresh()
    kind = pushes.stepping(case)
    if kind == "inverse":
        yield from _inverse(case)
        return
    yield from _unequal(ward, case)
    yield from _copies(ward, case)
    regression(ward)
    weight = known_weight(ward, case)
    steps = response(case, weight, [*ERRORS, *np.zeros(SILENCE)])
    yield from _fading(steps)
    yield from _known(ward, steps[: len(ERRORS)], CLOSE if weight.exact else 4 * CLOSE)


def _inverse(case: Case) -> Iterator[Finding]:
    transition = case.ward.transitions(1)
    small, large = (
        np.linalg.norm(pushes.joined(pushes.step(case, pushes.towards(case, transition, error))))
        for error in (0.05, 0.5)
    )
    yield found(
        "optimizer.no_root",
        f"a TD error of 0.05 makes a first step of length {small:.3g}, ten times that error one of {large:.3g}",
    )


def _unequal(ward: Ward, case: Case) -> Iterator[Finding]:
    """Where an optimiser normalises, its first step has one size in every array; weight decay's is far smaller."""
    if pushes.stepping(case) != "signs":
        return
    for seed in range(TRIALS):
        one = trial(ward, case, seed)
        sizes = {}
        for name, move in one.step.items():
            moved = np.abs(move[np.abs(move) > 0.05 * np.abs(move).max()])
            if moved.size:
                sizes[name] = (float(np.quantile(moved, 0.1)), float(np.quantile(moved, 0.9)))
        usual = float(np.median([high for _, high in sizes.values()]))
        odd = {
            name: size
            for name, size in sizes.items()
            if np.ptp(size) > 0.1 * usual
            and not _damped(one.step[name].reshape(-1), one.slopes[name], one.action, usual)
        }
        if odd and len(odd) < len(sizes):
            if max(high for _, high in odd.values()) < 1.05 * usual:
                regression(ward)  # or several steps in one update, some of them back
            said = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in odd.items())
            yield found(
                "optimizer.moments_shared",
                f"a first step is {usual:.3g} for every weight of the other arrays; here it differs: {said}",
            )
            return


def _damped(step: Array, slopes: pushes.Slope, action: int, usual: float) -> bool:
    """Whether steps fall short as epsilon makes them: lr g / (g + epsilon), so that g (lr / step - 1) is constant."""
    moved, slope = np.abs(step[slopes.places]), np.abs(slopes.slope[:, action])
    short = (moved > 0.1 * usual) & (moved < 0.97 * usual)
    if not short.any() or moved.max() > 1.02 * usual:
        return False
    epsilon = slope[short] * (usual / moved[short] - 1)
    low, middle, high = np.quantile(epsilon, [0.2, 0.5, 0.8])
    return bool(high - low < 0.3 * middle)


def _copies(ward: Ward, case: Case) -> Iterator[Finding | NotRun]:
    """A batch of eight equal transitions must do what one does: the loss is a mean, and there is one step a batch."""
    if ward.rows > 1:
        yield NotRun("optimiser", f"whether a batch is summed or averaged: train_batch takes no fewer than {ward.rows}")
        return
    transition = ward.transitions(1)
    for error in (0.05, 10.0):
        one = pushes.towards(case, transition, error)
        eight = Transitions(*(np.repeat(column, 8, axis=0) for column in one))
        ratio = _ratio(pushes.step(case, one), pushes.step(case, eight))
        said = f"eight equal transitions in a batch make a step {ratio:.2f} times as long as one transition does"
        if abs(ratio - 8) < 0.02 and pushes.stepping(case) == "proportional":
            yield found("loss.sum", said)
            return
        if ratio > 2:
            yield found("optimizer.step_per_sample", said)
            return
    # Adam hides a sum in the place of a mean; the gradients themselves, where they are given, do not.
    single, many = pushes.gradient_push(case, one), pushes.gradient_push(case, eight)
    if single is None or many is None:
        if pushes.stepping(case) == "signs":
            yield NotRun(
                "optimiser", "whether a batch is summed or averaged: steps like Adam's hide it without gradients()"
            )
    elif abs((ratio := _ratio(single, many)) - 8) < 0.02:
        yield found("loss.sum", f"eight equal transitions in a batch make gradients {ratio:.2f} times those of one")


def _ratio(one: networks.Named, other: networks.Named) -> float:
    single, many = pushes.joined(one), pushes.joined(other)
    return float(single @ many / (single @ single + 1e-300))


def _fading(steps: Array) -> Iterator[Finding]:
    """Once there is no error any more the steps must fade: else gradients add up from update to update."""
    late, end = np.abs(steps[-21]), np.abs(steps[-1])
    alike = np.sign(steps[-20:])
    if end > 0.2 * np.abs(steps[: len(ERRORS)]).max() and end > 0.97 * late and abs(alike.sum()) == len(alike):
        yield found(
            "backward.accumulates",
            f"after {SILENCE} updates with a TD error of 0 the weights still move by {end:.3g} an update, as by "
            f"{late:.3g} twenty updates before",
        )


def _known(ward: Ward, steps: Array, close: float) -> Iterator[Finding]:
    """Whose steps are these? What is found out is kept, as ``ward.facts["steps"]``."""
    if steps[0] == 0:
        raise CannotTell("the first update does not move the bias of the output")
    shape = steps / steps[0]
    off, name, ward.facts["steps"] = min(
        ((_distance(shape, reference), name, reference) for name, reference in optimizers.sound()), key=_first
    )
    if off < close:
        return
    broken_off, finding, words, ward.facts["steps"] = min(
        ((_distance(shape, reference), finding, words, reference) for finding, words, reference in optimizers.broken()),
        key=_first,
    )
    if broken_off < close:
        yield found(
            f"optimizer.{finding}",
            f"for a constant gradient the steps are {listed(shape[:8])} times the first; those of {words} to "
            f"{broken_off:.1%}, while the nearest sound optimiser, {name}, is {off:.0%} off",
        )
    else:
        del ward.facts["steps"]
        raise CannotTell(
            f"steps of {listed(shape[:8])} times the first for a constant gradient are of no optimiser that is known "
            f"here; the nearest is {name}, {off:.0%} off"
        )


def _first(row: tuple[Any, ...]) -> float:
    return float(row[0])


def _distance(shape: Array, reference: optimizers.Steps) -> float:
    steps = reference(ERRORS)
    return float(np.abs(shape - steps / steps[0]).max() / np.abs(shape).max())
