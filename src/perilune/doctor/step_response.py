"""What optimisers of repute make of a sequence of gradients of one weight, and what broken ones make of it.

The equations stand here a second time, on single numbers and apart from ``nn.optimizers``, because they are the
reference that an agent is held against, our own included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np

from perilune._utils.arrays import Array

Steps = Callable[[Array], Array]  # gradients[K] -> steps[K] for a learning rate of 1


def momentum(gradients: Array, decay: float, nesterov: bool = False) -> Array:
    """v = decay v + g; step v, or g + decay v of Nesterov."""
    v, steps = 0.0, []
    for g in gradients:
        v = decay * v + g
        steps.append(g + decay * v if nesterov else v)
    return np.array(steps)


def rmsprop(gradients: Array, decay: float, epsilon: float, centered: bool = False) -> Array:
    """v = decay v + (1 - decay) g^2; step g / (sqrt v + epsilon), of v less the squared mean where it is centred."""
    v = mean = 0.0
    steps = []
    for g in gradients:
        v = decay * v + (1 - decay) * g * g
        mean = decay * mean + (1 - decay) * g
        spread = max(v - mean**2, 0.0) if centered else v
        steps.append(g / (np.sqrt(spread) + epsilon))
    return np.array(steps)


def adam(
    gradients: Array,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    count: tuple[int, int] = (1, 1),
    correct: tuple[bool, bool] = (True, True),
    root: bool = True,
) -> Array:
    """Kingma and Ba's Adam; ``count`` is where the counter of its corrections begins, and by how much it goes on."""
    m = v = 0.0
    steps = []
    for k, g in enumerate(gradients):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        t = count[0] + k * count[1]
        m_hat = m / (1 - beta1**t) if correct[0] else m
        v_hat = v / (1 - beta2**t) if correct[1] else v
        steps.append(m_hat / ((np.sqrt(v_hat) if root else v_hat) + epsilon))
    return np.array(steps)


def adagrad(gradients: Array) -> Array:
    """g / sqrt(the sum of all g^2 so far)."""
    return np.asarray(gradients / (np.sqrt(np.cumsum(gradients**2)) + 1e-10))


def sound() -> Iterator[tuple[str, Steps]]:
    """Optimisers as their papers have them."""
    for decay in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99):
        yield f"SGD with momentum {decay}", partial(momentum, decay=decay)
        yield f"SGD with Nesterov's momentum {decay}", partial(momentum, decay=decay, nesterov=True)
    for epsilon in (1e-10, 1e-8, 1e-6, 1e-5, 1.5e-4, 1e-3, 1e-2):
        for beta1, beta2 in product((0.9, 0.0, 0.5, 0.8, 0.95, 0.99), (0.999, 0.9, 0.95, 0.98, 0.99, 0.995, 0.9999)):
            yield f"Adam with betas {beta1}, {beta2}", partial(adam, beta1=beta1, beta2=beta2, epsilon=epsilon)
        for decay in (0.9, 0.95, 0.99, 0.995, 0.999):
            yield f"RMSProp with decay {decay}", partial(rmsprop, decay=decay, epsilon=epsilon)
            yield f"centred RMSProp with decay {decay}", partial(rmsprop, decay=decay, epsilon=epsilon, centered=True)
    yield "Adagrad", adagrad


def broken() -> Iterator[tuple[str, str, Steps]]:
    """Adam as it is often got wrong: the finding's name, in words, and its steps."""
    for beta2 in (0.999, 0.99, 0.95):
        wrong = partial(adam, beta2=beta2)
        yield "no_bias_correction", "Adam without bias correction", partial(wrong, correct=(False, False))
        yield "no_bias_correction", "Adam with m uncorrected", partial(wrong, correct=(False, True))
        yield "no_bias_correction", "Adam with v uncorrected", partial(wrong, correct=(True, False))
        yield "counter", "Adam whose counter stays at 1", partial(wrong, count=(1, 0))
        yield "counter", "Adam whose counter is one ahead", partial(wrong, count=(2, 1))
        for arrays in range(2, 13):
            for place in range(1, arrays + 1):
                words = f"Adam whose counter runs on by {arrays} an update"
                yield "counter", words, partial(wrong, count=(place, arrays))
    yield "no_memory", "an optimiser that starts anew with every update", np.sign
