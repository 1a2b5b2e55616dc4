"""Interfaces of layers and optimizers, and one flat vector for the parameters of all layers.

A layer holds no arrays. It declares the shapes of its parameters and works on the arrays that it receives. A network
can therefore keep all parameters in one vector and allocate its working memory once.

Notation: x[B, inputs] is the input of a layer and y[B, outputs] its output. dx and dy are d loss / dx and d loss / dy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array, Arrays
from perilune.nn.backend import compiled

Activation = Literal["relu", "tanh", "linear"]
Shapes = Mapping[str, tuple[int, ...]]
NOTHING: Shapes = MappingProxyType({})


class Layer(ABC):
    """Base class of layers: an equation in ``forward`` and its derivative in ``backward``.

    Attributes:
        outputs: size of y.
        shapes: shapes of the parameters, by name.
        noise_shapes: shapes of the noise, by name. Layers use noise like parameters, but do not learn it.
    """

    outputs: int
    shapes: Shapes = NOTHING
    noise_shapes: Shapes = NOTHING

    @abstractmethod
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        """Allocate the working memory of one forward and one backward pass.

        Args:
            rows: B, the number of rows of the batch.
            dtype: float32 or float64.

        Returns:
            The arrays by name.
        """

    @abstractmethod
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        """Write the output for ``x`` into ``y``.

        Args:
            parameters: parameters and noise, by name.
            scratch: the working memory.
            x: the input, float [B, inputs].
            y: receives the output, float [B, outputs].
        """

    @abstractmethod
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        """Write dx and the gradients of the parameters. Call it after ``forward``, with the same arrays.

        Args:
            parameters: parameters and noise, by name.
            gradients: receives d loss / d parameter, by name.
            scratch: the working memory of ``forward``.
            x: the input, float [B, inputs].
            y: the output, float [B, outputs].
            dy: d loss / dy, float [B, outputs]. The layer may overwrite it.
            dx: receives d loss / dx, float [B, inputs]. If None, dx is not computed.
        """


@dataclass(frozen=True)
class LayerStep:
    """One layer of a network, with the arrays of its passes over a batch.

    Attributes:
        layer: the layer.
        parameters: views of its parameters and noise, by name.
        gradients: views of its gradients, by name.
        scratch: its working memory.
        y: its output, float [B, outputs].
        dx: d loss / dx, float [B, inputs]. None if no layer before has parameters, which would need it.
    """

    layer: Layer
    parameters: Arrays
    gradients: Arrays
    scratch: Arrays
    y: Array
    dx: Array | None


class Optimizer(ABC):
    """Base class of optimizers.

    Args:
        size: P, the number of parameters.
        dtype: dtype of the parameters.

    Attributes:
        arrays: the moments by name, float [P] each.
        updates: number of steps so far. With ``arrays``, this is the complete state.
    """

    moments: tuple[str, ...]

    def __init__(self, size: int, dtype: DTypeLike) -> None:
        self.arrays: Arrays = {name: np.zeros(size, dtype) for name in self.moments}
        self.updates = 0
        self._step = np.empty(size, dtype)

    @abstractmethod
    def step(self, parameters: Array, gradients: Array, learning_rate: float) -> None:
        """Update the parameters in place.

        Args:
            parameters: w, float [P].
            gradients: g = d loss / dw, float [P].
            learning_rate: step size, >= 0.
        """


class Parameterized:
    """Layers whose parameters and gradients are views of two flat vectors.

    Copying, clipping, updating, saving or comparing all parameters is then one operation on one array.

    Args:
        inputs: size of the input of the first layer.
        layers: the layers, first to last.
        dtype: float32 for training, float64 for gradient checks.

    Attributes:
        parameters: all parameters, float [P].
        gradients: d loss / d parameters, float [P].
        noise: the noise of each layer, by name.
    """

    def __init__(self, inputs: int, layers: Sequence[Layer], dtype: DTypeLike = np.float32) -> None:
        self.inputs = inputs
        self.layers = tuple(layers)
        self.dtype = np.dtype(dtype)
        size = sum(int(np.prod(shape)) for layer in layers for shape in layer.shapes.values())
        self.parameters = np.zeros(size, dtype)
        self.gradients = np.zeros(size, dtype)
        self.noise: list[Arrays] = [
            {name: np.zeros(shape, dtype) for name, shape in layer.noise_shapes.items()} for layer in layers
        ]
        self._connect()

    def _connect(self) -> None:
        """Create the views of the parameters and gradients, and working memory."""
        compiled()  # imports Numba now instead of in the first pass
        self._difference = np.empty_like(self.parameters)
        self._parameter_views = self._views(self.parameters)
        self._gradient_views = self._views(self.gradients)

    def _views(self, vector: Array) -> list[Arrays]:
        views: list[Arrays] = []
        start = 0
        for layer in self.layers:
            views.append({})
            for name, shape in layer.shapes.items():
                stop = start + int(np.prod(shape))
                views[-1][name] = vector[start:stop].reshape(shape)
                start = stop
        return views

    def _workspace(self, rows: int) -> list[LayerStep]:
        """Allocate the working memory for passes over ``rows`` rows. The compiled backend joins layers."""
        steps = self._layer_steps(rows)
        module = compiled()
        return steps if module is None else module.blocks(steps)

    def _layer_steps(self, rows: int) -> list[LayerStep]:
        steps: list[LayerStep] = []
        width = self.inputs
        parts = zip(self.layers, self._parameter_views, self.noise, self._gradient_views, strict=True)
        for layer, parameters, noise, gradients in parts:
            dx = np.empty((rows, width), self.dtype) if any(step.gradients for step in steps) else None
            y = np.empty((rows, layer.outputs), self.dtype)
            steps.append(LayerStep(layer, parameters | noise, gradients, layer.scratch(rows, self.dtype), y, dx))
            width = layer.outputs
        return steps

    def activations(self, x: Array) -> list[tuple[Layer, Array]]:
        """Return each layer with its output, first to last. This pass does not use the compiled backend.

        Args:
            x: the input, float [B, inputs].
        """
        found: list[tuple[Layer, Array]] = []
        for step in self._layer_steps(len(x)):
            step.layer.forward(step.parameters, step.scratch, x, step.y)
            x = step.y
            found.append((step.layer, x))
        return found

    def move(self, goal: Parameterized, share: float) -> None:
        """Move the parameters towards those of another network: w <- w + share (goal - w).

        Args:
            goal: the other network, with the same layers.
            share: in [0, 1].
        """
        if (fast := compiled()) is not None:
            fast.move(self.parameters, goal.parameters, share)
            return
        np.subtract(goal.parameters, self.parameters, out=self._difference)
        np.multiply(self._difference, share, out=self._difference)
        np.add(self.parameters, self._difference, out=self.parameters)

    def named_parameters(self) -> Arrays:
        """Return views of the parameters by name ("0.Dense.weight", ...), in the order of the flat vector."""
        return self._named(self._parameter_views)

    def named_gradients(self) -> Arrays:
        """Return views of the gradients, by the names of the parameters."""
        return self._named(self._gradient_views)

    def _named(self, views: list[Arrays]) -> Arrays:
        return {
            f"{index}.{type(layer).__name__}.{name}": view
            for index, (layer, named) in enumerate(zip(self.layers, views, strict=True))
            for name, view in named.items()
        }

    def draw_noise(self, generator: np.random.Generator) -> None:
        """Draw new noise f(z) for all noisy layers, with z ~ N(0, 1) and f(z) = sign(z) sqrt(abs(z)).

        Args:
            generator: source of the noise.
        """
        for arrays in self.noise:
            for array in arrays.values():
                drawn = generator.standard_normal(array.shape, np.float32)
                array[...] = np.copysign(np.sqrt(np.abs(drawn)), drawn)

    def silence(self) -> None:
        """Set all noise to 0."""
        for arrays in self.noise:
            for array in arrays.values():
                array.fill(0)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, without views: copied views would not share memory with the vector."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()
