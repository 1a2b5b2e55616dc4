"""Compare the optimizer's steps for known gradients with those of optimizers from the literature.

The reference equations are independent of ``perilune.nn.optimizers``, because the doctor also examines Perilune's own
agents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, product
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, CannotTell, Session, Steps
from perilune.doctor.td_reading import aim, require_regression, with_error
from perilune.doctor.trials import COORDINATES, Trial, first_step, first_trials, q_slopes, slopes_at
from perilune.doctor.weights import (
    flat,
    is_vector,
    linear,
    negative_gradients,
    online,
    received_gradients,
    weight_step,
)

# TD errors to train on in turn, in units of return: first too small to be clipped, then smaller, then negative. Then
# errors of 0 follow, for which the steps must fade.
LOW, HIGH = 0.005, 0.05
ERRORS = np.array([HIGH] * 8 + [LOW] * 4 + [-HIGH] * 4)
IDLE_UPDATES = 60
STATES = 8
LION_BETAS = ((0.9, 0.99), (0.95, 0.98))
ALMOST_0 = 0.01  # share of the first learning rate
CLOSE = 0.01  # largest relative distance at which steps match a known optimizer


def _decayed_sum(values: Array, decay: float) -> Array:
    """Return s (K,) with s_k = decay s_(k-1) + values_k."""
    return np.array(list(accumulate(values, lambda total, value: decay * total + value)))


def momentum(gradients: Array, decay: float, nesterov: bool = False) -> Array:
    """Return the steps of SGD with momentum: v = decay v + g; the step is v, or g + decay v (Nesterov)."""
    v = _decayed_sum(gradients, decay)
    return gradients + decay * v if nesterov else v


def rmsprop(gradients: Array, decay: float, epsilon: float, centered: bool = False) -> Array:
    """Return the steps of RMSProp: v = decay v + (1 - decay) g^2; the step is g / (sqrt(v) + epsilon).

    If ``centered``, v - mean(g)^2 replaces v.
    """
    v = (1 - decay) * _decayed_sum(gradients**2, decay)
    if centered:
        v = np.maximum(v - ((1 - decay) * _decayed_sum(gradients, decay)) ** 2, 0)
    return np.asarray(gradients / (np.sqrt(v) + epsilon))


def adam(
    gradients: Array,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    count: tuple[int, int] = (1, 1),
    correct: tuple[bool, bool] = (True, True),
    root: bool = True,
) -> Array:
    """Return the steps of Adam (Kingma and Ba, arXiv:1412.6980).

    ``count``: start of the counter t and its increment per update; ``correct``: whether m and v are bias-corrected;
    ``root``: whether the step is divided by the square root of v, or by v.
    """
    t = count[0] + count[1] * np.arange(len(gradients))
    m = (1 - beta1) * _decayed_sum(gradients, beta1) / (1 - beta1**t if correct[0] else 1)
    v = (1 - beta2) * _decayed_sum(gradients**2, beta2) / (1 - beta2**t if correct[1] else 1)
    return np.asarray(m / ((np.sqrt(v) if root else v) + epsilon))


def half_rooted_adam(gradients: Array, beta2: float, epsilon: float) -> Array:
    """Return the steps of Adam that takes the square root of the bias correction of v, but not of v."""
    t = np.arange(1, len(gradients) + 1)
    steps = adam(gradients, beta2=beta2, epsilon=epsilon, correct=(True, False), root=False)
    return np.asarray(steps * np.sqrt(1 - beta2**t))


def lion(gradients: Array, beta1: float = 0.9, beta2: float = 0.99) -> Array:
    """Return the steps of Lion (Chen et al., arXiv:2302.06675): the sign of beta1 m + (1 - beta1) g."""
    m = (1 - beta2) * _decayed_sum(gradients, beta2)
    return np.asarray(np.sign(beta1 * np.concatenate([[0.0], m[:-1]]) + (1 - beta1) * gradients))


def correct_optimizers() -> Iterator[tuple[str, str, Steps]]:
    """Yield correct optimizers: "" (no finding), name, and function that returns the steps."""
    for decay in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99):
        yield "", f"SGD with momentum {decay}", partial(momentum, decay=decay)
        yield "", f"SGD with Nesterov momentum {decay}", partial(momentum, decay=decay, nesterov=True)
    for epsilon in (1e-10, 1e-8, 1e-6, 1e-5, 1.5e-4, 1e-3, 1e-2):
        for beta1, beta2 in product((0.9, 0.0, 0.5, 0.8, 0.95, 0.99), (0.999, 0.9, 0.95, 0.98, 0.99, 0.995, 0.9999)):
            yield "", f"Adam with betas {beta1}, {beta2}", partial(adam, beta1=beta1, beta2=beta2, epsilon=epsilon)
        for decay in (0.9, 0.95, 0.99, 0.995, 0.999):
            yield "", f"RMSProp with decay {decay}", partial(rmsprop, decay=decay, epsilon=epsilon)
            yield (
                "",
                f"centered RMSProp with decay {decay}",
                partial(rmsprop, decay=decay, epsilon=epsilon, centered=True),
            )
    yield "", "Adagrad", lambda gradients: gradients / (np.sqrt(np.cumsum(gradients**2)) + 1e-10)


def faulty_optimizers() -> Iterator[tuple[str, str, Steps]]:
    """Yield optimizers with common faults: name of the finding, name, and function that returns the steps."""
    for beta2 in (0.999, 0.99, 0.95):
        wrong = partial(adam, beta2=beta2)
        yield "no_bias_correction", "Adam without bias correction", partial(wrong, correct=(False, False))
        yield "no_bias_correction", "Adam with m uncorrected", partial(wrong, correct=(False, True))
        yield "no_bias_correction", "Adam with v uncorrected", partial(wrong, correct=(True, False))
        for epsilon in (1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4):
            yield "no_root", "Adam without the square root of v", partial(wrong, epsilon=epsilon, root=False)
            yield (
                "no_root",
                "Adam without the square root of v",
                partial(half_rooted_adam, beta2=beta2, epsilon=epsilon),
            )
        yield "counter", "Adam with a counter that stays at 1", partial(wrong, count=(1, 0))
        yield "counter", "Adam with a counter that starts at 2", partial(wrong, count=(2, 1))
        for arrays in range(2, 13):
            name = f"Adam with a counter that grows by {arrays} per update"
            yield from (("counter", name, partial(wrong, count=(place, arrays))) for place in range(1, arrays + 1))
    yield "no_memory", "an optimizer that is created in every update", np.sign


def _clipped(gradients: Array, steps: Steps, limit: float) -> Array:
    return steps(np.clip(gradients, -limit, limit))


def clipping_optimizers() -> Iterator[tuple[str, str, Steps]]:
    """Yield optimizers of gradients that are clipped by value: "", the limit, and function that returns the steps."""
    known: list[Steps] = [
        partial(momentum, decay=decay, nesterov=both) for decay in (0.0, 0.9) for both in (False, True)
    ]
    known += [partial(adam, beta2=beta2) for beta2 in (0.999, 0.99, 0.95)]
    known += [partial(rmsprop, decay=decay, epsilon=1e-8) for decay in (0.9, 0.95, 0.99)]
    for limit in np.geomspace(LOW, HIGH, 230):
        yield from (("", f"{limit}", partial(_clipped, steps=steps, limit=limit)) for steps in known)


class ProbeWeight(NamedTuple):
    """A weight of action 0's output, whose gradient is the TD error."""

    transition: Transitions  # the transition that trains the weight
    name: str  # name of its array
    place: int  # flat index in the array
    exact: bool  # whether it is a bias, so that its gradient is exactly the TD error

    def value(self, agent: AgentCopy) -> float:
        """Return the weight."""
        return float(online(agent)[self.name].flat[self.place])


