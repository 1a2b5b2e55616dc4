"""More layers (tanh, layer normalisation, noisy and dueling layers), and networks built from all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array, Arrays
from perilune.errors import ConfigError
from perilune.nn.base import Activation, Layer
from perilune.nn.network import Dense, Network, ReLU


class NoisyDense(Layer):
    """A dense layer whose weights carry noise of a learned size: y = x (W + S * N) + b + s * n.

    S, s are the sizes; N = f(p) f(q)^T and n = f(q), with f(x) = sign(x) sqrt|x|, come from standard normal draws for
    the inputs, p[inputs], and the outputs, q[outputs]. The network keeps f(p) and f(q); while they are 0, this is a
    dense layer.

    Backward: as a dense layer with the noisy weights; dS = dW * N, ds = db * n.

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

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {
            "ones": np.ones(rows, dtype),
            "noise": np.empty((self.inputs, self.outputs), dtype),
            "weight": np.empty((self.inputs, self.outputs), dtype),
        }

    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        noise, weight = scratch["noise"], scratch["weight"]
        np.multiply(parameters["noise_in"][:, None], parameters["noise_out"], out=noise)
        np.multiply(parameters["weight_sigma"], noise, out=weight)
        np.add(weight, parameters["weight"], out=weight)
        np.matmul(x, weight, out=y)
        np.add(y, parameters["bias"] + parameters["bias_sigma"] * parameters["noise_out"], out=y)

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
    """y = tanh(x). Backward: dx = dy (1 - y^2)."""

    def __init__(self, width: int) -> None:
        self.outputs = width

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {"slope": np.empty((rows, self.outputs), dtype)}

    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        np.tanh(x, out=y)

    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        if dx is not None:
            slope = scratch["slope"]
            np.square(y, out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(dy, slope, out=dx)


class LayerNorm(Layer):
    """y = gain * (x - mean) / sqrt(variance + epsilon) + bias, mean and variance over each row.

    With z = (x - mean) / s and s = sqrt(variance + epsilon), backward is
    dgain = sum of dy z, dbias = sum of dy, dz = dy gain, dx = (dz - mean(dz) - z mean(dz z)) / s.

    Ba, Kiros and Hinton, Layer Normalization, arXiv:1607.06450.
    """

    epsilon = 1e-5

    def __init__(self, width: int) -> None:
        self.outputs = width
        self.shapes = {"gain": (width,), "bias": (width,)}

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {
            "z": np.empty((rows, self.outputs), dtype),
            "product": np.empty((rows, self.outputs), dtype),
            "inverse_s": np.empty((rows, 1), dtype),
            "row_mean": np.empty((rows, 1), dtype),
            "mean_of_row": np.full((self.outputs, 1), 1 / self.outputs, dtype),
            "ones": np.ones(rows, dtype),
        }

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
    """Add a state's value and its actions' advantages: y_a = v + u_a - mean over the actions of u.

    x[B, (1 + A) N] holds v[N], then u[A, N]; y[B, A N] holds [A, N]; N is the number of outputs of an action.
    Subtracting the mean makes v and u unique.

    Backward: dv = sum over a of dy_a, du_a = dy_a - mean over the actions of dy.

    Wang et al., Dueling Network Architectures for Deep Reinforcement Learning, arXiv:1511.06581. In the
    paper, each stream has hidden layers of its own; here the streams part after the last hidden layer.
    """

    def __init__(self, actions: int, atoms: int) -> None:
        self.actions = actions
        self.atoms = atoms
        self.outputs = actions * atoms

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return {}

    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        value, advantage = x[:, None, : self.atoms], x[:, self.atoms :].reshape(-1, self.actions, self.atoms)
        out = y.reshape(advantage.shape)
        np.subtract(advantage, advantage.mean(axis=1, keepdims=True), out=out)
        np.add(out, value, out=out)

    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        if dx is not None:
            dy = dy.reshape(-1, self.actions, self.atoms)
            total = dy.sum(axis=1)
            dx[:, : self.atoms] = total
            dx[:, self.atoms :] = (dy - (total / self.actions)[:, None, :]).reshape(len(dx), -1)


ACTIVATIONS: dict[str, type[ReLU] | type[Tanh]] = {"relu": ReLU, "tanh": Tanh}


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
    """Return a multilayer perceptron, its parameters zero: Dense, [LayerNorm], activation, ..., Dense, [Dueling].

    Args:
        inputs: size of one observation.
        hidden: (units, activation) of each hidden layer.
        actions: A. The network has A N linear outputs, those of the first action first.
        atoms: N, the number of outputs of one action.
        layer_norm: put a LayerNorm between each hidden Dense and its activation.
        dueling: add a Dueling layer at the end.
        noisy: use NoisyDense instead of Dense.
        dtype: float32 or float64.

    Raises:
        ConfigError: an activation does not exist.
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
