"""Check which outputs an update changes, and whether each weight follows the chain rule."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.report import Finding, Points
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.td_reading import neutral_reward, require_regression, with_error
from perilune.doctor.trials import ERROR, TRIALS, Trial, decays_weights, first_step, first_trials, trials
from perilune.doctor.weights import cosine, flat, is_vector, linear, online, push, unregistered

ALIKE = 0.9  # smallest cosine between an update and the true gradient that counts as correct
SMALL = 1e-4  # mean weight: smaller than an optimizer step, but large enough for differences of Q in float32
# If several of these are found, only the last one in this order is reported.
ROUTING = ("loss.all_actions", "loss.others_to_zero", "loss.wrong_action")
MAX_Q = 0.5  # rewards that are clipped to [-1, 1] then still make errors of both signs
UPDATES = 20  # an array that has not changed after them is frozen
SPECIFIC_FIRST = ("no_input", "one_bias", "relu_derivative", "chain")


def check_gradients(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check the sign of updates, which action they train, the backward pass, and that the target gets no gradient."""
    uphill = list(_sign(session, agent))
    yield from uphill
    blind = list(_blind_to_action(session, agent))
    try:
        online(agent)
    except CannotTell:
        yield from blind
        raise
    if not (uphill or session.statistics or session.unexplained):
        yield from _one_direction(session, agent)
    tried = first_trials(session, agent)
    if not any(flat(one.step).any() for one in tried):
        raise CannotTell("no update changed any weight")
    own_gradients = tried[0].push is not tried[0].step
    signs = not own_gradients and first_step(agent) in ("signs", "damped")
    routed = list(_routing(agent, tried)) or blind
    if any(one.id == "loss.others_to_zero" for one in routed) and _rescales(agent, tried):
        session.not_regression = (
            "updates multiply the weights of all outputs by a number, as PopArt and weight decay do, which hides the "
            "gradients"
        )
        raise CannotTell(session.not_regression)
    yield from routed
    session.routing = next((one.id for one in routed), "sound")
    if session.min_batch > 1:
        require_regression(session)  # with batch normalization, a repeated row has no gradient
    yield from _frozen(agent, tried)
    if first_step(agent) in ("inverse", "unknown") and not own_gradients:
        raise CannotTell("the optimizer's steps do not reveal the gradient. Add gradients() to the adapter")
    require_regression(session)
    flowing = list(_through_target(session, agent))
    yield from flowing
    if flowing and session.ends != "sound":
        yield "the gradient that flows through the target of every transition hides the backward pass"
        return
    wrong = [*([] if uphill else _reversed(tried, signs)), *_chain_rule(tried, signs)]
    yield from wrong
    if session.uses_torch_optimizer:
        return  # its step follows the whole backward pass
    if decays_weights(agent):
        yield "weight decay hides whether weights are updated before the error has passed back through them"
    elif not wrong and not uphill:
        yield from _stepped_too_early(session, agent)