def probe_weight(session: Session, agent: AgentCopy) -> ProbeWeight:
    """Find a weight whose gradient depends on the TD error only. Raise CannotTell if no such weight exists.

    The gradient of the output bias is the TD error. The gradient of another output weight is the TD error times the
    input of that weight, which changes while earlier layers learn. An optimizer that normalizes its steps hides most of
    this change.
    """
    outputs = {name for one in first_trials(session, agent) for name in one.single_output_arrays()}
    for _ in range(STATES if outputs else 0):  # in some states, no unit of the last hidden layer is active
        # Small observations keep the other gradients small, so that clipping by norm has less effect.
        transition = session.transitions(1, scale=0.3)._replace(action=np.zeros(1, np.int64))
        step = weight_step(agent, with_error(agent, transition, 1.0))
        found = []
        for name, slopes in q_slopes(agent, transition.obs, wanted=outputs.__contains__).items():
            slope = np.abs(slopes.slope[:, 0])
            exact = is_vector(step[name])
            if slopes.single_output and step[name].any() and slope.any() and (exact or first_step(agent) == "signs"):
                found.append(ProbeWeight(transition, name, int(slopes.places[slope.argmax()]), exact))
        if found:
            return next((one for one in reversed(found) if one.exact), found[0])
    raise CannotTell("the last layer has no bias or other weight whose gradient is the TD error")


