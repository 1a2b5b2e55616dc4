"""Dense layers, ReLU, and a network of layers: the forward and the backward pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import override

from perilune._utils.arrays import Array, Arrays
from perilune.errors import ShapeError
from perilune.nn.base import Layer, LayerStep, Parameterized

MOST_WORKSPACES = 8  # training needs two; q_values may need any number


class Dense(Layer):
    """A dense layer: y = x W + b, with W[inputs, outputs] and b[outputs].

    Backward: dW = x^T dy, db = sum over B of dy, dx = dy W^T.

    Args:
        inputs: size of x.
        outputs: size of y.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.shapes = {"weight": (inputs, outputs), "bias": (outputs,)}

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {"ones": np.ones(rows, dtype)}

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        np.matmul(x, parameters["weight"], out=y)
        np.add(y, parameters["bias"], out=y)

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        np.matmul(x.T, dy, out=gradients["weight"])
        np.matmul(scratch["ones"], dy, out=gradients["bias"])  # the sum over the batch, as a faster product
        if dx is not None:
            np.matmul(dy, parameters["weight"].T, out=dx)


class ReLU(Layer):
    """The rectified linear unit: y = max(x, 0). Backward: dx = dy where x > 0, else 0 (also at 0).

    Args:
        width: size of x and y.
    """

    def __init__(self, width: int) -> None:
        self.outputs = width

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {"zeros": np.zeros((rows, self.outputs), dtype), "active": np.empty((rows, self.outputs), bool)}

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        np.maximum(x, scratch["zeros"], out=y)  # four times as fast as with a scalar 0

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        if dx is not None:
            np.greater(y, 0, out=scratch["active"])
            np.multiply(dy, scratch["active"], out=dx)


class Network(Parameterized):
    """A sequence of layers. Parameters and gradients are views of two flat vectors, float [P] each.

    The first pass over B rows allocates the working memory. Later passes over B rows reuse it and overwrite the array
    that ``forward`` returned.

    Args:
        inputs: O, the size of an observation.
        layers: the layers, first to last.
        dtype: float32 for training, float64 for gradient checks.
    """

    def _connect(self) -> None:
        super()._connect()
        self._workspaces: dict[int, list[LayerStep]] = {}
        self._last: tuple[Array, list[LayerStep]] | None = None

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.layers[-1].outputs

    def forward(self, x: Array) -> Array:
        """Return the outputs, float [B, outputs]. The next pass over B rows overwrites them.

        Args:
            x: the input, float [B, inputs].

        Raises:
            ShapeError: ``x`` has the wrong shape or dtype.
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

    def backward(self, d_outputs: Array) -> None:
        """Write d loss / d parameters into ``gradients``, replacing earlier gradients.

        Args:
            d_outputs: d loss / d outputs of the last ``forward``, float [B, outputs]. x must not have changed since.

        Raises:
            ShapeError: there was no forward pass, or ``d_outputs`` and its outputs have different shapes.
        """
        if self._last is None:
            raise ShapeError("backward requires a forward pass. Call forward first.")
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
