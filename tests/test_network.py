"""The network: one flat vector, forward and backward passes, noise, and constant memory."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune._utils.arrays import Array
from perilune.errors import ConfigError, ShapeError
from perilune.nn import (
    SGD,
    Adam,
    AdamW,
    Network,
    RMSProp,
    clip_by_global_norm,
    huber,
    initialize,
    mlp,
)
from perilune.nn.base import Activation, Optimizer
from perilune.nn.layers import NoisyDense

pytestmark = pytest.mark.usefixtures("backend")
LITERALS = json.loads((Path(__file__).parent / "oracles" / "literals.json").read_text(encoding="utf-8"))["networks"]
OPTIMIZERS: dict[str, Callable[[int], Optimizer]] = {
    "sgd": lambda size: SGD(size, momentum=0.9),
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}
seeds = st.integers(0, 2**32 - 1)
both_norms = pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer_norm"])


def network_of(layer_norm: bool, dtype: type = np.float64, seed: int = 0) -> Network:
    """Return a network 3 -> 5 tanh -> 4 relu -> 2 with random parameters."""
    network = mlp(3, [(5, "tanh"), (4, "relu")], 2, layer_norm=layer_norm, dtype=dtype)
    network.parameters[:] = np.random.default_rng(seed).normal(0.3, 0.7, network.parameters.shape)
    return network


def drawn(*shape: int, seed: int = 1, dtype: type = np.float64) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def gradients_of(network: Network, x: Array, d_outputs: Array) -> Array:
    network.forward(x)
    network.backward(d_outputs)
    return network.gradients.copy()


# Against PyTorch


@both_norms
def test_outputs_and_gradients_match_pytorch(layer_norm: bool) -> None:
    case = LITERALS["cases"]["layer_norm" if layer_norm else "plain"]
    network = network_of(layer_norm)
    assert list(network.named_parameters()) == case["names"]
    network.parameters[:] = case["parameters"]
    np.testing.assert_allclose(network.forward(np.array(LITERALS["x"])), case["outputs"], rtol=1e-10)
    network.backward(np.array(LITERALS["d_outputs"]))
    for name, gradient in network.named_gradients().items():
        np.testing.assert_allclose(gradient, case["gradients"][name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)])
@both_norms
def test_twelve_updates_match_pytorch(layer_norm: bool, dtype: type, tolerance: float) -> None:
    case = LITERALS["cases"]["layer_norm" if layer_norm else "plain"]
    network = network_of(layer_norm, dtype)
    network.parameters[:] = case["parameters"]
    adam = Adam(len(network.parameters), dtype)
    rows, losses = np.arange(6), []
    for batch, target, chosen in zip(LITERALS["batches"], LITERALS["targets"], LITERALS["chosen"], strict=True):
        outputs = network.forward(np.array(batch, dtype))
        loss, d_prediction = huber(outputs[rows, chosen], np.array(target, dtype))
        d_outputs = np.zeros_like(outputs)
        d_outputs[rows, chosen] = d_prediction
        network.backward(d_outputs)
        adam.step(network.parameters, network.gradients, 0.02)
        losses.append(loss)
    np.testing.assert_allclose(losses, case["losses"], rtol=tolerance)
    np.testing.assert_allclose(network.parameters, case["trained"], rtol=tolerance, atol=tolerance)


# One flat vector


@both_norms
def test_views_cover_flat_vector_in_order(layer_norm: bool) -> None:
    network = network_of(layer_norm)
    for flat, named in (
        (network.parameters, network.named_parameters()),
        (network.gradients, network.named_gradients()),
    ):
        flat[:] = np.arange(len(flat))
        np.testing.assert_array_equal(np.concatenate([view.ravel() for view in named.values()]), flat)
        assert all(np.shares_memory(view, flat) for view in named.values())
    assert not np.shares_memory(network.parameters, network.gradients)


# Passes


@both_norms
def test_backward_overwrites_gradients(layer_norm: bool) -> None:
    network, x, d_outputs = network_of(layer_norm), drawn(4, 3), drawn(4, 2, seed=2)
    network.gradients[:] = np.nan
    first = gradients_of(network, x, d_outputs)
    assert np.isfinite(first).all()
    gradients_of(network, 5 * x, drawn(4, 2, seed=7))
    np.testing.assert_array_equal(gradients_of(network, x, d_outputs), first)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 9), max_size=3), st.integers(1, 6), st.booleans(), seeds)
def test_batch_equals_single_rows(widths: list[int], rows: int, layer_norm: bool, seed: int) -> None:
    hidden: list[tuple[int, Activation]] = [(width, "tanh") for width in widths]
    network = mlp(4, hidden, 3, layer_norm=layer_norm, dtype=np.float64)
    initialize(network, "glorot", np.random.default_rng(seed))
    x, d_outputs = drawn(rows, 4, seed=seed), drawn(rows, 3, seed=seed + 1)
    outputs = network.forward(x).copy()
    gradients = gradients_of(network, x, d_outputs)
    single = [
        (network.forward(x[[row]]).copy(), gradients_of(network, x[[row]], d_outputs[[row]])) for row in range(rows)
    ]
    np.testing.assert_allclose(np.concatenate([y for y, _ in single]), outputs, rtol=1e-9, atol=1e-12)
    # The loss is a sum over rows, so its gradient is too.
    summed = np.sum([gradient for _, gradient in single], axis=0)
    np.testing.assert_allclose(summed, gradients, rtol=1e-7, atol=1e-9 * (1 + np.abs(gradients).max()))


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.booleans(), seeds)
def test_batches_of_different_sizes_do_not_corrupt_each_other(counts: list[int], layer_norm: bool, seed: int) -> None:
    used = network_of(layer_norm)
    kept: dict[int, tuple[Array, Array]] = {}
    for turn, rows in enumerate(counts):
        x, d_outputs = drawn(rows, 3, seed=seed + turn), drawn(rows, 2, seed=seed + turn + 1000)
        fresh = network_of(layer_norm)
        outputs = used.forward(x)
        kept[rows] = outputs, fresh.forward(x).copy()
        used.backward(d_outputs)
        np.testing.assert_array_equal(used.gradients, gradients_of(fresh, x, d_outputs))
    # A result is valid until the next pass with the same number of rows.
    for outputs, expected in kept.values():
        np.testing.assert_array_equal(outputs, expected)


# Building


def test_mlp_puts_the_layers_in_order() -> None:
    network = mlp(6, [(5, "relu"), (4, "linear"), (3, "tanh")], 2, layer_norm=True)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Dense", "LayerNorm", "ReLU", "Dense", "LayerNorm", "Dense", "LayerNorm", "Tanh", "Dense"]
    assert [layer.outputs for layer in network.layers] == [5, 5, 5, 4, 4, 3, 3, 3, 2]
    assert (network.inputs, network.outputs) == (6, 2)
    assert network.dtype == network.parameters.dtype == network.gradients.dtype == np.float32
    assert not network.parameters.any()


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(ConfigError, match="gelu"):
        mlp(3, [(4, "gelu")], 2)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("settings", "kinds", "outputs"),
    [
        ({"atoms": 5}, ["Dense", "ReLU", "Dense"], [8, 8, 10]),
        ({"dueling": True}, ["Dense", "ReLU", "Dense", "Dueling"], [8, 8, 3, 2]),
        ({"dueling": True, "atoms": 5}, ["Dense", "ReLU", "Dense", "Dueling"], [8, 8, 15, 10]),
        ({"noisy": True}, ["NoisyDense", "ReLU", "NoisyDense"], [8, 8, 2]),
        (
            {"noisy": True, "dueling": True, "atoms": 5, "layer_norm": True},
            ["NoisyDense", "LayerNorm", "ReLU", "NoisyDense", "Dueling"],
            [8, 8, 8, 15, 10],
        ),
    ],
    ids=str,
)
def test_mlp_builds_requested_layers_and_outputs(
    settings: dict[str, bool | int], kinds: list[str], outputs: list[int]
) -> None:
    network = mlp(3, [(8, "relu")], 2, **settings)
    assert [type(layer).__name__ for layer in network.layers] == kinds
    assert [layer.outputs for layer in network.layers] == outputs
    assert network.forward(np.zeros((4, 3), np.float32)).shape == (4, outputs[-1])


# Noise


def noisy_network(seed: int = 0, dtype: type = np.float64) -> Network:
    network = mlp(3, [(5, "tanh")], 2, noisy=True, dtype=dtype)
    network.parameters[:] = np.random.default_rng(seed).normal(0.3, 0.7, network.parameters.shape)
    return network


def without_noise(network: Network) -> Network:
    """Return the dense network with the weights of a noisy one."""
    plain = mlp(3, [(5, "tanh")], 2, dtype=network.dtype)
    noisy = network.named_parameters()
    for name, view in plain.named_parameters().items():
        view[...] = noisy[name.replace("Dense", "NoisyDense")]
    return plain


def test_new_and_silenced_networks_have_no_noise() -> None:
    network, x = noisy_network(), drawn(4, 3)
    expected = without_noise(network).forward(x)
    np.testing.assert_array_equal(network.forward(x), expected)
    network.draw_noise(np.random.default_rng(1))
    assert (network.forward(x) != expected).all()
    network.silence()
    np.testing.assert_array_equal(network.forward(x), expected)


def test_weight_noise_has_expected_mean_and_variance() -> None:
    # E (f(p) f(q))^2 = 2 / pi. The noise is a product, so its rank is 1.
    network = Network(300, [NoisyDense(300, 200)], np.float64)
    network.named_parameters()["0.NoisyDense.weight_sigma"][...] = 3
    network.draw_noise(np.random.default_rng(6))
    noise = network.forward(np.eye(300))
    assert (noise**2).mean() == pytest.approx(9 * 2 / math.pi, rel=0.15)
    assert abs(noise.mean()) < 0.5
    assert np.linalg.matrix_rank(noise) == 1


# Invalid arguments


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.zeros(3, np.float32), "float32[3]"),
        (np.zeros((2, 4), np.float32), "float32[2, 4]"),
        (np.zeros((3, 2), np.float32), "float32[3, 2]"),
        (np.zeros((1, 2, 3), np.float32), "float32[1, 2, 3]"),
        (np.zeros((2, 3), np.float64), "float64[2, 3]"),
        (np.zeros((2, 3), np.int64), "int64[2, 3]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_forward_refuses_wrong_shape_or_dtype(x: Array, got: str) -> None:
    with pytest.raises(ShapeError) as caught:
        network_of(layer_norm=False, dtype=np.float32).forward(x)
    assert "x[B, 3] of float32" in str(caught.value)
    assert got in str(caught.value)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2), (4,), (4, 1), (2,), (1, 2)])
def test_backward_refuses_wrong_shape(shape: tuple[int, ...]) -> None:
    network = network_of(layer_norm=False)
    network.forward(drawn(4, 3))
    with pytest.raises(ShapeError) as caught:
        network.backward(np.zeros(shape))
    assert "[4, 2]" in str(caught.value)
    assert str(list(shape)) in str(caught.value)


def test_backward_needs_forward_pass() -> None:
    with pytest.raises(ShapeError, match="forward"):
        network_of(layer_norm=False).backward(np.zeros((4, 2)))


# Dtypes and memory


def one_update(
    network: Network, optimizer: Optimizer, x: Array, chosen: Array, target: Array, d_outputs: Array
) -> Array:
    """Make an update as the agent does: forward, loss, backward, clip and step."""
    rows = np.arange(len(x))
    outputs = network.forward(x)
    _, d_prediction = huber(outputs[rows, chosen], target)
    d_outputs.fill(0)
    d_outputs[rows, chosen] = d_prediction
    network.backward(d_outputs)
    clip_by_global_norm(network.gradients, 0.5)
    optimizer.step(network.parameters, network.gradients, 1e-3)
    return d_prediction


def test_memory_is_bounded_over_many_batch_sizes() -> None:
    network = mlp(3, [(64, "relu")], 2)
    initialize(network, "he", np.random.default_rng(0))
    x = drawn(1_100, 3, dtype=np.float32)

    def memory_after(rows: range) -> int:
        tracemalloc.start()
        try:
            for count in rows:
                network.forward(x[:count])
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    one = memory_after(range(1_000, 1_001))
    assert one > 4 * 1_000 * 64  # the outputs of the hidden layer
    assert memory_after(range(1_001, 1_101)) < 10 * one
    expected = network.forward(x[:7]).copy()
    network.forward(x[:8])
    network.backward(np.ones((8, 2), np.float32))  # the pass before belongs to another batch size
    gradients = network.gradients.copy()
    for count in range(100, 120):  # replaces the working memory of the sizes 7 and 8
        network.forward(x[:count])
    np.testing.assert_array_equal(network.forward(x[:7]), expected)
    np.testing.assert_array_equal(gradients_of(network, x[:8], np.ones((8, 2), np.float32)), gradients)


@pytest.mark.parametrize("optimizer_name", list(OPTIMIZERS))
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@both_norms
def test_updates_allocate_no_large_arrays(layer_norm: bool, activation: Activation, optimizer_name: str) -> None:
    network = mlp(8, [(256, activation), (256, activation)], 4, layer_norm=layer_norm)
    initialize(network, "he", np.random.default_rng(0))
    optimizer = OPTIMIZERS[optimizer_name](len(network.parameters))
    x, target = drawn(128, 8, dtype=np.float32), drawn(128, dtype=np.float32)
    chosen, d_outputs = np.arange(128) % 4, np.zeros((128, 4), np.float32)

    def updates(count: int) -> None:
        for _ in range(count):
            one_update(network, optimizer, x, chosen, target, d_outputs)

    updates(1)
    tracemalloc.start()
    try:
        updates(1)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        updates(3)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # NumPy allocates a buffer of 8192 elements (32 kB) to combine arrays of different shapes or dtypes, regardless of
    # their size. In this network, one activation takes 128 kB, its mask another 32 kB, and one copy of the parameters
    # 273 kB. Measured: 36 kB.
    assert peak - before < 48_000
    assert after - before < 2_000