def measured_steps(agent: AgentCopy, weight: ProbeWeight, errors: Sequence[float] | Array) -> Array:
    """Return the steps (K,) of the weight while its transition is trained with these TD errors (K,) in turn."""
    aimed = _, bootstrap = aim(agent, weight.transition)
    trained = agent.copy()
    values = [weight.value(trained)]
    for error in errors:
        trained.train(with_error(trained, weight.transition, float(error), aimed))
        values.append(weight.value(trained))
    if agent.session.ends != "sound":
        drift = float(np.abs(aim(trained, weight.transition)[1] - bootstrap).max())
        if drift > 0.1 * np.abs(errors).max():
            raise CannotTell(f"the targets of terminated transitions changed by {drift:.3g} while the agent learned")
    return np.diff(values)


def check_optimizer(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check that updates average over the batch, that the optimizer keeps its state per array, and its update rule."""
    if first_step(agent) == "inverse":
        require_regression(session)
        transition = session.transitions(1)
        both = [flat(weight_step(agent, with_error(agent, transition, error))) for error in (0.05, 0.5)]
        small, large = np.linalg.norm(both, axis=1)
        details = (
            f"For a TD error of 0.05, the weights change by {small:.3g}. For an error ten times as large, they change "
            f"less, by {large:.3g}"
        )
        yield finding("optimizer.no_root", details=details)
        return
    yield from _unequal_first_steps(session, agent)
    yield from _equal_rows(session, agent)
    require_regression(session)
    weight = probe_weight(session, agent)
    errors = np.concatenate([ERRORS, np.zeros(IDLE_UPDATES)])
    steps = measured_steps(agent, weight, errors)
    for betas in LION_BETAS:
        if steps[0] and np.abs(steps / steps[0] - lion(errors, *betas)).max() < 0.05:
            session.optimizer = partial(lion, beta1=betas[0], beta2=betas[1])
            return
    earlier, last = np.abs(steps[[-21, -1]])
    one_sign = abs(np.sign(steps[-20:]).sum()) == 20
    if last > 0.2 * np.abs(steps[: len(ERRORS)]).max() and last > 0.97 * earlier and one_sign:  # steps must fade
        yield finding("backward.accumulates", updates=IDLE_UPDATES, last=last, earlier=earlier)
    yield from _known_rule(agent, weight, steps[: len(ERRORS)])


def _unequal_first_steps(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that the first step of an optimizer like Adam has the same size in every array."""
    if first_step(agent) != "signs" or session.not_regression:
        return
    for one in first_trials(session, agent):
        sizes = {}
        for name, step in one.step.items():
            moved = np.abs(step[np.abs(step) > 0.05 * np.abs(step).max()])
            if moved.size:
                sizes[name] = np.quantile(moved, [0.1, 0.9])
        usual = float(np.median([high for _, high in sizes.values()]))
        odd = {
            name: size
            for name, size in sizes.items()
            if np.ptp(size) > 0.1 * usual and not _damped(agent, one, name, usual)
        }
        if odd and len(odd) < len(sizes):
            if max(high for _, high in odd.values()) < 1.05 * usual:
                require_regression(session)  # otherwise one update may take several steps, some of them backwards
            arrays = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in odd.items())
            yield finding("optimizer.moments_shared", usual=usual, arrays=arrays)
            return


def _damped(agent: AgentCopy, one: Trial, name: str, usual: float) -> bool:
    """Return whether epsilon shortens the steps: with lr g / (g + epsilon), g (lr / step - 1) is constant."""
    moved = np.abs(one.step[name]).reshape(-1)
    short = np.flatnonzero((moved > 0.1 * usual) & (moved < 0.97 * usual))
    if not short.size or moved.max() > 1.02 * usual:
        return False
    places = np.random.default_rng(0).permutation(short)[:COORDINATES]
    slopes = slopes_at(agent, one.obs, {name: places})[name]
    if not slopes.places.size:
        return False
    slope = np.abs(slopes.slope[:, one.action])
    low, middle, high = np.quantile(slope * (usual / moved[slopes.places] - 1), [0.2, 0.5, 0.8])
    return bool(high - low < 0.3 * middle)


