"""A network is a list of layers over one flat parameter vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array, Arrays
from perilune.errors import ConfigError, ShapeError
from perilune.nn.layers import ACTIVATIONS, Activation, Dense, Dueling, Layer, LayerNorm, NoisyDense

MOST_WORKSPACES = 8  # training needs two; more come from questions about any number of observations


@dataclass(frozen=True)
class Step:
    """One layer of a workspace, with all that its passes touch."""

    layer: Layer
    parameters: Arrays
    gradients: Arrays
    scratch: Arrays
    y: Array
    dx: Array | None  # None for the first layer: nobody asks for d loss / d obs


class Network:
    """Layers one after the other, with their parameters and gradients as views into two flat vectors.

    ``parameters`` and ``gradients`` have shape [P]. Copying, clipping, stepping, saving and comparing a network are
    therefore each one operation on one array. Working memory is allocated at the first pass over a given number of
    rows and used again after that: the array that ``forward`` returns is overwritten by the next pass over as many
    rows.

    Args:
        inputs: size O of one observation.
        layers: the layers, first to last.
        dtype: float32 to train, float64 to check gradients.
    """

    def __init__(self, inputs: int, layers: Sequence[Layer], dtype: DTypeLike = np.float32) -> None:
        self.inputs = inputs
        self.layers = tuple(layers)
        self.dtype = np.dtype(dtype)
        size = sum(int(np.prod(shape)) for layer in layers for shape in layer.shapes.values())
        self.parameters = np.zeros(size, dtype)
        self.gradients = np.zeros(size, dtype)
        self._parameter_views = self._views(self.parameters)
        self._gradient_views = self._views(self.gradients)
        # Not parameters: nothing is learned here, and while it is 0 the weights are without noise.
        self._noise = [
            {name: np.zeros(shape, dtype) for name, shape in layer.noise_shapes.items()}
            if isinstance(layer, NoisyDense)
            else {}
            for layer in layers
        ]
        self._workspaces: dict[int, list[Step]] = {}
        self._last: tuple[Array, list[Step]] | None = None

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

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

    def named_parameters(self) -> Arrays:
        """Views of the parameters by name, ``"0.Dense.weight"`` and so on, in the order of the flat vector."""
        return self._named(self._parameter_views)

    def named_gradients(self) -> Arrays:
        """Views of the gradients, named as the parameters are."""
        return self._named(self._gradient_views)

    def _named(self, views: list[Arrays]) -> Arrays:
        return {
            f"{index}.{type(layer).__name__}.{name}": view
            for index, (layer, named) in enumerate(zip(self.layers, views, strict=True))
            for name, view in named.items()
        }

    def draw_noise(self, generator: np.random.Generator) -> None:
        """Draw the noise of all noisy layers anew: f(p), f(q) with p, q ~ N(0, 1) and f(x) = sign(x) sqrt|x|."""
        for arrays in self._noise:
            for array in arrays.values():
                drawn = generator.standard_normal(array.shape, np.float32)
                array[...] = np.copysign(np.sqrt(np.abs(drawn)), drawn)

    def silence(self) -> None:
        """Set the noise to 0, so that the network gives what its weights alone say."""
        for arrays in self._noise:
            for array in arrays.values():
                array.fill(0)

    def _workspace(self, rows: int) -> list[Step]:
        steps: list[Step] = []
        width = self.inputs
        parts = zip(self.layers, self._parameter_views, self._noise, self._gradient_views, strict=True)
        for layer, parameters, noise, gradients in parts:
            dx = np.empty((rows, width), self.dtype) if steps else None
            y = np.empty((rows, layer.outputs), self.dtype)
            steps.append(Step(layer, parameters | noise, gradients, layer.scratch(rows, self.dtype), y, dx))
            width = layer.outputs
        return steps

    def forward(self, x: Array) -> Array:
        """Outputs[B, outputs] for x[B, inputs]. The result is working memory: copy what must outlive the next pass.

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
        """Every layer and what it gives for x[B, inputs], first to last: working memory, as what ``forward`` gives.

        Raises:
            ShapeError: as ``forward``.
        """
        self.forward(x)
        assert self._last is not None
        return [(step.layer, step.y) for step in self._last[1]]

    def backward(self, d_outputs: Array) -> None:
        """Fill ``gradients`` with d loss / d parameters, given d loss / d outputs of the last ``forward``.

        Gradients are written, not added to. x must not have changed since.

        Raises:
            ShapeError: no forward pass came before, or ``d_outputs`` has another shape than its result.
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


def mlp(
    inputs: int,
    hidden: Sequence[tuple[int, Activation]],
    actions: int,
    *,
    atoms: int = 1,
    layer_norm: bool = False,
    dueling: bool = False,
    noisy: bool = False,
    dtype: DTypeLike = np.float32,
) -> Network:
    """A multilayer perceptron with parameters still zero: Dense, [LayerNorm], activation, ..., Dense, [Dueling].

    Args:
        inputs: size of one observation.
        hidden: (units, activation) per hidden layer.
        actions: A; the network has A N outputs, linear, those of the first action first.
        atoms: N, the outputs of one action.
        layer_norm: put a LayerNorm between each hidden Dense and its activation.
        dueling: let the outputs be a value and advantages.
        noisy: NoisyDense in every Dense's place.
        dtype: float32 or float64.

    Raises:
        ConfigError: there is no such activation.
    """
    dense = NoisyDense if noisy else Dense
    layers: list[Layer] = []
    width = inputs
    for units, activation in hidden:
        layers.append(dense(width, units))
        if layer_norm:
            layers.append(LayerNorm(units))
        if activation != "linear":
            if activation not in ACTIVATIONS:
                raise ConfigError("activation", activation, f"one of linear, {', '.join(ACTIVATIONS)}")
            layers.append(ACTIVATIONS[activation](units))
        width = units
    if dueling:
        layers += [dense(width, (1 + actions) * atoms), Dueling(actions, atoms)]
    else:
        layers.append(dense(width, actions * atoms))
    return Network(inputs, layers, dtype)
