"""Gradient checks: compare hand-written derivatives with central differences.

(f(x + h) - f(x - h)) / 2h differs from the derivative by a multiple of h^2, so in float64 a correct gradient agrees to
about nine digits. A gradient with a wrong factor, sign or transpose agrees in none.

Every check returns relative errors by name: the largest |analytic - numerical| over the largest |numerical| of an
array. If a kink of ReLU or Huber lies within h of a value, the two differ although both are right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ShapeError
from perilune.nn.base import Layer
from perilune.nn.network import Network

STEP = 1e-5
TOLERANCE = 1e-6
"""A relative error below this is rounding; above it, the gradient is wrong."""


def numerical_gradient(function: Callable[[], float], x: Array, step: float = STEP) -> Array:
    """d function / dx by central differences, the shape of x.

    Args:
        function: reads x, gives a number; called twice for every element.
        x: float64; changed element by element and put back.
        step: h, in units of x.

    Raises:
        ShapeError: x is not float64, in which the differences would drown in rounding.
    """
    if x.dtype != np.float64:
        raise ShapeError(f"gradients are checked in float64, got {x.dtype}")
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + step
        above = function()
        x[index] = value - step
        below = function()
        x[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def relative_error(analytic: Array, numerical: Array) -> float:
    """Largest |analytic - numerical| over the largest |numerical|; 0 where both are zero everywhere."""
    difference = float(np.abs(analytic - numerical).max(initial=0.0))
    scale = float(np.abs(numerical).max(initial=0.0))
    return difference / max(scale, 1e-8)


def gradcheck(function: Callable[[], float], x: Array, analytic: Array) -> float:
    """Relative error of ``analytic`` as the gradient of ``function`` at x. Below ``TOLERANCE`` it is right."""
    if analytic.shape != x.shape:
        raise ShapeError(f"the gradient has shape {list(analytic.shape)}, but x has {list(x.shape)}")
    return relative_error(analytic, numerical_gradient(function, x))


def check_layer(layer: Layer, inputs: int, rows: int, generator: np.random.Generator) -> dict[str, float]:
    """Relative errors of a layer's gradients, for x and for every parameter, at values drawn at random.

    The loss is the sum of y times fixed random weights, so that every element of dy differs.
    """
    parameters = {name: generator.normal(size=shape) for name, shape in layer.shapes.items()}
    gradients = {name: np.full(shape, np.nan) for name, shape in layer.shapes.items()}
    scratch = layer.scratch(rows, np.float64)
    x, y = generator.normal(size=(rows, inputs)), np.empty((rows, layer.outputs))
    weights = generator.normal(size=y.shape)

    def loss() -> float:
        layer.forward(parameters, scratch, x, y)
        return float(np.sum(y * weights))

    loss()
    dx = np.full_like(x, np.nan)
    layer.backward(parameters, gradients, scratch, x, y, weights.copy(), dx)
    analytic = {"x": dx} | gradients
    return {name: gradcheck(loss, value, analytic[name]) for name, value in ({"x": x} | parameters).items()}


def check_loss(
    loss: Callable[[Array, Array], tuple[float, Array]], prediction: Array, target: Array
) -> dict[str, float]:
    """Relative error of the gradient that ``loss(prediction[B], target[B])`` gives beside its value."""
    _, analytic = loss(prediction, target)
    return {"prediction": gradcheck(lambda: loss(prediction, target)[0], prediction, analytic)}


def check_network(network: Network, x: Array, d_outputs: Array) -> dict[str, float]:
    """Relative errors of every parameter's gradient of a float64 network, for the loss sum(outputs * d_outputs).

    Args:
        network: its gradients are overwritten, its parameters put back.
        x: [B, inputs] in float64.
        d_outputs: [B, outputs] in float64.
    """
    network.forward(x)
    network.backward(d_outputs.copy())
    analytic = {name: gradient.copy() for name, gradient in network.named_gradients().items()}

    def loss() -> float:
        return float(np.sum(network.forward(x) * d_outputs))

    return {name: gradcheck(loss, value, analytic[name]) for name, value in network.named_parameters().items()}