def _sign(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that a target above Q(obs, action) raises it, and one below lowers it."""
    moves = []
    for _ in range(TRIALS):
        transition = session.transitions(1)
        for error in (ERROR, -ERROR):
            effect = agent.effect(with_error(agent, transition, error))
            moves.append(np.sign(error) * float(effect[0, transition.action[0]]))
    if max(moves) < 0:
        yield finding("backward.sign", error=ERROR, up=moves[0], down=-moves[1], trials=TRIALS)


def _one_direction(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that errors of both signs move Q(obs, action) in different directions."""
    pool = session.transitions(64)
    q = agent.q_taken(pool)
    near = np.argsort(np.abs(q))[:TRIALS]
    if np.abs(q[near]).max() > MAX_Q:
        return
    for error in (5.0, 0.3):
        moves = []
        for row in near:
            transition = pool.rows([row])
            up, down = (agent.effect(with_error(agent, transition, sign * error)) for sign in (1, -1))
            moves.append((float(up[0, transition.action[0]]), float(down[0, transition.action[0]])))
        if all((up == 0) != (down == 0) for up, down in moves) and len({up == 0 for up, _ in moves}) == 1:
            none, some = (error, -error) if moves[0][0] == 0 else (-error, error)
            details = f"A TD error of {none} does not change Q(obs, action), but an error of {some} does"
            yield finding("loss.derivative", details=details)
            return
        # A distribution also moves Q in one direction for small errors of both signs, but not by the same amount.
        if all(up * down > 0 and abs(up - down) < 1e-4 * abs(up) for up, down in moves):
            both = f"{moves[0][0]:.3g} and {moves[0][1]:.3g}"
            details = f"TD errors of {error} and -{error} move Q(obs, action) in the same direction, by {both}"
            yield finding("loss.derivative", details=details)
            return
        if all(up > 0 > down for up, down in moves):
            return  # if small errors do not, the target has a bonus, as in Munchausen DQN


def _blind_to_action(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that two transitions that differ only in their action have different effects."""
    if session.actions == 1:
        return
    obs = session.observations(16)
    changes = []
    for action in (0, session.actions - 1):
        transition = session.transitions(1)._replace(obs=obs[:1], action=np.array([action]))
        changes.append(agent.trained(with_error(agent, transition, ERROR)).q(obs) - agent.q(obs))
    size = np.abs(changes[0]).max()
    if size > 0 and np.abs(changes[0] - changes[1]).max() < 1e-5 * size:
        more = f", and so does training on action {session.actions - 1}"
        yield finding("loss.all_actions", action=0, outputs=changes[0][0], more=more)


def _routing(agent: AgentCopy, trials: list[Trial]) -> Iterator[Finding]:
    """Check that an update changes only the output of the action taken."""
    faults = []
    for one in trials:
        up, down = one.output_push(one.step), one.output_push(one.step_down)
        if up is None or down is None or len(up) == 1:
            return
        pushed = np.abs(up) > 0.003 * max(np.abs(up).max(), np.abs(down).max())
        others = np.arange(len(up)) != one.action
        if not pushed[one.action] and pushed.any():
            faults.append(
                finding(
                    "loss.wrong_action",
                    details=f"Training on action {one.action} changes the outputs of the actions by {listed(up)}",
                )
            )
        elif pushed[others].any() and (np.sign(up[others]) == -np.sign(down[others])).all():
            faults.append(finding("loss.all_actions", action=one.action, outputs=up, more=""))
        elif pushed[others].any():
            faults.append(finding("loss.others_to_zero", action=one.action, up=up, down=down, q=agent.q(one.obs)[0]))
    if faults:
        worst = max(faults, key=lambda one: ROUTING.index(one.id))
        if worst.id == "loss.wrong_action" or len(faults) >= len(trials) - 1:  # an output may happen to be 0
            yield worst


def _rescales(agent: AgentCopy, trials: list[Trial]) -> bool:
    """Return whether updates multiply the weights of the actions that are not taken, instead of adding a gradient."""
    weights = online(agent)
    return all(one.rescaled_outputs(weights) for one in trials)


def _frozen(agent: AgentCopy, trials: list[Trial]) -> Iterator[Finding]:
    """Find arrays that no update moves although Q depends on them."""
    first = trials[0]
    names = [
        name
        for name in first.slopes
        if not any(one.step[name].any() for one in trials) and any(one.expected(name).any() for one in trials)
    ]
    biases = [name for name in first.slopes if is_vector(first.step[name])]
    weights = agent.session.weights
    if names != biases and weights is not None and weights[0] == "walk":
        # Such a vector may be a scale of the observations or the support of a distribution instead of a bias.
        names = [name for name in names if name not in biases or not online(agent)[name].any()]
    if names and agent.session.start and linear(agent):
        return  # the features of a linear agent are fixed, and its weights start at 0
    if names and (names := _still_frozen(agent, names)):
        name = "backward.bias_frozen" if names == biases else "backward.left_out"
        name = "forward.not_registered" if set(names) <= unregistered(agent) else name
        yield finding(name, arrays=", ".join(names), updates=len(trials))


def _still_frozen(agent: AgentCopy, names: list[str]) -> list[str]:
    """Return the arrays that stay unchanged in more updates. Double Q-learning trains one of two networks at random."""
    trained = agent.copy()
    for _ in range(UPDATES):
        batch = agent.session.transitions(max(8, agent.session.min_batch))
        trained.train(batch._replace(reward=batch.reward + 5))
    arrays, before = online(trained), online(agent)
    return [name for name in names if np.array_equal(arrays[name], before[name])]


def _reversed(trials: list[Trial], signs: bool) -> Iterator[Finding]:
    """Find arrays whose updates have the wrong sign, compared with the change of the outputs by the same update."""
    if any(one.output_push(one.push) is None for one in trials):
        return
    names = []
    for name in trials[0].slopes:
        pairs = [(one.sampled(one.push, name), one.expected(name), signs, one.limit) for one in trials]
        moved = [_agreement(*pair) for pair in pairs if pair[0].any() and pair[1].any()]
        if moved and max(moved) <= -ALIKE:
            names.append(name)
    if names and len(names) < len(trials[0].slopes):
        yield finding("backward.one_sign", arrays=", ".join(names))


def _chain_rule(trials: list[Trial], signs: bool) -> Iterator[Finding]:
    """Compare the update direction of each array with the derivative of the outputs that the update changes."""
    wrong: dict[str, dict[str, float]] = {}
    for name in trials[0].slopes:
        for kind, figure in _array_faults(trials, name, signs):
            wrong.setdefault(kind, {})[name] = figure
    if "relu_derivative" in wrong:
        wrong.pop("chain", None)  # an error that passes through an inactive unit is also wrong in earlier layers
    drawn: set[str | None] = set()
    for kind in SPECIFIC_FIRST:
        if kind in wrong:
            figures = ", ".join(f"{name} {figure:.2f}" for name, figure in wrong[kind].items())
            new = next((name for name in wrong[kind] if name not in drawn), None)
            drawn.add(new)
            picture = _picture(trials, new, signs) if new else None
            details = (
                "All units of a layer receive the same bias gradient. "
                f"Cosine similarity to the true gradient: {figures}"
            )
            yield finding(f"backward.{kind}", arrays=figures, details=details, picture=picture)


def _picture(trials: list[Trial], name: str, signs: bool) -> Points:
    """Plot the update of each weight of one array against its true gradient, both relative to their maximum."""
    pairs = [(one.expected(name), one.sampled(one.push, name)) for one in trials]
    expected, seen = (
        np.concatenate([side / (np.abs(side).max(initial=0) + 1e-300) for side in sides])
        for sides in zip(*pairs, strict=True)
    )
    labels = f"{name}: direction of the update", "expected: slope of Q by finite differences", "found"
    return Points(*labels, expected, seen, np.sign(expected) * (np.abs(expected) > 1e-4) if signs else expected)


def _array_faults(trials: list[Trial], name: str, signs: bool) -> Iterator[tuple[str, float]]:
    """Yield each fault in the updates of the array ``name``, and the number that shows it."""
    cosines, leaks = [], []
    for one in trials:
        expected, seen = one.expected(name), one.sampled(one.push, name)
        strong = np.abs(expected) > 1e-3 * np.abs(expected).max(initial=0)
        if strong.any() and seen.any():
            cosines.append(abs(_agreement(seen, expected, signs, one.limit)))
            if not expected.all():  # units of a leaky ReLU are never fully inactive
                leaks.append(float(np.abs(seen[expected == 0]).mean() / np.abs(seen[strong]).mean()))
    if not cosines or np.mean(cosines) >= ALIKE:
        return
    moves = [one.push[name] for one in trials if one.push[name].any()]
    vector = is_vector(moves[0])
    agreement, leak = float(np.mean(cosines)), float(np.mean(leaks or [0.0]))
    if moves[0].ndim == 2 and not vector and all(_constant(move, 0) or _constant(move, 1) for move in moves):
        yield "no_input", agreement
        # After the first layer, a weight may also stay unchanged because its input is 0. Observations are never 0.
        if leak > 0.2 and name == next(name for name, move in trials[0].step.items() if not is_vector(move)):
            yield "relu_derivative", leak
    elif vector and moves[0].size > 1 and all(_constant(move.reshape(-1), 0) for move in moves):
        yield "one_bias", agreement
    elif leak > 0.2:
        yield "relu_derivative", leak
    else:
        yield "chain", agreement


def _agreement(seen: Array, expected: Array, signs: bool, limit: float) -> float:
    """Return the cosine between update and gradient. If only the signs are known, omit slopes near 0."""
    if not signs:
        return cosine(seen, _clipped(seen, expected, limit))
    size = np.abs(expected) / np.abs(expected).max()
    sure = (size > 0.05) | (size == 0)
    moved = np.sign(seen) * (np.abs(seen) > 1e-3 * np.abs(seen).max())
    return cosine(moved[sure], np.sign(expected[sure]) * (size[sure] > 0.05))


def _clipped(seen: Array, expected: Array, limit: float) -> Array:
    """Clip the gradient by value, as the entries of ``seen`` that reach ``limit`` are."""
    whole = (np.abs(seen) < 0.99 * limit) & (seen != 0) & (expected != 0)
    if whole.all() or (np.abs(seen) < 0.99 * limit).all():
        return expected
    factor = np.median(np.abs(seen[whole] / expected[whole])) if whole.any() else np.inf
    clipped = np.sign(expected) * limit
    return np.where(expected == 0, 0, clipped) if np.isinf(factor) else np.clip(factor * expected, -limit, limit)


def _constant(moves: Array, axis: int) -> bool:
    return bool(np.ptp(moves, axis=axis).max() <= 1e-6 * np.abs(moves).max())


def _stepped_too_early(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check the hidden layers with output weights near 0, where an error passed through new weights differs most."""
    first = first_trials(session, agent)[0]
    last = [name for name in first.single_output_arrays() if not is_vector(first.step[name])]
    if not last:
        return

    def shrink(agent: AgentCopy) -> None:
        weights = online(agent)[last[0]]
        weights *= SMALL / np.abs(weights).mean()

    small = agent.copy()
    small.change(shrink)
    agreement = []
    for one in trials(session, small):
        for name in one.slopes:
            expected, seen = one.expected(name), one.sampled(one.step, name)
            if name not in one.single_output_arrays() and expected.any() and seen.any():
                agreement.append(cosine(np.sign(seen), np.sign(expected)))
    if agreement and np.mean(agreement) < 0.6:
        yield finding("backward.too_early", array=last[0], size=SMALL, cosine=np.mean(agreement))


def _through_target(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that the same TD error moves the weights in the same direction for every next observation."""
    if session.ends not in ("sound", "no_mask"):
        return
    worst, cached = 1.0, 1.0
    for _ in range(TRIALS):
        one = session.transitions(1)
        other = one._replace(next_obs=session.observations(1, 2.0))
        if session.ends == "sound":
            other = other._replace(terminated=np.zeros(1, bool))
            neutral = neutral_reward(agent, other, float(np.abs(agent.q(one.obs)).max()) + 1)
            other = other._replace(reward=np.array([neutral + ERROR], np.float32))
        else:
            other = with_error(agent, other, ERROR)
        for_next = with_error(agent, one._replace(obs=other.next_obs), ERROR)
        right, seen, of_next = (flat(push(agent, batch)) for batch in (with_error(agent, one, ERROR), other, for_next))
        worst, cached = min(worst, cosine(right, seen)), min(cached, cosine(of_next, seen))
    if worst < 0.97 and cached > 0.97:
        yield finding("backward.next_obs", error=ERROR, cosine=worst, cached=cached)
    elif worst < 0.97:
        yield finding("td_target.gradient_flows", error=ERROR, cosine=worst)
