"""ROUTE and FD: which action's output is pushed, and does the push reach every weight as the chain rule says?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import networks, pushes
from perilune.doctor.balance import still_reward
from perilune.doctor.catalogue import found, listed
from perilune.doctor.checks.td import regression
from perilune.doctor.patient import Transitions
from perilune.doctor.pushes import cosine, joined
from perilune.doctor.report import Finding, NotRun, Points
from perilune.doctor.ward import CannotTell, Case, Ward

ERROR = 10.0  # the TD error that is trained on, in units of return
ALIKE = 0.9  # cosine below which a push is a wrong one
TRIALS = 4
SMALL = 1e-4  # of a weight, in the mean: less than a step, and enough for float32 to tell Q's differences


class Trial(NamedTuple):
    """One transition trained on: the slopes of Q at its obs, and the pushes for an error up and one down.

    ``step`` and ``step_down`` are what the update adds to the weights; ``push`` is where the gradient points: the
    patient's own gradients where it gives them, else the step.
    """

    action: int
    obs: Array
    slopes: dict[str, pushes.Slope]
    step: networks.Named
    step_down: networks.Named
    push: networks.Named


def check(ward: Ward) -> Iterator[Finding | NotRun]:
    case = ward.fresh()
    flipped = list(sign(ward, case))
    yield from flipped
    blind = list(blind_to_action(ward, case))
    try:
        networks.online(case)
    except CannotTell:
        yield from blind
        raise
    trials = [trial(ward, case, seed) for seed in range(TRIALS)]
    if not any(joined(one.step).any() for one in trials):
        raise CannotTell("no update moved any weight")
    signs = case.ward.facts["own gradients"] is False and pushes.stepping(case) == "signs"
    routed = list(routing(case, trials))
    yield from routed or blind
    ward.facts["routing"] = next((finding.id for finding in routed or blind), "sound")
    if ward.rows > 1:
        regression(ward)  # batch normalisation lets nothing of a row that is repeated pass
    yield from frozen(case, trials)
    if pushes.stepping(case) in ("inverse", "unknown") and not ward.facts["own gradients"]:
        raise CannotTell("the optimiser's steps do not show the gradient: give the patient gradients()")
    regression(ward)
    wrong = list(chain(trials, signs))
    yield from wrong
    if pushes.decays(case):
        yield NotRun("gradients", "whether weights are stepped too early: weight decay hides it")
    elif not wrong and not flipped:
        yield from too_early(ward, case)
    yield from through_target(ward, case)


def trial(ward: Ward, case: Case, seed: int) -> Trial:
    transition = ward.transitions(1)._replace(action=np.array([seed % ward.actions]))
    up, down = (pushes.towards(case, transition, error) for error in (ERROR, -ERROR))
    step, step_down = pushes.step(case, up), pushes.step(case, down)
    if pushes.decays(case):  # which Adam makes as large as any step where there is no gradient
        for one, other in zip(step.values(), step_down.values(), strict=True):
            decay = np.isclose(one, other, rtol=0.01, atol=0)
            one[decay] = other[decay] = 0
    push = pushes.gradient_push(case, up)
    ward.facts["own gradients"] = push is not None
    return Trial(
        int(transition.action[0]),
        transition.obs,
        pushes.slopes(case, transition.obs, seed),
        step,
        step_down,
        step if push is None else push,
    )


def blind_to_action(ward: Ward, case: Case) -> Iterator[Finding]:
    """Two transitions that differ in their action alone, trained to the same error, must not do the same."""
    if ward.actions == 1:
        return
    obs = ward.states(16)
    changes = []
    for action in (0, ward.actions - 1):
        trained = case.copy()
        trained.train(pushes.towards(case, ward.transitions(1)._replace(obs=obs[:1], action=np.array([action])), ERROR))
        changes.append(trained.q(obs) - case.q(obs))
    size = np.abs(changes[0]).max()
    if size > 0 and np.abs(changes[0] - changes[1]).max() < 1e-5 * size:
        yield found(
            "loss.all_actions",
            f"from the same error of {ERROR:g}, action 0 and action {ward.actions - 1} move Q by exactly as much in "
            f"{len(obs)} states: {listed(changes[0][0])} and {listed(changes[1][0])} in the first",
        )


def sign(ward: Ward, case: Case) -> Iterator[Finding]:
    """A target above Q(obs, action) must pull it up, and one below it down."""
    moves = []
    for _ in range(TRIALS):
        transition = ward.transitions(1)
        taken = 0, transition.action[0]
        for error in (ERROR, -ERROR):
            trained = case.copy()
            trained.train(pushes.towards(case, transition, error))
            moves.append(np.sign(error) * float((trained.q(transition.obs) - case.q(transition.obs))[taken]))
    if max(moves) < 0:
        yield found(
            "backward.sign",
            f"a target {ERROR:g} above Q(obs, action) moves it by {moves[0]:.3g}, one {ERROR:g} below it by "
            f"{-moves[1]:.3g}, and so on {TRIALS} transitions",
        )


# ROUTE


def own_outputs(one: Trial) -> list[str]:
    """The arrays each of whose weights belongs to one action's output alone, matrices first."""
    own = []
    for name, (places, slope) in one.slopes.items():
        touched = (np.abs(slope) > 1e-3 * np.abs(slope).max(initial=0)).sum(axis=1)
        if len(places) and slope.any() and touched.max() == 1:
            own.append(name)
    return sorted(own, key=lambda name: -one.step[name].ndim)


