"""Tanh, layer normalization, noisy and dueling layers, and ``mlp``, which builds networks of layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import override

from perilune._utils.arrays import Array, Arrays
from perilune.errors import ConfigError
from perilune.nn.base import Activation, Layer
from perilune.nn.network import Dense, Network, ReLU


class NoisyDense(Layer):
    """A dense layer with noise of a learned scale on its weights: y = x (W + S * N) + b + s * n.

    S[inputs, outputs] and s[outputs] are the learned scales, and * multiplies element by element. N = f(p) f(q)^T and
    n = f(q), with f(z) = sign(z) sqrt(abs(z)), where p[inputs] and q[outputs] are draws from N(0, 1). The network
    stores f(p) and f(q). While they are 0, the layer equals a dense layer.

    Backward: as a dense layer with the weights W + S * N; dS = dW * N, ds = db * n.

    Args:
        inputs: size of x.
        outputs: size of y.

    Fortunato et al., Noisy Networks for Exploration, arXiv:1706.10295.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.shapes = {
            "weight": (inputs, outputs),
            "bias": (outputs,),
            "weight_sigma": (inputs, outputs),
            "bias_sigma": (outputs,),
        }
        self.noise_shapes = {"noise_in": (inputs,), "noise_out": (outputs,)}

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {
            "ones": np.ones(rows, dtype),
            "noise": np.empty((self.inputs, self.outputs), dtype),
            "weight": np.empty((self.inputs, self.outputs), dtype),
        }

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        noise, weight = scratch["noise"], scratch["weight"]
        np.multiply(parameters["noise_in"][:, None], parameters["noise_out"], out=noise)
        np.multiply(parameters["weight_sigma"], noise, out=weight)
        np.add(weight, parameters["weight"], out=weight)
        np.matmul(x, weight, out=y)
        np.add(y, parameters["bias"] + parameters["bias_sigma"] * parameters["noise_out"], out=y)

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        np.matmul(x.T, dy, out=gradients["weight"])
        np.matmul(scratch["ones"], dy, out=gradients["bias"])
        np.multiply(gradients["weight"], scratch["noise"], out=gradients["weight_sigma"])
        np.multiply(gradients["bias"], parameters["noise_out"], out=gradients["bias_sigma"])
        if dx is not None:
            np.matmul(dy, scratch["weight"].T, out=dx)


