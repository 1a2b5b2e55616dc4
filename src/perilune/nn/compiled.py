"""Elementwise operations compiled by Numba. Each reads and writes its arrays once, where NumPy needs several passes.

The functions equal the NumPy code that calls them up to rounding, also for numbers that are not finite. Sums are added
in another order, so results differ in the last bits. On the same processor, they are reproducible bit for bit.

Numba compiles a function at its first call with a dtype, and keeps the code on disk for later processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import override

from perilune._utils.arrays import Array, Arrays
from perilune.nn.base import Layer, LayerStep
from perilune.nn.layers import LayerNorm
from perilune.nn.network import Dense, ReLU

P = ParamSpec("P")
R = TypeVar("R")


def description() -> str:
    """Return the version of Numba and the processor that it compiles for: results depend on both."""
    return f"numba {numba.__version__} ({llvmlite.binding.get_host_cpu_name()})"


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function. Sums may be reordered, but numbers that are not finite keep their meaning."""
    options: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}
    try:
        return cast("Callable[P, R]", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no directory for compiled code is writable
        return cast("Callable[P, R]", numba.njit(**options)(function))


# Layers


@jit
def bias_forward(y: Array, bias: Array, relu: bool) -> None:
    """Compute y <- y + bias in place, then y <- max(y, 0) if ``relu``."""
    rows, width = y.shape
    zero = y.dtype.type(0)
    if relu:
        for i in range(rows):
            for j in range(width):
                value = y[i, j] + bias[j]
                y[i, j] = zero if value <= zero else value  # NaN stays
    else:
        for i in range(rows):
            for j in range(width):
                y[i, j] += bias[j]


@jit
def bias_backward(y: Array, dy: Array, d_bias: Array, relu: bool) -> None:
    """Set dy to 0 in place where the ReLU is inactive if ``relu``, and write the sum over the rows of dy."""
    rows, width = dy.shape
    zero, one = y.dtype.type(0), y.dtype.type(1)
    for j in range(width):
        d_bias[j] = zero
    for i in range(rows):
        if relu:
            for j in range(width):
                value = dy[i, j] * (one if y[i, j] > zero else zero)
                dy[i, j] = value
                d_bias[j] += value
        else:
            for j in range(width):
                d_bias[j] += dy[i, j]


@jit
def norm_forward(
    z: Array, bias: Array, gain: Array, norm_bias: Array, epsilon: float, relu: bool, inverse_s: Array, y: Array
) -> None:
    """Compute LayerNorm of z + bias, then max(y, 0) if ``relu``. Replace z by the normalized values."""
    rows, width = z.shape
    zero, one, size, small = z.dtype.type(0), z.dtype.type(1), z.dtype.type(width), z.dtype.type(epsilon)
    for i in range(rows):
        total = zero
        for j in range(width):
            value = z[i, j] + bias[j]
            z[i, j] = value
            total += value
        mean = total / size
        square = zero
        for j in range(width):
            value = z[i, j] - mean
            z[i, j] = value
            square += value * value
        inverse = one / np.sqrt(square / size + small)
        inverse_s[i, 0] = inverse
        for j in range(width):
            value = z[i, j] * inverse
            z[i, j] = value
            value = value * gain[j] + norm_bias[j]
            y[i, j] = zero if relu and value <= zero else value


@jit
def norm_backward(
    y: Array,
    z: Array,
    inverse_s: Array,
    gain: Array,
    dy: Array,
    relu: bool,
    d_gain: Array,
    d_norm_bias: Array,
    d_bias: Array,
    dx: Array,
) -> None:
    """Write the gradients of ``norm_forward``: of gain, of both biases, and dx, which is also that of z + bias."""
    rows, width = dy.shape
    zero, one, size = dy.dtype.type(0), dy.dtype.type(1), dy.dtype.type(width)
    for j in range(width):
        d_gain[j] = zero
        d_norm_bias[j] = zero
        d_bias[j] = zero
    for i in range(rows):
        # Loops over few arrays: LLVM vectorizes a loop only if it has to compare few addresses before.
        for j in range(width):
            value = dy[i, j] * (zero if relu and not y[i, j] > zero else one)
            dx[i, j] = value
            d_norm_bias[j] += value
        total, product = zero, zero
        for j in range(width):
            value = dx[i, j]
            d_gain[j] += value * z[i, j]
            value *= gain[j]
            dx[i, j] = value
            total += value
            product += value * z[i, j]
        mean, slope, inverse = total / size, product / size, inverse_s[i, 0]
        for j in range(width):
            value = (dx[i, j] - mean - z[i, j] * slope) * inverse
            dx[i, j] = value
            d_bias[j] += value


class Block(Layer):
    """Dense, LayerNorm and ReLU as one layer, with one compiled function before or after the matrix products.

    ReLU may be missing, and so may either Dense or LayerNorm.

    Args:
        steps: the layers, first to last.
    """

    def __init__(self, steps: Sequence[LayerStep]) -> None:
        self.outputs = steps[-1].layer.outputs
        self.norm = next((step.layer for step in steps if isinstance(step.layer, LayerNorm)), None)
        self.relu = isinstance(steps[-1].layer, ReLU)

    @override
    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        sizes = {"z": self.outputs, "inverse_s": 1, "below": self.outputs}
        arrays = {name: np.empty((rows, size), dtype) for name, size in sizes.items()} if self.norm else {}
        return arrays | {"no_bias": np.zeros(self.outputs, dtype), "no_gradient": np.empty(self.outputs, dtype)}

    @override
    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        if self.norm is None:
            np.matmul(x, parameters["weight"], out=y)
            bias_forward(y, parameters["bias"], self.relu)
            return
        z = scratch["z"]
        if "weight" in parameters:
            np.matmul(x, parameters["weight"], out=z)
            bias = parameters["bias"]
        else:
            np.copyto(z, x)
            bias = scratch["no_bias"]
        gain, norm_bias = parameters["gain"], parameters["norm_bias"]
        norm_forward(z, bias, gain, norm_bias, self.norm.epsilon, self.relu, scratch["inverse_s"], y)

    @override
    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        dense = "weight" in gradients
        if self.norm is None:
            below = dy
            bias_backward(y, dy, gradients["bias"], self.relu)
        else:
            below = scratch["below"] if dense or dx is None else dx
            d_bias = gradients["bias"] if dense else scratch["no_gradient"]
            z, inverse_s, gain = scratch["z"], scratch["inverse_s"], parameters["gain"]
            d_gain, d_norm_bias = gradients["gain"], gradients["norm_bias"]
            norm_backward(y, z, inverse_s, gain, dy, self.relu, d_gain, d_norm_bias, d_bias, below)
        if dense:
            np.matmul(x.T, below, out=gradients["weight"])
            if dx is not None:
                np.matmul(below, parameters["weight"].T, out=dx)


def blocks(steps: Sequence[LayerStep]) -> list[LayerStep]:
    """Return the steps of a network, with a ``Block`` instead of each Dense or LayerNorm and the layers after it.

    Args:
        steps: one step per layer. The result uses their arrays.
    """
    groups: list[list[LayerStep]] = []
    for step in steps:
        above = type(groups[-1][-1].layer) if groups else None
        joins = isinstance(step.layer, LayerNorm) and above is Dense
        joins |= isinstance(step.layer, ReLU) and above in (Dense, LayerNorm)
        if joins:
            groups[-1].append(step)
        else:
            groups.append([step])
    return [_block(group) if type(group[0].layer) in (Dense, LayerNorm) else group[0] for group in groups]


def _block(steps: Sequence[LayerStep]) -> LayerStep:
    layer, last = Block(steps), steps[-1]
    parameters, gradients = {}, {}
    for step in steps:
        for name, array in step.parameters.items():
            key = "norm_bias" if name == "bias" and isinstance(step.layer, LayerNorm) else name
            parameters[key], gradients[key] = array, step.gradients[name]
    return LayerStep(layer, parameters, gradients, layer.scratch(len(last.y), last.y.dtype), last.y, steps[0].dx)


# Losses and targets


@jit
def huber(prediction: Array, target: Array, delta: float, d_prediction: Array) -> float:
    """Write the gradient of the Huber loss and return the loss."""
    kind = prediction.dtype.type
    high, half, share, loss = kind(delta), kind(0.5), kind(1 / len(prediction)), kind(0)
    for i in range(len(prediction)):
        error = prediction[i] - target[i]
        clipped = high if error > high else error
        clipped = -high if error < -high else clipped
        d_prediction[i] = clipped * share
        loss += clipped * (error - half * clipped)
    return float(loss) / len(prediction)


@jit
def quantile_huber(
    quantiles: Array, target: Array, tau: Array, kappa: float, scale: float, d_quantiles: Array
) -> float:
    """Write the gradient of the quantile loss and return the loss. ``tau`` [N] is of the dtype of the quantiles."""
    rows, n = quantiles.shape
    m = target.shape[1]
    zero, one, half = quantiles.dtype.type(0), quantiles.dtype.type(1), quantiles.dtype.type(0.5)
    high, factor = quantiles.dtype.type(kappa), quantiles.dtype.type(-scale)
    loss = 0.0
    for i in range(rows):
        for j in range(n):
            quantile, above, below = quantiles[i, j], tau[j], one - tau[j]
            slopes, losses = zero, zero
            for k in range(m):
                error = target[i, k] - quantile
                clipped = high if error > high else error
                clipped = -high if error < -high else clipped
                weighted = clipped * (below if error < zero else above)
                slopes += weighted
                losses += weighted * (error - half * clipped)
            d_quantiles[i, j] = slopes * factor
            loss += losses
    return loss * scale


@jit
def soft_policy(
    q_values: Array,
    next_q_values: Array,
    action: Array,
    reward: Array,
    discount: Array,
    temperature: float,
    share: float,
    floor: float,
    paid: Array,
    policy: Array,
) -> None:
    """Write the Munchausen reward [B], and the soft policy at next_obs [B, A]."""
    rows, actions = q_values.shape
    kind = q_values.dtype.type
    zero, heat, part, least = kind(0), kind(temperature), kind(share), kind(floor)
    for i in range(rows):
        best = _largest(q_values[i])
        total = zero
        for a in range(actions):
            total += math.exp((q_values[i, a] - best) / heat)
        own = heat * ((q_values[i, action[i]] - best) / heat - math.log(total))
        best = _largest(next_q_values[i])
        total = zero
        for a in range(actions):
            power = math.exp((next_q_values[i, a] - best) / heat)
            policy[i, a] = power
            total += power
        entropy, log_total = zero, math.log(total)
        for a in range(actions):
            probability = policy[i, a] / total
            policy[i, a] = probability
            entropy -= probability * ((next_q_values[i, a] - best) / heat - log_total)
        paid[i] = reward[i] + part * (least if own < least else own) + discount[i] * (heat * entropy)


@jit
def _largest(row: Array) -> float:
    best: float = row[0]
    for value in row:
        if value > best or value != value:  # noqa: PLR0124 -- NaN, as in NumPy
            best = value
    return best


@jit
def mirror(
    obs: Array, next_obs: Array, action: Array, index: Array, sign: Array, action_index: Array, row: Array
) -> None:
    """Mirror all rows in place (``replay.symmetry``). ``row`` [O] is working memory."""
    rows, size = obs.shape
    for i in range(rows):
        action[i] = action_index[action[i]]
        for array in (obs, next_obs):
            for j in range(size):
                row[j] = array[i, index[j]] * sign[j]
            for j in range(size):
                array[i, j] = row[j]


# Optimizers


@jit
def adam(
    parameters: Array,
    gradients: Array,
    first: Array,
    second: Array,
    beta1: float,
    beta2: float,
    step: float,
    epsilon: float,
) -> None:
    """Update both moments and the parameters. ``step`` and ``epsilon`` contain the corrections of the moments."""
    kind = parameters.dtype.type
    keep1, add1, keep2, add2 = kind(beta1), kind(1 - beta1), kind(beta2), kind(1 - beta2)
    factor, small = kind(step), kind(epsilon)
    for i in range(parameters.size):
        gradient = gradients[i]
        mean = keep1 * first[i] + add1 * gradient
        square = keep2 * second[i] + add2 * (gradient * gradient)
        first[i] = mean
        second[i] = square
        parameters[i] -= factor * (mean / (np.sqrt(square) + small))


@jit
def move(follower: Array, parameters: Array, share: float) -> None:
    """Update ``follower``: follower <- follower + share (parameters - follower)."""
    part = follower.dtype.type(share)
    for i in range(follower.size):
        follower[i] += part * (parameters[i] - follower[i])
