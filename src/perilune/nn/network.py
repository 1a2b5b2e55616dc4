"""Dense layers, ReLU, and a network of layers: the forward and the backward pass.

Notation: x[B, inputs] is a layer's input, y[B, outputs] its output; dx and dy are d loss / dx and d loss / dy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array, Arrays
from perilune.errors import ShapeError
from perilune.nn.base import Layer, LayerStep, Parameterized

MOST_WORKSPACES = 8  # training needs two; more are for q_values of any number of observations


class Dense(Layer):
    """y = x W + b, with W[inputs, outputs] and b[outputs].

    Backward: dW = x^T dy, db = sum of dy over the batch, dx = dy W^T.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.shapes = {"weight": (inputs, outputs), "bias": (outputs,)}

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {"ones": np.ones(rows, dtype)}

    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        np.matmul(x, parameters["weight"], out=y)
        np.add(y, parameters["bias"], out=y)

    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        np.matmul(x.T, dy, out=gradients["weight"])
        np.matmul(scratch["ones"], dy, out=gradients["bias"])  # the sum over the batch, as a faster product
        if dx is not None:
            np.matmul(dy, parameters["weight"].T, out=dx)


class ReLU(Layer):
    """y = max(x, 0). Backward: dx = dy where x > 0, else 0 (also at 0)."""

    def __init__(self, width: int) -> None:
        self.outputs = width

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {"zeros": np.zeros((rows, self.outputs), dtype), "active": np.empty((rows, self.outputs), bool)}

    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        np.maximum(x, scratch["zeros"], out=y)  # four times as fast as with a scalar 0

    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        if dx is not None:
            np.greater(y, 0, out=scratch["active"])
            np.multiply(dy, scratch["active"], out=dx)


class Network(Parameterized):
    """Layers in sequence, whose parameters and gradients are views into two flat vectors, [P] each.

    Working memory is allocated at the first pass over B rows and used again by later ones: the next pass over as many
    rows overwrites what ``forward`` returned.

    Args:
        inputs: O, the size of one observation.
        layers: first to last.
        dtype: float32 to train, float64 to check gradients.
    """

    def _connect(self) -> None:
        super()._connect()
        self._workspaces: dict[int, list[LayerStep]] = {}
        self._last: tuple[Array, list[LayerStep]] | None = None

    @property
    def outputs(self) -> int:
        """The size of one output."""
        return self.layers[-1].outputs

    def forward(self, x: Array) -> Array:
        """Return outputs[B, outputs] for x[B, inputs]: working memory, which the next pass over B rows overwrites.

        Raises:
            ShapeError: x has another shape or dtype.
        """
        if x.ndim != 2 or x.shape[1] != self.inputs or x.dtype != self.dtype:
            raise ShapeError(f"the network needs x[B, {self.inputs}] of {self.dtype}, got {x.dtype}{list(x.shape)}")
        steps = self._workspaces.get(len(x))
        if steps is None:
            if len(self._workspaces) == MOST_WORKSPACES:
                self._workspaces.pop(next(iter(self._workspaces)))  # the oldest
            steps = self._workspaces[len(x)] = self._workspace(len(x))
        self._last = x, steps
        for step in steps:
            step.layer.forward(step.parameters, step.scratch, x, step.y)
            x = step.y
        return x

    def activations(self, x: Array) -> list[tuple[Layer, Array]]:
        """Return each layer with its output for x[B, inputs], first to last. The rest is as in ``forward``."""
        self.forward(x)
        assert self._last is not None
        return [(step.layer, step.y) for step in self._last[1]]

    def backward(self, d_outputs: Array) -> None:
        """Write d loss / d parameters into ``gradients``, given d loss / d outputs of the last ``forward``.

        Gradients are not accumulated. x must not have changed since.

        Raises:
            ShapeError: there was no forward pass, or ``d_outputs`` has another shape than its result.
        """
        if self._last is None:
            raise ShapeError("backward needs a forward pass before it")
        x, steps = self._last
        if d_outputs.shape != steps[-1].y.shape:
            raise ShapeError(f"d_outputs must be {list(steps[-1].y.shape)}, got {list(d_outputs.shape)}")
        dy = d_outputs
        for index in range(len(steps) - 1, -1, -1):
            step = steps[index]
            below = steps[index - 1].y if index else x
            step.layer.backward(step.parameters, step.gradients, step.scratch, below, step.y, dy, step.dx)
            if step.dx is not None:
                dy = step.dx