def output_push(one: Trial, moved: networks.Named) -> Array | None:
    """How hard each action's own output weights are pushed, [A], up positive; None if no weight is one action's own."""
    own = own_outputs(one)
    if not own:
        return None
    places, slope = one.slopes[own[0]]
    slope = slope * (np.abs(slope) > 1e-3 * np.abs(slope).max())
    push: Array = moved[own[0]].reshape(-1)[places] @ np.sign(slope) / (np.abs(slope).sum(axis=0) + 1e-300)
    return push


def routing(case: Case, trials: list[Trial]) -> Iterator[Finding]:
    """Of the outputs only the taken action's may be pushed."""
    wrong: list[tuple[Trial, Array, Array]] = []
    same, contrary = wrong.copy(), wrong.copy()
    for one in trials:
        up, down = output_push(one, one.step), output_push(one, one.step_down)
        if up is None or down is None or len(up) == 1:
            return
        size = max(np.abs(up).max(), np.abs(down).max())
        pushed = np.abs(up) > 0.01 * size
        others = np.arange(len(up)) != one.action
        if not pushed[one.action] and pushed.any():
            wrong.append((one, up, down))
        elif pushed[others].any():
            (same if (np.sign(up[others]) == -np.sign(down[others])).all() else contrary).append((one, up, down))
    if wrong:
        one, up, _ = wrong[0]
        yield found(
            "loss.wrong_action", f"training on action {one.action} pushes the outputs of the actions by {listed(up)}"
        )
    elif len(same) == len(trials):
        one, up, _ = same[0]
        yield found(
            "loss.all_actions",
            f"training on action {one.action} alone pushes the outputs of the actions by {listed(up)}",
        )
    elif len(same) + len(contrary) == len(trials):
        one, up, down = contrary[0]
        yield found(
            "loss.others_to_zero",
            f"training on action {one.action} pushes the outputs by {listed(up)} for a target above Q and by "
            f"{listed(down)} for one below: others go the same way both times; Q is {listed(case.q(one.obs)[0])}",
        )


# FD


def frozen(case: Case, trials: list[Trial]) -> Iterator[Finding]:
    """Arrays that no update moves although Q depends on them."""
    names = [
        name
        for name in trials[0].slopes
        if not any(one.step[name].any() for one in trials) and any(wanted(one, name).any() for one in trials)
    ]
    biases = [name for name in trials[0].slopes if trials[0].step[name].ndim == 1]
    if names != biases and case.ward.facts["online"][0] == "walk":
        # A vector that is no layer's: what observations are scaled by, or the support of a distribution.
        names = [name for name in names if name not in biases or not networks.online(case)[name].any()]
    if not names:
        return
    if names == biases:
        yield found("backward.bias_frozen", f"{', '.join(names)}: not moved by {len(trials)} updates that should")
    else:
        yield found("backward.left_out", f"{', '.join(names)}: not moved by {len(trials)} updates that should")


def wanted(one: Trial, name: str) -> Array:
    """Where the coordinates of ``name`` should be pushed, given what the outputs are pushed by."""
    push = output_push(one, one.push)
    if push is None:
        push = np.eye(one.slopes[name].slope.shape[1])[one.action]
    push = push * (np.abs(push) > 0.01 * np.abs(push).max(initial=0))
    direction: Array = one.slopes[name].slope @ (push / (np.abs(push).max() + 1e-300))
    return direction


# What can be wrong with the push of an array, the more particular before the more general.
WRONG = {
    "no_input": "the gradient is the same for every input of a layer; cosine to the true one",
    "one_bias": "every unit's bias gets the same gradient; cosine to the true one",
    "relu_derivative": "units that are off are pushed like those that are on; the one to the other",
    "chain": "cosine of the push to the true gradient",
}


def chain(trials: list[Trial], signs: bool) -> Iterator[Finding]:
    """Array by array: is it pushed along the derivative of what the outputs are pushed by?"""
    wrong: dict[str, dict[str, float]] = {}
    for name in trials[0].slopes:
        for kind, figure in _verdicts(trials, name, signs):
            wrong.setdefault(kind, {})[name] = figure
    if "relu_derivative" in wrong:
        wrong.pop("chain", None)  # what passes through a unit that is off goes wrong further back
    drawn: set[str] = set()
    for kind, words in WRONG.items():
        if kind in wrong:
            figures = ", ".join(f"{name} {figure:.2f}" for name, figure in wrong[kind].items())
            worth = next((name for name in wrong[kind] if name not in drawn), None)
            drawn.add(worth or "")
            picture = _picture(trials, worth, signs) if worth else None
            yield found(f"backward.{kind}", f"{words}: {figures}", picture=picture)


