"""Learning-rate schedules, gradient clipping and Adam. Clipping and Adam change flat vectors in place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import override

from perilune._utils.arrays import Array
from perilune.nn.backend import compiled
from perilune.nn.base import Optimizer

TINY = 1e-15  # norms from which on the squares do not underflow in float32

Schedule = Literal["constant", "linear", "cosine"]

SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}
"""Schedules by name: progress in [0, 1] -> fraction of the way from the first to the last value."""


def scheduled(schedule: Schedule, start: float, end: float, count: int, span: int) -> float:
    """Return start + (end - start) shape(min(1, count / span)).

    Args:
        schedule: name of the shape: "constant", "linear" or "cosine".
        start: first value.
        end: last value.
        count: number of steps so far.
        span: number of steps after which the value stays at ``end``, >= 1.

    Mnih et al., Nature 518, 2015 (linear). Loshchilov and Hutter, SGDR, arXiv:1608.03983 (cosine, without restarts).
    """
    return start + (end - start) * SHAPES[schedule](min(1.0, count / span))


@np.errstate(over="ignore", under="ignore")
def clip_by_global_norm(gradients: Array, max_norm: float) -> float:
    """Scale ``gradients`` in place to a norm of at most ``max_norm``: g <- g min(1, max_norm / norm(g)).

    Args:
        gradients: g, float [P].
        max_norm: the largest allowed Euclidean norm, > 0.

    Returns:
        The norm before clipping.

    Pascanu et al., On the difficulty of training recurrent neural networks, arXiv:1211.5063.
    """
    norm = math.sqrt(float(np.dot(gradients, gradients)))
    if not TINY < norm < math.inf and (largest := float(np.abs(gradients).max())) > 0 and math.isfinite(largest):
        scaled = gradients / largest  # its squares neither overflow nor underflow
        norm = largest * math.sqrt(float(np.dot(scaled, scaled)))
    if norm > max_norm:
        np.multiply(gradients, max_norm / norm, out=gradients)
    return norm


class Adam(Optimizer):
    """Adam: adaptive moment estimation.

    At step t, counted from 1: m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,
    w <- w - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).

    Args:
        size: P, the number of parameters.
        dtype: dtype of the parameters.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        epsilon: added to the denominator, > 0.

    Kingma and Ba, Adam: A Method for Stochastic Optimization, arXiv:1412.6980.
    """

    moments = ("first_moment", "second_moment")

    def __init__(
        self, size: int, dtype: DTypeLike = np.float32, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(size, dtype)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    @override
    def step(self, parameters: Array, gradients: Array, learning_rate: float) -> None:
        self.updates += 1
        step, first, second = self._step, self.arrays["first_moment"], self.arrays["second_moment"]
        # Both corrections are scalars. Moving them out of the root and the fraction saves two passes over the vector.
        root_correction2 = math.sqrt(1 - self.beta2**self.updates)
        epsilon = self.epsilon * root_correction2
        rate = learning_rate * root_correction2 / (1 - self.beta1**self.updates)
        if (fast := compiled()) is not None:
            fast.adam(parameters, gradients, first, second, self.beta1, self.beta2, rate, epsilon)
            return
        np.multiply(gradients, 1 - self.beta1, out=step)
        np.multiply(first, self.beta1, out=first)
        np.add(first, step, out=first)
        np.square(gradients, out=step)
        np.multiply(step, 1 - self.beta2, out=step)
        np.multiply(second, self.beta2, out=second)
        np.add(second, step, out=second)
        np.sqrt(second, out=step)
        np.add(step, epsilon, out=step)
        np.divide(first, step, out=step)
        np.multiply(step, rate, out=step)
        np.subtract(parameters, step, out=parameters)
