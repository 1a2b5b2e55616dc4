"""Optimizers other than Adam: stochastic gradient descent, RMSProp and AdamW."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import override

from perilune._utils.arrays import Array
from perilune.nn.adam import Adam
from perilune.nn.base import Optimizer

OptimizerName = Literal["sgd", "rmsprop", "adam", "adamw"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v <- momentum v + g, w <- w - learning_rate v.

    Args:
        size: P, the number of parameters.
        dtype: dtype of the parameters.
        momentum: decay of the velocity v, in [0, 1].

    Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """

    moments = ("velocity",)

    def __init__(self, size: int, dtype: DTypeLike = np.float32, momentum: float = 0.0) -> None:
        super().__init__(size, dtype)
        self.momentum = momentum

    @override
    def step(self, parameters: Array, gradients: Array, learning_rate: float) -> None:
        self.updates += 1
        velocity = self.arrays["velocity"]
        np.multiply(velocity, self.momentum, out=velocity)
        np.add(velocity, gradients, out=velocity)
        np.multiply(velocity, learning_rate, out=self._step)
        np.subtract(parameters, self._step, out=parameters)


class RMSProp(Optimizer):
    """RMSProp: v <- rho v + (1 - rho) g^2, w <- w - learning_rate g / (sqrt(v) + epsilon).

    Args:
        size: P, the number of parameters.
        dtype: dtype of the parameters.
        rho: decay of the second moment v, in [0, 1).
        epsilon: added to the denominator, > 0.

    Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.
    """

    moments = ("second_moment",)

    def __init__(self, size: int, dtype: DTypeLike = np.float32, rho: float = 0.99, epsilon: float = 1e-8) -> None:
        super().__init__(size, dtype)
        self.rho = rho
        self.epsilon = epsilon

    @override
    def step(self, parameters: Array, gradients: Array, learning_rate: float) -> None:
        self.updates += 1
        step, second = self._step, self.arrays["second_moment"]
        np.square(gradients, out=step)
        np.multiply(step, 1 - self.rho, out=step)
        np.multiply(second, self.rho, out=second)
        np.add(second, step, out=second)
        np.sqrt(second, out=step)
        np.add(step, self.epsilon, out=step)
        np.divide(gradients, step, out=step)
        np.multiply(step, learning_rate, out=step)
        np.subtract(parameters, step, out=parameters)


class AdamW(Adam):
    """Adam with decoupled weight decay: w <- w (1 - learning_rate weight_decay), then a step of Adam.

    Args:
        size: P, the number of parameters.
        dtype: dtype of the parameters.
        weight_decay: strength of the decay, >= 0.

    Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101.
    """

    def __init__(self, size: int, dtype: DTypeLike = np.float32, weight_decay: float = 0.01) -> None:
        super().__init__(size, dtype)
        self.weight_decay = weight_decay

    @override
    def step(self, parameters: Array, gradients: Array, learning_rate: float) -> None:
        np.multiply(parameters, 1 - learning_rate * self.weight_decay, out=parameters)
        super().step(parameters, gradients, learning_rate)