def _picture(trials: list[Trial], name: str, signs: bool) -> Points:
    """The push on each weight of one array over its true gradient, each in units of the largest."""
    pairs = [(wanted(one, name), one.push[name].reshape(-1)[one.slopes[name].places]) for one in trials]
    want, seen = (
        np.concatenate([side / (np.abs(side).max(initial=0) + 1e-300) for side in sides])
        for sides in zip(*pairs, strict=True)
    )
    return Points(
        f"{name}: where the update pushes each weight",
        "where it should: the slope of Q by finite differences",
        "where it does",
        want,
        seen,
        np.sign(want) * (np.abs(want) > 1e-4) if signs else want,
    )


def _verdicts(trials: list[Trial], name: str, signs: bool) -> Iterator[tuple[str, float]]:
    """What is wrong with the pushes of the array ``name``, each with the figure that shows it."""
    cosines, leaks = [], []
    for one in trials:
        want, seen = wanted(one, name), one.push[name].reshape(-1)[one.slopes[name].places]
        strong = np.abs(want) > 1e-3 * np.abs(want).max(initial=0)
        if strong.any() and seen.any():
            cosines.append(_agreement(seen, want, signs))
            if not want.all():  # leaky units are never quite off
                leaks.append(float(np.abs(seen[want == 0]).mean() / np.abs(seen[strong]).mean()))
    if not cosines or np.mean(cosines) >= ALIKE:
        return
    moves = [one.push[name] for one in trials if one.push[name].any()]
    leaking = bool(leaks) and np.mean(leaks) > 0.2
    if moves[0].ndim == 2 and all(_alike(move, 0) or _alike(move, 1) for move in moves):
        yield "no_input", float(np.mean(cosines))
        # Behind the first layer a weight may also rest because its input is off; obs never is.
        if leaking and name == next(name for name, move in trials[0].step.items() if move.ndim == 2):
            yield "relu_derivative", float(np.mean(leaks))
    elif moves[0].ndim == 1 and moves[0].size > 1 and all(_alike(move, 0) for move in moves):
        yield "one_bias", float(np.mean(cosines))
    elif leaking:
        yield "relu_derivative", float(np.mean(leaks))
    else:
        yield "chain", float(np.mean(cosines))


def _agreement(seen: Array, want: Array, signs: bool) -> float:
    """Cosine between what is seen and what is wanted; of signs, those of slopes too small to be sure of left out."""
    if not signs:
        return abs(cosine(seen, want))
    size = np.abs(want) / np.abs(want).max()
    sure = (size > 0.05) | (size == 0)
    return abs(cosine(seen[sure], np.sign(want[sure]) * (size[sure] > 0.05)))


def _alike(push: Array, axis: int) -> bool:
    """Whether all entries along ``axis`` are the same."""
    return bool(np.ptp(push, axis=axis).max() <= 1e-6 * np.abs(push).max())


def too_early(ward: Ward, case: Case) -> Iterator[Finding]:
    """With the output's weights near zero, an error that is passed back after they were stepped is another error."""
    first = trial(ward, case, 0)
    last = [name for name in own_outputs(first) if first.step[name].ndim == 2]
    if not last:
        return

    def shrink(case: Case) -> None:
        weights = networks.online(case)[last[0]]
        weights *= SMALL / np.abs(weights).mean()

    small = case.copy()
    small.change(shrink)
    agreement = []
    for seed in range(TRIALS):
        one = trial(ward, small, seed)
        for name, (places, _) in one.slopes.items():
            want, seen = wanted(one, name), one.step[name].reshape(-1)[places]
            if name not in own_outputs(one) and want.any() and seen.any():
                agreement.append(cosine(np.sign(seen), np.sign(want)))
    if agreement and np.mean(agreement) < 0.6:
        yield found(
            "backward.too_early",
            f"with the weights of {last[0]} scaled down to {SMALL:g}, the signs of the hidden layers' steps and "
            f"of the true gradient agree with cosine {np.mean(agreement):.2f}, while at full size all is well",
        )


def through_target(ward: Ward, case: Case) -> Iterator[Finding]:
    """The same TD error must push the same way whether it comes with a bootstrap or without one."""
    if ward.facts.get("ends", "sound") != "sound":
        return
    worst = 1.0
    for _ in range(TRIALS):
        ended = ward.transitions(1)
        running = ended._replace(terminated=np.zeros(1, bool))
        q = case.q(ended.obs)
        still = still_reward(case, running, float(np.abs(q).max()) + 1)
        goes_on = running._replace(reward=np.array([still + ERROR], np.float32))
        one, other = (_push(case, batch) for batch in (pushes.towards(case, ended, ERROR), goes_on))
        worst = min(worst, cosine(joined(one), joined(other)))
    if worst < 0.97:
        yield found(
            "td_target.gradient_flows",
            f"a TD error of {ERROR:g} at an end and the same error with a bootstrap push the weights in different "
            f"directions: cosine {worst:.2f}",
        )


def _push(case: Case, batch: Transitions) -> networks.Named:
    push = pushes.gradient_push(case, batch)
    return pushes.step(case, batch) if push is None else push
