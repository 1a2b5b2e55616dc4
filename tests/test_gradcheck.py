"""Gradients compared with differences, and the check itself: it accepts correct gradients and detects wrong ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array, Arrays
from perilune.errors import ShapeError
from perilune.nn import (
    Dense,
    LayerNorm,
    Network,
    ReLU,
    Tanh,
    check_layer,
    check_loss,
    check_network,
    gradcheck,
    huber,
    mlp,
    mse,
)
from perilune.nn.base import Activation, Layer
from perilune.nn.gradcheck import TOLERANCE, numerical_gradient, relative_error
from perilune.nn.layers import Scale

pytestmark = pytest.mark.usefixtures("backend")
PLAINLY_WRONG = 1e-3  # a thousand times the tolerance
Loss = Callable[[Array, Array], tuple[float, Array]]

LAYERS: dict[str, Callable[[int], Layer]] = {
    "Dense": lambda width: Dense(width, 3),
    "ReLU": ReLU,
    "Tanh": Tanh,
    "LayerNorm": LayerNorm,
    "Scale": lambda width: Scale(width, np.linspace(0.5, 2, width)),
}


def right(errors: dict[str, float]) -> bool:
    return all(error < TOLERANCE for error in errors.values())


def drawn_network(
    seed: int, hidden: list[tuple[int, Activation]], rows: int, layer_norm: bool = False
) -> tuple[Network, Array, Array]:
    """Return a network with random parameters, x[rows, 3] and d_outputs[rows, 2]."""
    generator = np.random.default_rng(seed)
    network = mlp(3, hidden, 2, layer_norm=layer_norm, dtype=np.float64)
    network.parameters[:] = generator.uniform(-1, 1, network.parameters.shape)
    return network, generator.uniform(-1.5, 1.5, (rows, 3)), generator.normal(size=(rows, 2))


def smooth_around(network: Network, x: Array, noise: int = 0) -> bool:
    """Return whether differences are reliable: no ReLU input is near the kink, and every LayerNorm row has variance.

    ``noise`` is the seed of the noise of noisy layers.
    """
    for index, layer in enumerate(network.layers):
        if isinstance(layer, ReLU | LayerNorm):
            below = Network(network.inputs, network.layers[:index], np.float64)
            below.parameters[:] = network.parameters[: len(below.parameters)]
            below.draw_noise(np.random.default_rng(noise))  # drawn layer by layer, so equal in both networks
            values = below.forward(x)
            if isinstance(layer, ReLU) and np.abs(values).min() < 3e-3:
                return False
            if isinstance(layer, LayerNorm) and values.std(axis=1).min() < 0.2:
                return False
    return True


# Correct gradients


# None of these seeds draws an x near the kink of ReLU.
@settings(deadline=None)
@given(st.sampled_from(list(LAYERS)), st.integers(1, 7), st.integers(1, 6), st.integers(0, 19))
def test_layer_gradients_match_finite_differences(kind: str, rows: int, width: int, seed: int) -> None:
    if kind == "LayerNorm":
        # Of two values, LayerNorm keeps only the sign of their difference, so the gradient is only rounding error.
        width += 2
    layer = LAYERS[kind](width)
    errors = check_layer(layer, width, rows, np.random.default_rng(seed))
    assert errors.keys() == {"x"} | layer.shapes.keys()
    assert right(errors), errors


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["relu", "tanh", "linear"])), max_size=3),
    st.booleans(),
    st.integers(1, 7),
    st.integers(0, 2**32 - 1),
)
def test_network_gradients_match_differences(
    hidden: list[tuple[int, Activation]], layer_norm: bool, rows: int, seed: int
) -> None:
    if layer_norm:
        hidden = [(width + 2, activation) for width, activation in hidden]
    network, x, d_outputs = drawn_network(seed, hidden, rows, layer_norm)
    assume(smooth_around(network, x))
    errors = check_network(network, x, d_outputs)
    assert errors.keys() == network.named_parameters().keys()
    for name, gradient in network.named_gradients().items():
        # Rounding the loss at about 1e-16 changes the difference quotient by 1e-11, a large part of a tiny gradient.
        rounding = errors[name] < 1e-4 and errors[name] * np.abs(gradient).max() < 1e-10
        assert errors[name] < TOLERANCE or rounding, (name, errors[name])


@settings(deadline=None)
@given(
    st.sampled_from([0.1, 0.5, 1.0, 3.0, 50.0]),
    st.lists(st.floats(-10, 10), min_size=1, max_size=7),
    st.integers(0, 2**32 - 1),
)
def test_loss_gradients_match_differences(delta: float, error: list[float], seed: int) -> None:
    e = np.array(error)
    assume(np.abs(np.abs(e) - delta).min() > 1e-4)  # the kink
    assume(np.abs(e).max() > 1e-3)  # otherwise the gradient is only rounding error
    target = np.random.default_rng(seed).normal(size=len(e))
    assert right(check_loss(mse, target + e, target))
    assert right(check_loss(lambda p, t: huber(p, t, delta), target + e, target))


@settings(max_examples=30)
@given(
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from([1.0, 0.3, 4.0]),
    st.sampled_from([None, (1.0, 0.5, 2.0)]), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_noisy_dueling_and_scaled_gradients_match_differences(
    noisy: bool,
    dueling: bool,
    layer_norm: bool,
    output_scale: float,
    input_scale: tuple[float, ...] | None,
    atoms: int,
    rows: int,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    network = mlp(
        3, [(4, "tanh"), (5, "linear")], 2,
        atoms=atoms, layer_norm=layer_norm, dueling=dueling, noisy=noisy, input_scale=input_scale,
        output_scale=output_scale, dtype=np.float64,
    )  # fmt: skip
    network.parameters[:] = generator.uniform(-1, 1, network.parameters.shape)
    network.draw_noise(np.random.default_rng(seed))
    x = generator.uniform(-1.5, 1.5, (rows, 3))
    assume(smooth_around(network, x, seed))
    errors = check_network(network, x, generator.normal(size=(rows, 2 * atoms)))
    assert errors.keys() == network.named_parameters().keys()
    assert sum("sigma" in name for name in errors) == 6 * noisy
    for name, gradient in network.named_gradients().items():
        rounding = errors[name] < 1e-4 and errors[name] * np.abs(gradient).max() < 1e-9
        assert errors[name] < TOLERANCE or rounding, (name, errors[name])


# Wrong gradients


class Broken(Layer):
    """A layer whose backward pass ``spoil`` makes wrong in one way."""

    def __init__(self, layer: Layer, spoil: Callable[[Arrays, Arrays, Array, Array, Array | None], None]) -> None:
        self.layer = layer
        self.outputs = layer.outputs
        self.shapes = layer.shapes
        self.noise_shapes = layer.noise_shapes
        self.spoil = spoil

    def scratch(self, rows: int, dtype: DTypeLike) -> Arrays:
        return self.layer.scratch(rows, dtype)

    def forward(self, parameters: Arrays, scratch: Arrays, x: Array, y: Array) -> None:
        self.layer.forward(parameters, scratch, x, y)

    def backward(
        self, parameters: Arrays, gradients: Arrays, scratch: Arrays, x: Array, y: Array, dy: Array, dx: Array | None
    ) -> None:
        above = dy.copy()
        self.layer.backward(parameters, gradients, scratch, x, y, dy, dx)
        self.spoil(parameters, gradients, x, above, dx)


Spoil = Callable[[Arrays, Arrays, Array, Array, Array | None], None]


def factor(name: str, by: float) -> Spoil:
    def spoil(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
        array = dx if name == "x" else gradients[name]
        assert array is not None
        array *= by

    return spoil


def transposed_weight(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    gradients["weight"][...] = gradients["weight"].T.copy()


def weight_not_transposed_in_dx(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    if dx is not None:
        dx[...] = dy @ parameters["weight"]


def bias_forgotten(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    gradients["bias"][...] = 0


def bias_as_a_mean(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    gradients["bias"][...] = dy.mean(axis=0)


def slope_one_everywhere(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    if dx is not None:
        dx[...] = dy


def another_rows_dy(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    if dx is not None:
        dx[...] = dy[::-1] * (x > 0)


def scale_only(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    if dx is not None:  # as if mean and variance were constants
        dx[...] = dy * parameters["gain"] / x.std(axis=1, keepdims=True)


def one_element(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    gradients["weight"][-1, 0] += 0.1 * np.abs(gradients["weight"]).max()


def one_nan(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    gradients["weight"][0, 0] = np.nan


def one_infinity(parameters: Arrays, gradients: Arrays, x: Array, dy: Array, dx: Array | None) -> None:
    gradients["bias"][0] = np.inf


BREAKAGES: dict[str, tuple[Layer, Spoil, str]] = {
    "weight doubled": (Dense(4, 4), factor("weight", 2.0), "weight"),
    "weight a hundredth off": (Dense(4, 4), factor("weight", 1.01), "weight"),
    "weight negated": (Dense(4, 4), factor("weight", -1.0), "weight"),
    "weight transposed": (Dense(4, 4), transposed_weight, "weight"),
    "weight wrong in one element": (Dense(4, 4), one_element, "weight"),
    "weight NaN in one element": (Dense(4, 4), one_nan, "weight"),
    "bias gradient missing": (Dense(4, 4), bias_forgotten, "bias"),
    "bias is a mean": (Dense(4, 4), bias_as_a_mean, "bias"),
    "bias infinite in one element": (Dense(4, 4), one_infinity, "bias"),
    "dx by W instead of its transpose": (Dense(4, 4), weight_not_transposed_in_dx, "x"),
    "dx negated": (Dense(4, 4), factor("x", -1.0), "x"),
    "ReLU with slope 1 everywhere": (ReLU(4), slope_one_everywhere, "x"),
    "ReLU with the dy of another row": (ReLU(4), another_rows_dy, "x"),
    "Tanh with slope 1 everywhere": (Tanh(4), slope_one_everywhere, "x"),
    "LayerNorm as a scale only": (LayerNorm(4), scale_only, "x"),
    "gain gradient missing": (LayerNorm(4), factor("gain", 0.0), "gain"),
    "LayerNorm's bias halved": (LayerNorm(4), factor("bias", 0.5), "bias"),
}


@pytest.mark.parametrize(("layer", "spoil", "name"), BREAKAGES.values(), ids=BREAKAGES)
def test_gradient_check_fails_only_for_the_faulty_gradient(layer: Layer, spoil: Spoil, name: str) -> None:
    assert right(check_layer(layer, 4, 3, np.random.default_rng(0)))
    errors = check_layer(Broken(layer, spoil), 4, 3, np.random.default_rng(0))
    wrong = errors.pop(name)
    assert not wrong <= PLAINLY_WRONG  # also if it is NaN
    assert right(errors), errors


def test_gradient_check_locates_the_faulty_layer_in_a_network() -> None:
    def network(middle: Layer) -> Network:
        built = Network(3, [Dense(3, 4), middle, Tanh(4), Dense(4, 2)], np.float64)
        built.parameters[:] = np.random.default_rng(5).normal(size=len(built.parameters))
        return built

    x, d_outputs = np.random.default_rng(6).normal(size=(5, 3)), np.random.default_rng(7).normal(size=(5, 2))
    assert right(check_network(network(Dense(4, 4)), x, d_outputs))
    for spoil, spoiled in (
        (bias_forgotten, {"1.Broken.bias"}),
        (transposed_weight, {"1.Broken.weight"}),
        (weight_not_transposed_in_dx, {"0.Dense.weight", "0.Dense.bias"}),
    ):
        errors = check_network(network(Broken(Dense(4, 4), spoil)), x, d_outputs)
        assert {name for name, error in errors.items() if error > PLAINLY_WRONG} == spoiled
        assert right({name: error for name, error in errors.items() if name not in spoiled})


BROKEN_LOSSES: dict[str, Loss] = {
    "mse without the 2": lambda p, t: (mse(p, t)[0], mse(p, t)[1] / 2),
    "mse without 1 / B": lambda p, t: (mse(p, t)[0], mse(p, t)[1] * len(p)),
    "mse with swapped arguments": lambda p, t: (mse(p, t)[0], mse(t, p)[1]),
    "huber that is not clipped": lambda p, t: (huber(p, t)[0], (p - t) / len(p)),
    "huber clipped, but not its value": lambda p, t: (mse(p, t)[0] / 2, huber(p, t)[1]),
    "NaN": lambda p, t: (mse(p, t)[0], np.full_like(p, np.nan)),
    "NaN in one element": lambda p, t: (mse(p, t)[0], np.where(np.arange(len(p)) == 1, np.nan, mse(p, t)[1])),
    "nothing": lambda p, t: (mse(p, t)[0], np.zeros_like(p)),
}


@pytest.mark.parametrize("loss", BROKEN_LOSSES.values(), ids=BROKEN_LOSSES)
def test_broken_loss_is_detected(loss: Loss) -> None:
    errors = check_loss(loss, np.array([0.3, -4.0, 2.0]), np.zeros(3))
    assert not errors["prediction"] <= PLAINLY_WRONG


# The check itself


def test_numerical_gradient_matches_hand_computation() -> None:
    x = np.array([[1.0, -2.0], [0.5, 0.0]])
    # The gradient of the sum of i x_i^3 over the four elements, i counted from 1.
    weights = np.array([[1.0, 2.0], [3.0, 4.0]])
    gradient = numerical_gradient(lambda: float(np.sum(weights * x**3)), x)
    np.testing.assert_allclose(gradient, np.array([[3.0, 24.0], [2.25, 0.0]]), atol=1e-8)


def test_gradient_check_restores_parameters() -> None:
    network, x, d_outputs = drawn_network(3, [(4, "tanh")], 5)
    kept = [array.tobytes() for array in (network.parameters, x, d_outputs)]
    check_network(network, x, d_outputs)
    assert [array.tobytes() for array in (network.parameters, x, d_outputs)] == kept


def test_relative_error_matches_hand_computation() -> None:
    # The largest difference is 1/2, the largest numerical value 4.
    assert relative_error(np.array([1.0, -4.5]), np.array([1.25, -4.0])) == 0.125
    assert relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_error(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0
    # The scale does not matter.
    assert relative_error(np.array([2e9]), np.array([1e9])) == relative_error(np.array([2e-6]), np.array([1e-6])) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_gradient_checks_require_float64(dtype: type) -> None:
    x: Array = np.array([1, 2], dtype)
    with pytest.raises(ShapeError, match=np.dtype(dtype).name):
        gradcheck(lambda: float(x @ x), x, 2 * x)
    with pytest.raises(ShapeError):
        numerical_gradient(lambda: float(x @ x), x)
    with pytest.raises(ShapeError):
        check_loss(mse, x, np.zeros(2, dtype))
    np.testing.assert_array_equal(x, [1, 2])


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (), (2,)])
def test_gradient_check_refuses_wrong_shapes(shape: tuple[int, ...]) -> None:
    x = np.ones(3)
    with pytest.raises(ShapeError) as caught:
        gradcheck(lambda: float(x @ x), x, np.full(shape, 2.0))
    assert str(list(shape)) in str(caught.value)
    assert "[3]" in str(caught.value)
