"""Every layer, forward and backward, compared with hand computations and PyTorch.

test_gradcheck.py checks the same derivatives against differences.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array, Arrays
from perilune.nn import Dense, LayerNorm, ReLU, Tanh
from perilune.nn.backend import compiled
from perilune.nn.base import Layer, LayerStep
from perilune.nn.layers import Dueling, NoisyDense

pytestmark = pytest.mark.usefixtures("backend")
LITERALS = json.loads((Path(__file__).parent / "oracles" / "literals.json").read_text(encoding="utf-8"))["layers"]
LAYERS: dict[str, Layer] = {"Dense": Dense(4, 3), "ReLU": ReLU(5), "Tanh": Tanh(5), "LayerNorm": LayerNorm(6)}
TOLERANCES: dict[type, float] = {np.float64: 1e-12, np.float32: 1e-4}


@dataclass
class Pass:
    """Results of one forward and one backward pass."""

    y: Array
    dx: Array
    gradients: Arrays


def run(
    layer: Layer,
    x: object,
    parameters: dict[str, object] | None = None,
    dy: object = None,
    dtype: DTypeLike = np.float64,
    want_dx: bool = True,
) -> Pass:
    """Run both passes. Results start as NaN, and inputs must not change."""
    x = np.array(x, dtype)
    given_parameters = {name: np.array(value, dtype) for name, value in (parameters or {}).items()}
    before = [array.tobytes() for array in (x, *given_parameters.values())]
    y = np.full((len(x), layer.outputs), np.nan, dtype)
    dx = np.full_like(x, np.nan)
    gradients = {name: np.full(shape, np.nan, dtype) for name, shape in layer.shapes.items()}
    scratch = layer.scratch(len(x), dtype)
    step = LayerStep(layer, given_parameters, gradients, scratch, y, dx if want_dx else None)
    if (module := compiled()) is not None:
        (step,) = module.blocks([step])
    step.layer.forward(step.parameters, step.scratch, x, y)
    result = y.copy()
    dy = np.ones_like(y) if dy is None else np.array(dy, dtype)
    step.layer.backward(step.parameters, step.gradients, step.scratch, x, y, dy, step.dx)
    assert [array.tobytes() for array in (x, *given_parameters.values())] == before
    return Pass(result, dx, gradients)


def assert_close(actual: Array, expected: object, tolerance: float) -> None:
    """Check that the arrays are equal within ``tolerance`` of the largest number."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", list(LAYERS))
def test_layer_passes_match_pytorch(name: str, dtype: type) -> None:
    literal = LITERALS[name]
    made = run(LAYERS[name], literal["x"], literal["parameters"], literal["dy"], dtype)
    assert_close(made.y, literal["y"], TOLERANCES[dtype])
    assert_close(made.dx, literal["dx"], TOLERANCES[dtype])
    assert made.gradients.keys() == literal["gradients"].keys()
    for parameter, gradient in made.gradients.items():
        assert_close(gradient, literal["gradients"][parameter], TOLERANCES[dtype])


@pytest.mark.parametrize("name", list(LAYERS))
def test_omitting_dx_keeps_parameter_gradients(name: str) -> None:
    literal = LITERALS[name]
    arguments = (LAYERS[name], literal["x"], literal["parameters"], literal["dy"])
    whole, first = run(*arguments), run(*arguments, want_dx=False)
    assert np.isnan(first.dx).all()
    for parameter, gradient in whole.gradients.items():
        np.testing.assert_array_equal(first.gradients[parameter], gradient)


def test_dense_matches_hand_computation() -> None:
    weight, bias = [[1, 0, -1], [2, 1, 0]], [0.5, 0, -1]
    made = run(Dense(2, 3), [[1, 2], [3, 4]], {"weight": weight, "bias": bias}, dy=[[1, 0, 2], [0, 1, -1]])
    np.testing.assert_array_equal(made.y, [[5.5, 2, -2], [11.5, 4, -4]])
    np.testing.assert_array_equal(made.gradients["weight"], [[1, 3, -1], [2, 4, 0]])
    np.testing.assert_array_equal(made.gradients["bias"], [1, 1, 1])
    np.testing.assert_array_equal(made.dx, [[-1, 2], [1, 1]])


def test_relu_gradient_is_zero_at_zero() -> None:
    made = run(ReLU(4), [[-2, 0, -0.0, 3]], dy=[[5, 6, 7, 8]])
    np.testing.assert_array_equal(made.y, [[0, 0, 0, 3]])
    np.testing.assert_array_equal(made.dx, [[0, 0, 0, 8]])


def test_relu_propagates_nan() -> None:
    x = np.array([[np.nan, 1.0]])
    y = np.empty_like(x)
    ReLU(2).forward({}, ReLU(2).scratch(1, np.float64), x, y)
    np.testing.assert_array_equal(y, [[np.nan, 1.0]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [0, 10_000])
def test_layer_norm_matches_hand_computation(dtype: type, offset: int) -> None:
    # The row 1, 2, 3, 4 has variance 5/4, so z = -+3/2 and -+1/2 over sqrt(1.25001). A variance computed as the mean
    # square minus the squared mean would be wrong in float32 at offset 10,000.
    x = offset + np.array([[1, 2, 3, 4]])
    made = run(LayerNorm(4), x, {"gain": [1, 1, 2, 2], "bias": [0, 10, 0, -1]}, dtype=dtype)
    half = 0.5 / math.sqrt(1.25001)
    expected = [[-3 * half, -half + 10, 2 * half, 2 * 3 * half - 1]]
    np.testing.assert_allclose(made.y, expected, rtol=2e-6 if dtype == np.float32 else 1e-11)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.5, 20))
