"""Check that the gradient is the derivative of the loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding, listed
from perilune.doctor.checks.optimizer import ProbeWeight, measured_steps, probe_weight
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session
from perilune.doctor.td_reading import aim, neutral_reward, require_regression, with_error
from perilune.doctor.weights import flat, negative_gradients, online

ERRORS = np.array([0.1, 0.3, 0.6, 1.5, 3.0, 10.0, 30.0])
DOUBLED = np.array(
    [0.06, 0.12, 0.25, 0.45, 0.7, 0.95, 1.8, 4.0, 9.0]
)  # below and above the usual delta of a Huber loss, 1
BEFORE = 6  # updates with the single error
CLOSE = 0.01  # precision of a measured step, relative to the first


def check_loss(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check the gradients against ``loss()`` if the agent has both, and otherwise how they grow with the TD error."""
    require_regression(session)
    transition = session.transitions(1)
    aimed = aim(agent, transition)
    effects = [agent.effect(with_error(agent, transition, float(error), aimed)) for error in DOUBLED]
    moves = np.abs(effects).max(axis=(1, 2))
    if moves[0] > 0 and moves[-2] == moves[-1] == 0:  # the derivative of a clipped error is 0
        yield finding("loss.clipped_away", errors=DOUBLED, moves=moves)
    elif agent.has("loss", "gradients"):
        yield from _derivative(session, agent)
    else:
        yield from _growth(session, agent)


def _derivative(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that the ratio of the gradient to d loss / d reward does not depend on the TD error."""
    transition = session.transitions(1)
    aimed = aim(agent, transition)
    errors = np.concatenate([ERRORS, -ERRORS])
    batch = with_error(agent, transition, float(errors.max()), aimed)
    if _loss(agent.trained(batch), batch) == _loss(agent, batch):
        raise CannotTell("updates do not change loss(). It may use another network, for example in a lambda function")
    from_loss, gradients = [], []
    for error in errors:
        batch = with_error(agent, transition, float(error), aimed)
        shift = np.float32(0.01 * abs(error))
        up, down = (_loss(agent, batch._replace(reward=batch.reward + one)) for one in (shift, -shift))
        from_loss.append((up - down) / (2 * shift))
        pushed = negative_gradients(agent, batch)
        if pushed is None:
            raise CannotTell("gradients() and parameters() return different names or shapes")
        gradients.append(flat(pushed))
    sizes = np.array(gradients) @ gradients[0]
    if not sizes[0] or not np.all(from_loss):
        raise CannotTell("the loss does not change with every reward. The agent may clip rewards")
    ratio = sizes / np.array(from_loss)
    if np.ptp(ratio) > 0.05 * np.abs(ratio).max():
        details = (
            f"At TD errors of {listed(errors)}, the ratio of the gradient to the derivative of loss() is "
            f"{listed(ratio / ratio[0])}, relative to its value at a TD error of {errors[0]} (1 is correct)"
        )
        yield finding("loss.derivative", details=details)


def _loss(agent: AgentCopy, batch: Transitions) -> float:
    value = agent.copy().array("loss", *(np.array(column) for column in batch))
    if value.size != 1:
        raise AgentFailed("loss", f"returned an array of shape {value.shape}: expected a number")
    return float(value.reshape(-1)[0])


def _growth(session: Session, agent: AgentCopy) -> Iterator[Finding]:
    """Check that doubling the TD error multiplies the gradient by 1 to 2, as in common losses.

    An optimizer such as Adam hides the size of a gradient, but not its ratio to earlier gradients.
    """
    optimizer = session.optimizer
    if optimizer is None:
        raise CannotTell("the optimizer is unknown. Add loss() and gradients() to the adapter")
    weight = probe_weight(session, agent)

    def grown(error: float, times: float, allowed: Array) -> tuple[bool, float, Array]:
        """Compare the step for an error ``times`` as large with the steps for gradients ``allowed`` times as large."""
        seen = measured_steps(agent, weight, [error] * BEFORE + [times * error])
        step = float(seen[-1] / seen[0])
        gradients = [[first] * BEFORE + [first * size] for first in (error, min(error, 1.0)) for size in allowed]
        expected = np.array([made[-1] / made[0] for made in map(optimizer, np.array(gradients))])
        return bool(np.abs(expected - step).min() < CLOSE), step, expected

    wrong = []
    for error in DOUBLED:
        fits, step, expected = grown(error, 2.0, np.linspace(1, 2, 50))
        # If an equal error does not fit either, the updates changed the agent too much for this comparison.
        if not fits and grown(error, 1.0, np.ones(1))[0]:
            wrong.append(
                f"After {BEFORE} updates with a TD error of {error:g}, the step for an error of {2 * error:g} is "
                f"{step:.3g} times the first step; expected {expected.min():.3g} to {expected.max():.3g}"
            )
    if wrong:
        _require_unclipped_rewards(agent, weight)
        yield finding("loss.derivative", details="; ".join(wrong))


def _require_unclipped_rewards(agent: AgentCopy, weight: ProbeWeight) -> None:
    """Raise CannotTell if the agent clips rewards, which is not a fault. Clipped rewards cannot keep Q at 5."""
    transition = weight.transition._replace(terminated=np.full(1, aim(agent, weight.transition)[0]))

    def rise(agent: AgentCopy) -> None:
        array = online(agent)[weight.name]
        place = np.unravel_index(weight.place, array.shape)
        before = agent.q_taken(transition)[0]
        array[place] += 1
        slope = agent.q_taken(transition)[0] - before
        array[place] += (5 - before - slope) / slope

    high = agent.copy()
    high.change(rise)
    try:
        neutral_reward(high, transition, 1.0)
    except CannotTell as reason:
        raise CannotTell(f"rewards are clipped before they reach the target: {reason}") from reason
