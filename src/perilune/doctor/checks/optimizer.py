"""Check the steps that the optimizer makes of known gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.gradients import TRIALS, Slope, first_step, joined, negative_gradients, trial, weight_step
from perilune.doctor.parameters import Named
from perilune.doctor.report import Finding, NotRun
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.step_response import Steps, correct_optimizers, faulty_optimizers, measured_steps, probe_weight
from perilune.doctor.td_reading import require_regression, with_error

# TD errors trained on in turn, in units of return: small, so that no clipping sets in, then smaller, then negative.
# Errors of 0 follow, after which the steps must fade.
ERRORS = np.array([0.05] * 8 + [0.005] * 4 + [-0.05] * 4)
IDLE_UPDATES = 60
CLOSE = 0.01  # largest relative distance at which steps match a known optimizer


def check_optimizer(session: Session) -> Iterator[Finding | NotRun]:
    """Check the reduction over the batch, forgotten or shared state, and the rule of the optimizer."""
    agent = session.new_copy()
    if first_step(agent) == "inverse":
        transition = session.transitions(1)
        small, large = (
            np.linalg.norm(joined(weight_step(agent, with_error(agent, transition, error)))) for error in (0.05, 0.5)
        )
        yield finding("optimizer.no_root", small=small, large=large)
        return
    yield from _unequal_first_steps(session, agent)
    yield from _equal_rows(session, agent)
    require_regression(session)
    weight = probe_weight(session, agent)
    steps = measured_steps(agent, weight, [*ERRORS, *np.zeros(IDLE_UPDATES)])
    yield from _fading(steps)
    yield from _known_rule(session, steps[: len(ERRORS)], CLOSE if weight.exact else 4 * CLOSE)


def _unequal_first_steps(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """The first step of a normalizing optimizer has the same size in every array. That of weight decay is smaller."""
    if first_step(agent) != "signs":
        return
    for seed in range(TRIALS):
        one = trial(session, agent, seed)
        sizes = {}
        for name, step in one.step.items():
            moved = np.abs(step[np.abs(step) > 0.05 * np.abs(step).max()])
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
                require_regression(session)  # or one update makes several steps, some of them backwards
            arrays = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in odd.items())
            yield finding("optimizer.moments_shared", usual=usual, arrays=arrays)
            return


def _damped(step: Array, slopes: Slope, action: int, usual: float) -> bool:
    """Return whether epsilon makes steps short: lr g / (g + epsilon), so that g (lr / step - 1) is constant."""
    moved, slope = np.abs(step[slopes.places]), np.abs(slopes.slope[:, action])
    short = (moved > 0.1 * usual) & (moved < 0.97 * usual)
    if not short.any() or moved.max() > 1.02 * usual:
        return False
    low, middle, high = np.quantile(slope[short] * (usual / moved[short] - 1), [0.2, 0.5, 0.8])
    return bool(high - low < 0.3 * middle)


def _equal_rows(session: Session, agent: AgentCopy) -> Iterator[Finding | NotRun]:
    """A batch of eight identical transitions must have the effect of one: a mean, and one step per batch."""
    if session.min_batch > 1:
        yield NotRun("", f"sum or mean over the batch: train_batch takes no fewer than {session.min_batch} transitions")
        return
    transition = session.transitions(1)
    for error in (0.05, 10.0):
        one = with_error(agent, transition, error)
        eight = one.repeat(8)
        ratio = _ratio(weight_step(agent, one), weight_step(agent, eight))
        if abs(ratio - 8) < 0.02 and first_step(agent) == "proportional":
            yield finding("loss.sum", what="step", ratio=ratio)
            return
        if ratio > 2:
            yield finding("optimizer.step_per_sample", ratio=ratio)
            return
    # Adam's steps hide a sum in place of a mean. The agent's own gradients do not.
    single, many = negative_gradients(agent, one), negative_gradients(agent, eight)
    if single is None or many is None:
        if first_step(agent) == "signs":
            yield NotRun("", "sum or mean over the batch: steps like Adam's hide it; add gradients() to the adapter")
    elif abs((ratio := _ratio(single, many)) - 8) < 0.02:
        yield finding("loss.sum", what="gradient", ratio=ratio)


def _ratio(one: Named, other: Named) -> float:
    single, many = joined(one), joined(other)
    return float(single @ many / (single @ single + 1e-300))


def _fading(steps: Array) -> Iterator[Finding]:
    """Without an error the steps must fade. Otherwise gradients accumulate from update to update."""
    earlier, last = np.abs(steps[-21]), np.abs(steps[-1])
    signs = np.sign(steps[-20:])
    if last > 0.2 * np.abs(steps[: len(ERRORS)]).max() and last > 0.97 * earlier and abs(signs.sum()) == len(signs):
        yield finding("backward.accumulates", updates=IDLE_UPDATES, last=last, earlier=earlier)


def _known_rule(session: Session, steps: Array, close: float) -> Iterator[Finding]:
    """Find the optimizer that makes these steps, and keep it in ``session.optimizer``."""
    if steps[0] == 0:
        raise CannotTell("the first update does not move the bias of the output")
    shape = steps / steps[0]

    def distance(reference: Steps) -> float:
        expected = reference(ERRORS)
        return float(np.abs(shape - expected / expected[0]).max() / np.abs(shape).max())

    right_off, right, session.optimizer = min(
        ((distance(reference), name, reference) for name, reference in correct_optimizers()), key=lambda one: one[0]
    )
    if right_off < close:
        return
    wrong_off, name, wrong, reference = min(
        ((distance(reference), name, words, reference) for name, words, reference in faulty_optimizers()),
        key=lambda one: one[0],
    )
    session.optimizer = reference if wrong_off < close else None
    if session.optimizer is None:
        raise CannotTell(
            f"for a constant gradient the steps are {listed(shape[:8])} times the first, which matches no known "
            f"optimizer; the nearest is {right}, {right_off:.0%} off"
        )
    yield finding(
        f"optimizer.{name}", steps=shape[:8], wrong=wrong, distance=wrong_off, right=right, right_distance=right_off
    )
