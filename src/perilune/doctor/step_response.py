"""The steps that an optimizer makes of a known sequence of gradients: measured on the agent, and by the books.

The reference equations are independent of ``perilune.nn.optimizers``, because Perilune's own agents are examined too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, product
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import parameters
from perilune.doctor.gradients import first_step, q_slopes, weight_step
from perilune.doctor.protocol import Transitions
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.td_reading import aim, with_error

Steps = Callable[[Array], Array]  # gradients (K,) -> steps (K,) for a learning rate of 1


def _decayed_sum(values: Array, decay: float) -> Array:
    """Return s (K,) with s_k = decay s_(k-1) + values_k."""
    return np.array(list(accumulate(values, lambda total, value: decay * total + value)))


def momentum(gradients: Array, decay: float, nesterov: bool = False) -> Array:
    """SGD with momentum: v = decay v + g; the step is v, or g + decay v (Nesterov)."""
    v = _decayed_sum(gradients, decay)
    return gradients + decay * v if nesterov else v


def rmsprop(gradients: Array, decay: float, epsilon: float, centered: bool = False) -> Array:
    """RMSProp: v = decay v + (1 - decay) g^2; the step is g / (sqrt(v) + epsilon). Centered: v - mean(g)^2 for v."""
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
) -> Array:
    """Adam (Kingma and Ba, arXiv:1412.6980).

    ``count`` is where the counter t of the bias corrections starts and its increment per update; ``correct`` whether
    m and v are corrected for their start at 0.
    """
    t = count[0] + count[1] * np.arange(len(gradients))
    m = (1 - beta1) * _decayed_sum(gradients, beta1) / (1 - beta1**t if correct[0] else 1)
    v = (1 - beta2) * _decayed_sum(gradients**2, beta2) / (1 - beta2**t if correct[1] else 1)
    return np.asarray(m / (np.sqrt(v) + epsilon))


def adagrad(gradients: Array) -> Array:
    """Adagrad: g / sqrt(sum of g^2 so far)."""
    return np.asarray(gradients / (np.sqrt(np.cumsum(gradients**2)) + 1e-10))


def correct_optimizers() -> Iterator[tuple[str, Steps]]:
    """Yield the name and the steps of correct optimizers."""
    for decay in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99):
        yield f"SGD with momentum {decay}", partial(momentum, decay=decay)
        yield f"SGD with Nesterov momentum {decay}", partial(momentum, decay=decay, nesterov=True)
    for epsilon in (1e-10, 1e-8, 1e-6, 1e-5, 1.5e-4, 1e-3, 1e-2):
        for beta1, beta2 in product((0.9, 0.0, 0.5, 0.8, 0.95, 0.99), (0.999, 0.9, 0.95, 0.98, 0.99, 0.995, 0.9999)):
            yield f"Adam with betas {beta1}, {beta2}", partial(adam, beta1=beta1, beta2=beta2, epsilon=epsilon)
        for decay in (0.9, 0.95, 0.99, 0.995, 0.999):
            yield f"RMSProp with decay {decay}", partial(rmsprop, decay=decay, epsilon=epsilon)
            yield f"centered RMSProp with decay {decay}", partial(rmsprop, decay=decay, epsilon=epsilon, centered=True)
    yield "Adagrad", adagrad


def faulty_optimizers() -> Iterator[tuple[str, str, Steps]]:
    """Yield the finding, the name and the steps of optimizers with common faults."""
    for beta2 in (0.999, 0.99, 0.95):
        wrong = partial(adam, beta2=beta2)
        yield "no_bias_correction", "Adam without bias correction", partial(wrong, correct=(False, False))
        yield "no_bias_correction", "Adam with m uncorrected", partial(wrong, correct=(False, True))
        yield "no_bias_correction", "Adam with v uncorrected", partial(wrong, correct=(True, False))
        yield "counter", "Adam with a counter that stays at 1", partial(wrong, count=(1, 0))
        yield "counter", "Adam with a counter that starts at 2", partial(wrong, count=(2, 1))
        for arrays in range(2, 13):
            for place in range(1, arrays + 1):
                name = f"Adam with a counter that grows by {arrays} per update"
                yield "counter", name, partial(wrong, count=(place, arrays))
    yield "no_memory", "an optimizer that is created again in every update", np.sign


class ProbeWeight(NamedTuple):
    """A weight of action 0's output, whose gradient is the TD error."""

    transition: Transitions  # that trains it
    name: str  # of its array
    place: int  # its flat index there
    exact: bool  # whether it is a bias, so that its gradient is exactly the TD error


def probe_weight(session: Session, agent: AgentCopy) -> ProbeWeight:
    """Find a weight whose gradient follows the TD error and nothing else.

    The gradient of the output's bias is the TD error. Another weight of the output has its input as a factor, which
    changes while the layers before it learn; an optimizer that normalizes its steps hardly shows that.

    Raises:
        CannotTell: There is none.
    """
    # Small observations keep the other gradients small, so that clipping by norm sets in late.
    transition = session.transitions(1, scale=0.3)._replace(action=np.zeros(1, np.int64))
    step = weight_step(agent, with_error(agent, transition, 1.0))
    best = None
    for name, (places, slope) in q_slopes(agent, transition.obs).items():
        affected = (np.abs(slope) > 1e-3 * np.abs(slope).max(initial=0)).sum(axis=1)
        if not len(places) or affected.max() != 1 or not step[name].any() or not slope[:, 0].any():
            continue
        exact = step[name].ndim == 1
        if exact or first_step(agent) == "signs":
            known = ProbeWeight(transition, name, int(places[np.abs(slope[:, 0]).argmax()]), exact)
            best = known if best is None or exact else best
    if best is None:
        raise CannotTell("no weight was found whose gradient is the TD error alone: an output bias")
    return best


def measured_steps(agent: AgentCopy, weight: ProbeWeight, errors: Sequence[float]) -> Array:
    """Return the steps (K,) of the weight while its transition is trained with these TD errors (K,) in turn."""
    aimed = aim(agent, weight.transition)
    trained = agent.copy()

    def value() -> float:
        return float(parameters.online(trained)[weight.name].reshape(-1)[weight.place])

    values = [value()]
    for error in errors:
        trained.train(with_error(trained, weight.transition, float(error), aimed))
        values.append(value())
    return np.diff(values)