def test_layer_norm_standardizes_each_row(rows: int, width: int, seed: int, shift: float, scale: float) -> None:
    generator = np.random.default_rng(seed)
    x = shift + scale * (generator.permuted(np.tile(np.arange(width), (rows, 1)), axis=1) + generator.random())
    made = run(LayerNorm(width), x, {"gain": np.ones(width), "bias": np.zeros(width)}, generator.normal(size=x.shape))
    np.testing.assert_allclose(made.y.mean(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(made.y.std(axis=1), 1, atol=1e-3)  # epsilon changes it slightly
    # Adding a constant to a row changes neither the output nor the loss, so dx sums to zero.
    np.testing.assert_allclose(made.dx.sum(axis=1), 0, atol=1e-9 * (1 + np.abs(made.dx).max()))


# Noisy weights


def noisy(x: object, noise_in: object, noise_out: object, dy: object = None, want_dx: bool = True) -> Pass:
    """Run a noisy layer of two inputs and three outputs, with different parameters."""
    parameters: dict[str, object] = {
        "weight": [[1, 0, -1], [2, 1, 0]],
        "bias": [0.5, 0, -1],
        "weight_sigma": [[0.5, 1, 2], [0.25, 0, 1]],
        "bias_sigma": [1, 0.5, 2],
        "noise_in": noise_in,
        "noise_out": noise_out,
    }
    return run(NoisyDense(2, 3), x, parameters, dy, want_dx=want_dx)


def test_noisy_dense_matches_hand_computation() -> None:
    # Noise (1, -2)^T (1, 2, -1) = [[1, 2, -1], [-2, -4, 2]]. Times the scales: [[0.5, 2, -2], [-0.5, 0, 2]].
    # The weights are then [[1.5, 2, -3], [1.5, 1, 2]], the biases 0.5 + 1, 0 + 1, -1 - 2.
    made = noisy([[1, 2], [3, 4]], [1, -2], [1, 2, -1], dy=[[1, 0, 2], [0, 1, -1]])
    np.testing.assert_array_equal(made.y, [[6, 5, -2], [12, 11, -4]])
    # dW and db as in a dense layer, dS = dW * noise, ds = db * noise_out, and dx with the noisy weights.
    np.testing.assert_array_equal(made.gradients["weight"], [[1, 3, -1], [2, 4, 0]])
    np.testing.assert_array_equal(made.gradients["bias"], [1, 1, 1])
    np.testing.assert_array_equal(made.gradients["weight_sigma"], [[1, 6, 1], [-4, -16, 0]])
    np.testing.assert_array_equal(made.gradients["bias_sigma"], [1, 2, -1])
    np.testing.assert_array_equal(made.dx, [[-4.5, 5.5], [5, -1]])


def test_noisy_layer_without_noise_equals_dense() -> None:
    x, dy = [[1, 2], [3, 4]], [[1, 0, 2], [0, 1, -1]]
    made = noisy(x, [0, 0], [0, 0, 0], dy)
    plain = run(Dense(2, 3), x, {"weight": [[1, 0, -1], [2, 1, 0]], "bias": [0.5, 0, -1]}, dy)
    np.testing.assert_array_equal(made.y, plain.y)
    np.testing.assert_array_equal(made.dx, plain.dx)
    for name, gradient in plain.gradients.items():
        np.testing.assert_array_equal(made.gradients[name], gradient)
    assert not made.gradients["weight_sigma"].any()
    assert not made.gradients["bias_sigma"].any()


# Value and advantages


def test_dueling_matches_hand_computation() -> None:
    # Value 10, advantages 1, 2, 6 with mean 3. dy 1, 0, 5 with sum 6 and mean 2.
    made = run(Dueling(3, 1), [[10, 1, 2, 6]], dy=[[1, 0, 5]])
    np.testing.assert_array_equal(made.y, [[8, 9, 13]])
    np.testing.assert_array_equal(made.dx, [[6, -1, -2, 3]])


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.floats(-100, 100), st.integers(0, 2**32 - 1))
def test_dueling_output_mean_is_the_state_value(rows: int, actions: int, atoms: int, common: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, dy = generator.normal(size=(rows, (1 + actions) * atoms)), generator.normal(size=(rows, actions * atoms))
    layer = Dueling(actions, atoms)
    assert layer.outputs == actions * atoms
    made = run(layer, x, dy=dy)
    np.testing.assert_allclose(made.y.reshape(rows, actions, atoms).mean(axis=1), x[:, :atoms], atol=1e-12)
    raised = x.copy()
    raised[:, atoms:] += common
    np.testing.assert_allclose(run(layer, raised).y, made.y, atol=1e-10)
    np.testing.assert_allclose(made.dx[:, atoms:].reshape(rows, actions, atoms).sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(made.dx[:, :atoms], dy.reshape(rows, actions, atoms).sum(axis=1), rtol=1e-12)