def _equal_rows(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check that a batch of eight identical transitions has the effect of one: a mean, and one step per batch."""
    if getattr(agent.agent, "online", False):
        return
    if session.min_batch > 1:
        needed = f"train_batch needs at least {session.min_batch} transitions"
        yield f"{needed}, so the doctor cannot tell whether updates sum or average over the batch"
        return
    transition = session.transitions(1)
    for error in (0.05, 10.0):
        one = with_error(agent, transition, error)
        eight = one.repeat(8)
        ratio = _ratio(weight_step(agent, one), weight_step(agent, eight))
        if ratio > 2 and not _as_many_steps(agent, one, eight):
            if abs(ratio - 8) < 0.02 and first_step(agent) == "proportional":
                yield finding("loss.sum", what="step", ratio=ratio)
            elif linear(agent):
                yield "the update takes a step for each transition, which is usual for linear and tabular agents"
            else:
                yield finding("optimizer.step_per_sample", what="step", ratio=ratio)
            return
    # Adam's steps hide a sum instead of a mean. The gradients show it.
    single, many = negative_gradients(agent, one), negative_gradients(agent, eight)
    if single is None or many is None:
        if first_step(agent) == "signs":
            yield "Adam's steps hide whether updates sum or average over the batch. Add gradients() to the adapter"
    elif abs((ratio := _ratio(single, many)) - 8) < 0.02:
        yield finding("loss.sum", what="gradient", ratio=ratio)


def _as_many_steps(agent: AgentCopy, one: Transitions, eight: Transitions) -> bool:
    """Return whether a PyTorch optimizer takes as many steps for eight transitions as for one."""
    steps = []
    for batch in (one, eight):
        if received_gradients(agent, batch) is None:
            return False
        steps.append(agent.session.optimizer_steps)
    return steps[0] == steps[1]


def _ratio(one: dict[str, Array], other: dict[str, Array]) -> float:
    single, many = flat(one), flat(other)
    return float(single @ many / (single @ single + 1e-300))


def _value_limit(agent: AgentCopy, weight: ProbeWeight) -> float | None:
    """Return the value at which gradients are clipped, if smaller gradients make steps in proportion to their size."""
    usual = abs(float(measured_steps(agent, weight, [HIGH])[0]))
    for error in (1e-3, 2e-4, 3e-5, 4e-6):
        one, half = (abs(float(measured_steps(agent, weight, [size])[0])) for size in (error, error / 2))
        if one < 0.99 * usual and abs(half / one - 0.5) < 0.1:
            return error * usual / one
    return None


def _clips_values(limit: float) -> Finding:
    return finding("optimizer.clips_values", low=LOW, high=HIGH, limit=limit)


def _known_rule(agent: AgentCopy, weight: ProbeWeight, steps: Array) -> Iterator[Finding]:
    """Find the optimizer that takes these steps, and store it in ``session.optimizer``."""
    session, close = agent.session, CLOSE if weight.exact else 4 * CLOSE
    if steps[0] == 0:
        raise CannotTell("the first update does not change the tested weight of the output layer")
    shape = steps / steps[0]

    def nearest(references: Iterable[tuple[str, str, Steps]], decay: float = 1.0) -> tuple[float, str, str, Steps]:
        rates = decay ** np.arange(len(ERRORS))

        def distance(reference: Steps) -> float:
            expected = rates * reference(ERRORS)
            return float(np.abs(shape - expected / expected[0]).max() / np.abs(shape).max())

        return min(((distance(one), fault, name, one) for fault, name, one in references), key=lambda one: one[0])

    distance, _, right, session.optimizer = nearest(correct_optimizers())
    if distance < close:
        return
    wrong_distance, fault, wrong, session.optimizer = nearest(faulty_optimizers())
    if fault == "no_memory" and wrong_distance < close and (limit := _value_limit(agent, weight)):
        session.optimizer = partial(_clipped, steps=partial(momentum, decay=0.0), limit=limit)
        yield _clips_values(limit)
        return
    if wrong_distance >= close:
        distance_clipped, _, name, session.optimizer = nearest(clipping_optimizers())
        if distance_clipped < close:
            if (limit := float(name)) <= 1.001 * LOW:
                yield _clips_values(limit)
            return
        session.optimizer = None
        decay = float(np.abs(shape[7])) ** (1 / 7)  # of an optimizer whose steps are constant for a constant gradient
        if 0 < decay < 1 and nearest(correct_optimizers(), decay)[0] < close:
            if decay**1000 < ALMOST_0:
                details = (
                    f"For a constant gradient, each step is {decay:.4f} times as large as the one before it. After "
                    f"1000 updates, the steps are {decay**1000:.1g} times as large as the first one"
                )
                yield finding("hyperparameters.fades", details=details)
            return
        raise CannotTell(
            f"for a constant gradient, the steps relative to the first are {listed(shape[:8])}. No known "
            f"optimizer takes such steps. The nearest one, {right}, differs by {distance:.0%}"
        )
    details = (
        f"For the TD errors {listed(ERRORS[[0, 7, 8, 11, 12]])}, the steps relative to the first are "
        f"{listed(shape[[0, 7, 8, 11, 12]])}. {wrong} takes these steps, within {wrong_distance:.1%}"
    )
    yield finding(
        f"optimizer.{fault}",
        details=details,
        steps=shape[:8],
        wrong=wrong,
        distance=wrong_distance,
        right=right,
        right_distance=distance,
    )
