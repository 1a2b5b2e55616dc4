"""What a network is made of: the interface of a layer, and the parameters of all layers in one flat vector.

A layer keeps no arrays of its own. It names the shapes that it needs and works on the arrays that it is given. A
network can therefore keep all its parameters in one vector and allocate all its working memory once.

Notation: x[B, inputs] is a layer's input, y[B, outputs] its output; dx and dy are d loss / dx and d loss / dy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array, Arrays

Activation = Literal["relu", "tanh", "linear"]
Shapes = Mapping[str, tuple[int, ...]]
NOTHING: Shapes = MappingProxyType({})


class Layer(Protocol):
    """A layer: its equation forward, and its derivative backward. Layers inherit from it.

    Attributes:
        outputs: size of y.
        shapes: shapes of its parameters by name.
        noise_shapes: shapes of its noise by name; noise is read like parameters, but not learned.
    """

    outputs: int
    shapes: Shapes = NOTHING
    noise_shapes: Shapes = NOTHING

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        """Return working memory for one forward and backward pass over B = ``rows``."""

    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        """Write the output for x into y."""

    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        """Write the parameters' gradients, and dx unless it is None; dy may be overwritten. Follows ``forward``."""


@dataclass(frozen=True)
class LayerStep:
    """One layer of a network and the arrays that its passes over a batch use."""

    layer: Layer
    parameters: Arrays
    gradients: Arrays
    scratch: Arrays
    y: Array
    dx: Array | None  # None for the first layer: d loss / d obs is not needed


class Optimizer:
    """An optimizer. ``arrays`` (moments [P] by name) and ``updates`` (steps so far) are all its state."""

    moments: tuple[str, ...]

    def __init__(self, size: int, dtype: DTypeLike) -> None:
        self.arrays: Arrays = {name: np.zeros(size, dtype) for name in self.moments}
        self.updates = 0
        self._step = np.empty(size, dtype)

    def step(self, parameters: Array, gradients: Array, learning_rate: float) -> None:
        """Move parameters[P] one step against gradients[P], in place."""
        raise NotImplementedError


class Parameterized:
    """Layers whose parameters and gradients are views into two flat vectors, [P] each.

    Copying, clipping, stepping, saving and comparing are then one operation on one array each.

    Args:
        layers: first to last.
        dtype: float32 to train, float64 to check gradients.
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
        """Make the views of the parameters and gradients."""
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
        """Allocate the working memory of the passes over B = ``rows``."""
        steps: list[LayerStep] = []
        width = self.inputs
        parts = zip(self.layers, self._parameter_views, self.noise, self._gradient_views, strict=True)
        for layer, parameters, noise, gradients in parts:
            dx = np.empty((rows, width), self.dtype) if steps else None
            y = np.empty((rows, layer.outputs), self.dtype)
            steps.append(LayerStep(layer, parameters | noise, gradients, layer.scratch(rows, self.dtype), y, dx))
            width = layer.outputs
        return steps

    def named_parameters(self) -> Arrays:
        """Return views of the parameters by name, ``"0.Dense.weight"`` and so on, in the order of the flat vector."""
        return self._named(self._parameter_views)

    def named_gradients(self) -> Arrays:
        """Return views of the gradients, named as the parameters are."""
        return self._named(self._gradient_views)

    def _named(self, views: list[Arrays]) -> Arrays:
        return {
            f"{index}.{type(layer).__name__}.{name}": view
            for index, (layer, named) in enumerate(zip(self.layers, views, strict=True))
            for name, view in named.items()
        }

    def draw_noise(self, generator: np.random.Generator) -> None:
        """Draw new noise for all noisy layers: f(p) with p ~ N(0, 1) and f(x) = sign(x) sqrt|x|."""
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
        """Return what a copy needs. Views are left out: copied one by one, they would no longer share memory."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()
