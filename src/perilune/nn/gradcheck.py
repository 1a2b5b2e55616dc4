"""Gradient checks: compare hand-written derivatives with central differences.

(f(x + h) - f(x - h)) / 2h differs from the derivative by a multiple of h^2. In float64, a correct gradient agrees to
about nine digits. A gradient with a wrong factor, sign or transpose does not agree at all.

A check returns relative errors by name: the largest abs(analytic - numerical) over the largest abs(numerical) of an
array. If a value lies within h of a kink of ReLU or Huber, the error is large although the gradient is correct.
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
"""Relative errors below this are due to rounding. With a larger error, the gradient is wrong."""


def numerical_gradient(function: Callable[[], float], x: Array, step: float = STEP) -> Array:
    """Compute d function / dx by central differences.

    Args:
        function: returns a number that depends on the current content of ``x``. It is called twice per element.
        x: float64. Each element is changed and restored.
        step: h, in units of x.

    Returns:
        The gradient, float64, with the same shape as x.

    Raises:
        ShapeError: ``x`` is not float64. In float32, rounding errors exceed the differences.
    """
    if x.dtype != np.float64:
        raise ShapeError(f"x must be float64 for a gradient check, got {x.dtype}")
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
    """Return the largest abs(analytic - numerical) over the largest abs(numerical); 0 if both are 0.

    Args:
        analytic: the gradient to check.
        numerical: the gradient by central differences, with the same shape.
    """
    difference = float(np.abs(analytic - numerical).max(initial=0.0))
    scale = float(np.abs(numerical).max(initial=0.0))
    return difference / max(scale, 1e-8)


def gradcheck(function: Callable[[], float], x: Array, analytic: Array) -> float:
    """Return the relative error of a gradient. The gradient is correct if the error is below ``TOLERANCE``.

    Args:
        function: returns a number that depends on the current content of ``x``.
        x: float64.
        analytic: the gradient to check, with the same shape as x.

    Raises:
        ShapeError: the shapes differ, or ``x`` is not float64.

    Example:
        >>> x = np.array([1.0, 2.0])
        >>> gradcheck(lambda: float(x @ x), x, 2 * x) < TOLERANCE
        True
    """
    if analytic.shape != x.shape:
        raise ShapeError(f"the gradient has shape {list(analytic.shape)}, but x has {list(x.shape)}")
    return relative_error(analytic, numerical_gradient(function, x))


def check_layer(layer: Layer, inputs: int, rows: int, generator: np.random.Generator) -> dict[str, float]:
    """Return the relative errors of the gradients of a layer, for x and for every parameter.

    The loss is the sum of y times fixed random weights, so that all elements of dy differ.

    Args:
        layer: the layer.
        inputs: size of x.
        rows: B.
        generator: source of random inputs and parameters.
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
    """Return the relative error of the gradient of a loss, under the name "prediction".

    Args:
        loss: returns the value and the gradient for (prediction, target).
        prediction: float64 [B].
        target: float64 [B].
    """
    _, analytic = loss(prediction, target)
    return {"prediction": gradcheck(lambda: loss(prediction, target)[0], prediction, analytic)}


def check_network(network: Network, x: Array, d_outputs: Array) -> dict[str, float]:
    """Return the relative error of the gradient of every parameter, for the loss sum(outputs * d_outputs).

    Args:
        network: a float64 network. Its gradients are overwritten and its parameters restored.
        x: float64 [B, inputs].
        d_outputs: float64 [B, outputs].
    """
    network.forward(x)
    network.backward(d_outputs.copy())
    analytic = {name: gradient.copy() for name, gradient in network.named_gradients().items()}

    def loss() -> float:
        return float(np.sum(network.forward(x) * d_outputs))

    return {name: gradcheck(loss, value, analytic[name]) for name, value in network.named_parameters().items()}