class Tanh(Layer):
    """The hyperbolic tangent: y = tanh(x). Backward: dx = dy (1 - y^2).

    Args:
        width: size of x and y.
    """

    def __init__(self, width: int) -> None:
        self.outputs = width

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {"slope": np.empty((rows, self.outputs), dtype)}

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        np.tanh(x, out=y)

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        if dx is not None:
            slope = scratch["slope"]
            np.square(y, out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(dy, slope, out=dx)


class LayerNorm(Layer):
    """Layer normalization: y = gain * z + bias, with z = (x - mean) / s and s = sqrt(variance + epsilon).

    The mean and the variance are computed for each row of x.

    Backward: dgain = sum over B of dy z, dbias = sum over B of dy, dz = dy gain,
    dx = (dz - mean(dz) - z mean(dz z)) / s.

    Args:
        width: size of x and y.

    Ba, Kiros and Hinton, Layer Normalization, arXiv:1607.06450.
    """

    epsilon = 1e-5

    def __init__(self, width: int) -> None:
        self.outputs = width
        self.shapes = {"gain": (width,), "bias": (width,)}

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {
            "z": np.empty((rows, self.outputs), dtype),
            "product": np.empty((rows, self.outputs), dtype),
            "inverse_s": np.empty((rows, 1), dtype),
            "row_mean": np.empty((rows, 1), dtype),
            "mean_of_row": np.full((self.outputs, 1), 1 / self.outputs, dtype),
            "ones": np.ones(rows, dtype),
        }

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        z, product, inverse_s, row_mean = (scratch[k] for k in ("z", "product", "inverse_s", "row_mean"))
        np.matmul(x, scratch["mean_of_row"], out=row_mean)
        np.subtract(x, row_mean, out=z)
        np.square(z, out=product)
        np.matmul(product, scratch["mean_of_row"], out=inverse_s)
        np.add(inverse_s, self.epsilon, out=inverse_s)
        np.sqrt(inverse_s, out=inverse_s)
        np.divide(1, inverse_s, out=inverse_s)
        np.multiply(z, inverse_s, out=z)
        np.multiply(z, parameters["gain"], out=y)
        np.add(y, parameters["bias"], out=y)

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        z, product, inverse_s, row_mean = (scratch[k] for k in ("z", "product", "inverse_s", "row_mean"))
        np.multiply(dy, z, out=product)
        np.matmul(scratch["ones"], product, out=gradients["gain"])
        np.matmul(scratch["ones"], dy, out=gradients["bias"])
        if dx is not None:
            np.multiply(dy, parameters["gain"], out=dx)  # dz
            np.multiply(dx, z, out=product)
            np.matmul(dx, scratch["mean_of_row"], out=row_mean)
            np.subtract(dx, row_mean, out=dx)
            np.matmul(product, scratch["mean_of_row"], out=row_mean)
            np.multiply(z, row_mean, out=product)
            np.subtract(dx, product, out=dx)
            np.multiply(dx, inverse_s, out=dx)


class Dueling(Layer):
    """Combine the value of a state and the advantages of its actions: y_a = v + u_a - mean over actions of u.

    Each row of x[B, (1 + A) N] holds v[N], then u[A, N]. Each row of y[B, A N] holds y[A, N]. N is the number of
    outputs per action. If the mean were not subtracted, v and u would not be unique.

    Backward: dv = sum over a of dy_a, du_a = dy_a - mean over actions of dy.

    Args:
        actions: A, the number of actions.
        atoms: N, the number of outputs per action.

    Wang et al., Dueling Network Architectures for Deep Reinforcement Learning, arXiv:1511.06581. In the paper, each
    stream has its own hidden layers. Here, the streams split after the last hidden layer.
    """

    def __init__(self, actions: int, atoms: int) -> None:
        self.actions = actions
        self.atoms = atoms
        self.outputs = actions * atoms

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {}

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        value, advantage = x[:, None, : self.atoms], x[:, self.atoms :].reshape(-1, self.actions, self.atoms)
        out = y.reshape(advantage.shape)
        np.subtract(advantage, advantage.mean(axis=1, keepdims=True), out=out)
        np.add(out, value, out=out)

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        if dx is not None:
            dy = dy.reshape(-1, self.actions, self.atoms)
            total = dy.sum(axis=1)
            dx[:, : self.atoms] = total
            dx[:, self.atoms :] = (dy - (total / self.actions)[:, None, :]).reshape(len(dx), -1)


ACTIVATIONS: dict[str, type[ReLU] | type[Tanh]] = {"relu": ReLU, "tanh": Tanh}


class Scale(Layer):
    """A constant factor: y = factor x. Backward: dx = factor dy.

    Args:
        width: size of x and y.
        factor: the factor, or one for each entry of x, [width] of the dtype of the network.
    """

    def __init__(self, width: int, factor: float | Array) -> None:
        self.outputs = width
        self.factor = factor

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {}

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        np.multiply(x, self.factor, out=y)

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        if dx is not None:
            np.multiply(dy, self.factor, out=dx)


def mlp(
    inputs: int,
    hidden: Sequence[tuple[int, Activation]],
    actions: int,
    *,
    atoms: int = 1,
    layer_norm: bool = False,
    dueling: bool = False,
    noisy: bool = False,
    input_scale: Sequence[float] | None = None,
    output_scale: float = 1.0,
    dtype: DTypeLike = np.float32,
) -> Network:
    """Build a multilayer perceptron: [Scale], Dense, [LayerNorm], activation, ..., Dense, [Dueling], [Scale].

    Args:
        inputs: O, the size of an observation.
        hidden: (units, activation) of each hidden layer.
        actions: A, the number of actions.
        atoms: N, the number of outputs per action.
        layer_norm: put a LayerNorm between each hidden Dense and its activation.
        dueling: add a Dueling layer at the end.
        noisy: use NoisyDense instead of Dense.
        input_scale: numbers by which a Scale layer at the beginning divides the inputs, [O]. None adds no layer.
        output_scale: factor of the outputs. Unless it is 1, add a Scale layer at the end.
        dtype: float32 for training, float64 for gradient checks.

    Returns:
        A network with A N linear outputs, ordered by action. All parameters are 0.

    Raises:
        ConfigError: an activation does not exist.

    Example:
        >>> network = mlp(4, [(64, "relu")], 2)
        >>> network.forward(np.zeros((3, 4), np.float32)).shape
        (3, 2)
    """
    dense = NoisyDense if noisy else Dense
    layers: list[Layer] = []
    if input_scale is not None:
        layers.append(Scale(inputs, 1 / np.array(input_scale, dtype)))
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
    if output_scale != 1:
        layers.append(Scale(actions * atoms, output_scale))
    return Network(inputs, layers, dtype)
