"""The network: one flat vector seen by name, passes that leave alone what is not theirs, and steady memory."""

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

from perilune._utils.arrays import Array, Arrays
from perilune.errors import ConfigError, ShapeError
from perilune.nn import (
    SGD,
    Adam,
    AdamW,
    Dense,
    Network,
    ReLU,
    RMSProp,
    clip_by_global_norm,
    huber,
    initialize,
    mlp,
    mse,
)
from perilune.nn.layers import NoisyDense
from perilune.nn.network import Activation
from perilune.nn.optimizers import Optimizer

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
    """3 -> 5 tanh -> 4 relu -> 2 with every parameter drawn, biases and gains too."""
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
def test_outputs_and_gradients_are_pytorchs(layer_norm: bool) -> None:
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
def test_twelve_updates_end_where_pytorch_ends(layer_norm: bool, dtype: type, tolerance: float) -> None:
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
def test_names_and_shapes_follow_the_layers(layer_norm: bool) -> None:
    shapes = {name: view.shape for name, view in network_of(layer_norm).named_parameters().items()}
    plain = {"weight": [(3, 5), (5, 4), (4, 2)], "bias": [(5,), (4,), (2,)]}
    assert [shape for name, shape in shapes.items() if name.endswith("Dense.weight")] == plain["weight"]
    assert [shape for name, shape in shapes.items() if name.endswith("Dense.bias")] == plain["bias"]
    assert [shape for name, shape in shapes.items() if "LayerNorm" in name] == [(5,), (5,), (4,), (4,)] * layer_norm
    assert len(network_of(layer_norm).parameters) == 20 + 24 + 10 + 18 * layer_norm


@both_norms
def test_views_cover_the_flat_vector_in_order_without_gap_or_overlap(layer_norm: bool) -> None:
    network = network_of(layer_norm)
    for flat, named in (
        (network.parameters, network.named_parameters()),
        (network.gradients, network.named_gradients()),
    ):
        flat[:] = np.arange(len(flat))
        np.testing.assert_array_equal(np.concatenate([view.ravel() for view in named.values()]), flat)
        assert all(np.shares_memory(view, flat) for view in named.values())
    assert not np.shares_memory(network.parameters, network.gradients)


def test_writing_a_view_changes_the_flat_vector_and_the_outputs() -> None:
    network, x = network_of(layer_norm=True), drawn(4, 3)
    before, outputs = network.parameters.copy(), network.forward(x).copy()
    network.named_parameters()["6.Dense.bias"][1] += 2.5
    assert (network.parameters != before).sum() == 1
    np.testing.assert_allclose(network.forward(x) - outputs, np.tile([0, 2.5], (4, 1)), atol=1e-12)


def test_writing_the_flat_vector_changes_the_outputs() -> None:
    network, x = network_of(layer_norm=False), drawn(4, 3)
    other = network_of(layer_norm=False, seed=99)
    assert (network.forward(x) != other.forward(x)).any()
    network.parameters[:] = other.parameters
    np.testing.assert_array_equal(network.forward(x), other.forward(x))


@both_norms
def test_gradients_are_laid_out_as_the_parameters_are(layer_norm: bool) -> None:
    network, x, d_outputs = network_of(layer_norm), drawn(4, 3), drawn(4, 2, seed=2)
    parameters, gradients = network.named_parameters(), network.named_gradients()
    assert {n: v.shape for n, v in parameters.items()} == {n: v.shape for n, v in gradients.items()}
    gradient = gradients_of(network, x, d_outputs)
    # Along any direction in the flat vector the loss must change as the flat gradient says.
    start, direction, h = network.parameters.copy(), drawn(len(gradient), seed=3), 1e-6
    losses = []
    for sign in (1, -1):
        network.parameters[:] = start + sign * h * direction
        losses.append(np.sum(network.forward(x) * d_outputs))
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(gradient @ direction, rel=1e-6)


# Passes


@both_norms
def test_gradients_are_overwritten_not_accumulated(layer_norm: bool) -> None:
    network, x, d_outputs = network_of(layer_norm), drawn(4, 3), drawn(4, 2, seed=2)
    network.gradients[:] = np.nan
    first = gradients_of(network, x, d_outputs)
    assert np.isfinite(first).all()
    gradients_of(network, 5 * x, drawn(4, 2, seed=7))
    np.testing.assert_array_equal(gradients_of(network, x, d_outputs), first)


@both_norms
def test_backward_twice_after_one_forward_gives_the_same_gradients(layer_norm: bool) -> None:
    network, x, d_outputs = network_of(layer_norm), drawn(4, 3), drawn(4, 2, seed=2)
    first = gradients_of(network, x, d_outputs)
    network.backward(d_outputs)
    np.testing.assert_array_equal(network.gradients, first)


@both_norms
def test_neither_pass_changes_x_or_the_parameters(layer_norm: bool) -> None:
    network, x = network_of(layer_norm), drawn(4, 3)
    x.setflags(write=False)
    parameters = network.parameters.copy()
    gradients_of(network, x, drawn(4, 2, seed=2))
    np.testing.assert_array_equal(network.parameters, parameters)


def test_a_first_layer_that_hands_x_on_does_not_write_to_it_either() -> None:
    network, x = Network(3, [ReLU(3)], np.float64), np.array([[-1.0, 0.0, 2.0]])
    x.setflags(write=False)
    np.testing.assert_array_equal(network.forward(x), [[0, 0, 2]])
    network.backward(np.ones((1, 3)))
    assert network.gradients.shape == (0,)


def test_only_the_first_layer_is_spared_the_gradient_of_its_input() -> None:
    asked = []

    class Watched(Dense):
        def backward(
            self,
            parameters: Arrays,
            gradients: Arrays,
            scratch: Arrays,
            x: Array,
            y: Array,
            dy: Array,
            dx: Array | None,
        ) -> None:
            asked.append(dx is not None)
            super().backward(parameters, gradients, scratch, x, y, dy, dx)

    gradients_of(Network(3, [Watched(3, 3), Watched(3, 3), Watched(3, 2)], np.float64), drawn(4, 3), drawn(4, 2))
    assert asked == [True, True, False]  # last to first


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), max_size=3), st.integers(1, 6), st.booleans(), seeds)
def test_a_batch_gives_what_its_rows_give_one_by_one(widths: list[int], rows: int, layer_norm: bool, seed: int) -> None:
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


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.booleans(), seeds)
def test_row_counts_in_any_order_do_not_corrupt_each_other(counts: list[int], layer_norm: bool, seed: int) -> None:
    used = network_of(layer_norm)
    kept: dict[int, tuple[Array, Array]] = {}
    for turn, rows in enumerate(counts):
        x, d_outputs = drawn(rows, 3, seed=seed + turn), drawn(rows, 2, seed=seed + turn + 1000)
        fresh = network_of(layer_norm)
        outputs = used.forward(x)
        kept[rows] = outputs, fresh.forward(x).copy()
        used.backward(d_outputs)
        np.testing.assert_array_equal(used.gradients, gradients_of(fresh, x, d_outputs))
    # A result lives until the next pass over as many rows.
    for outputs, expected in kept.values():
        np.testing.assert_array_equal(outputs, expected)


@both_norms
@pytest.mark.parametrize("rows_between", [4, 7])
def test_backward_belongs_to_the_last_forward(layer_norm: bool, rows_between: int) -> None:
    # As in Double DQN: the online network sees next_obs and then obs, of as many rows, before it learns.
    network, last, d_outputs = network_of(layer_norm), drawn(4, 3), drawn(4, 2, seed=2)
    expected = gradients_of(network_of(layer_norm), last, d_outputs)
    network.forward(drawn(rows_between, 3, seed=5))
    np.testing.assert_array_equal(gradients_of(network, last, d_outputs), expected)
    network.forward(drawn(rows_between, 3, seed=5))
    if rows_between != 4:
        with pytest.raises(ShapeError):
            network.backward(d_outputs)


def test_two_networks_share_no_memory() -> None:
    online, target = network_of(layer_norm=True), network_of(layer_norm=True, seed=8)
    x = drawn(4, 3)
    q_online = online.forward(x)
    expected = q_online.copy()
    q_target = target.forward(x)
    assert (q_online == expected).all()
    assert (q_target != expected).any()
    gradients_of(online, x, drawn(4, 2, seed=2))
    assert not target.gradients.any()


# Building


def test_mlp_puts_the_layers_in_order() -> None:
    network = mlp(6, [(5, "relu"), (4, "linear"), (3, "tanh")], 2, layer_norm=True)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Dense", "LayerNorm", "ReLU", "Dense", "LayerNorm", "Dense", "LayerNorm", "Tanh", "Dense"]
    assert [layer.outputs for layer in network.layers] == [5, 5, 5, 4, 4, 3, 3, 3, 2]
    assert (network.inputs, network.outputs) == (6, 2)
    assert network.dtype == network.parameters.dtype == network.gradients.dtype == np.float32
    assert not network.parameters.any()


def test_without_hidden_layers_the_mlp_is_one_product() -> None:
    network = mlp(2, [], 1, dtype=np.float64)
    network.parameters[:] = [2, -3, 10]
    np.testing.assert_array_equal(network.forward(np.array([[1.0, 1.0], [5.0, 0.0]])), [[9], [20]])


def test_an_activation_that_does_not_exist_is_not_taken_for_linear() -> None:
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
def test_mlp_has_the_outputs_and_the_kinds_of_layers_that_were_asked_for(
    settings: dict[str, bool | int], kinds: list[str], outputs: list[int]
) -> None:
    network = mlp(3, [(8, "relu")], 2, **settings)
    assert [type(layer).__name__ for layer in network.layers] == kinds
    assert [layer.outputs for layer in network.layers] == outputs
    assert network.forward(np.zeros((4, 3), np.float32)).shape == (4, outputs[-1])


def test_dueling_outputs_are_actions_by_atoms_as_those_of_a_plain_network_are() -> None:
    # Only biases count at x = 0: v = 10, 20 and u = 1, 2; 3, 4; 8, 9, whose mean over the actions is 4, 5.
    network = mlp(1, [], 3, atoms=2, dueling=True)
    network.named_parameters()["0.Dense.bias"][:] = [10, 20, 1, 2, 3, 4, 8, 9]
    outputs = network.forward(np.zeros((1, 1), np.float32)).reshape(1, 3, 2)
    np.testing.assert_array_equal(outputs, [[[7, 17], [9, 19], [14, 24]]])


# Noise


def noisy_network(seed: int = 0, dtype: type = np.float64) -> Network:
    network = mlp(3, [(5, "tanh")], 2, noisy=True, dtype=dtype)
    network.parameters[:] = np.random.default_rng(seed).normal(0.3, 0.7, network.parameters.shape)
    return network


def plain_twin(network: Network) -> Network:
    """The dense network with the weights of a noisy one."""
    twin = mlp(3, [(5, "tanh")], 2, dtype=network.dtype)
    noisy = network.named_parameters()
    for name, view in twin.named_parameters().items():
        view[...] = noisy[name.replace("Dense", "NoisyDense")]
    return twin


def test_a_network_is_born_without_noise_and_silenced_to_the_bit() -> None:
    network, x = noisy_network(), drawn(4, 3)
    expected = plain_twin(network).forward(x)
    np.testing.assert_array_equal(network.forward(x), expected)
    network.draw_noise(np.random.default_rng(1))
    assert (network.forward(x) != expected).all()
    network.silence()
    np.testing.assert_array_equal(network.forward(x), expected)


def test_noise_stays_until_it_is_drawn_anew_and_is_the_same_for_all_rows_and_row_counts() -> None:
    network, x, generator = noisy_network(), drawn(1, 3), np.random.default_rng(1)
    seen = []
    for _ in range(3):
        network.draw_noise(generator)
        one = network.forward(x).copy()
        np.testing.assert_array_equal(network.forward(x), one)
        np.testing.assert_allclose(network.forward(np.repeat(x, 4, axis=0)), np.repeat(one, 4, axis=0), rtol=1e-12)
        seen.append(one)
    assert len(np.unique(seen)) == 6


def test_noise_is_drawn_by_the_generator_alone_and_is_no_parameter() -> None:
    one, other, x = noisy_network(), noisy_network(), drawn(4, 3)
    before = one.parameters.copy()
    one.draw_noise(np.random.default_rng(7))
    other.draw_noise(np.random.default_rng(7))
    np.testing.assert_array_equal(one.forward(x), other.forward(x))
    np.testing.assert_array_equal(one.parameters, before)
    other.draw_noise(np.random.default_rng(8))
    assert (one.forward(x) != other.forward(x)).all()


def test_a_network_without_noisy_layers_draws_nothing() -> None:
    generator = np.random.default_rng(7)
    network_of(layer_norm=True).draw_noise(generator)
    assert generator.random() == np.random.default_rng(7).random()


def test_the_moments_of_the_noise_are_those_of_a_signed_root() -> None:
    # f(x) = sign(x) sqrt|x| of a normal x: mean 0, mean square E|x| = sqrt(2 / pi), mean |f| = E sqrt|x| = 0.822, and
    # f^4 = x^2 has the mean 1. Biases of size 1 show f at x = 0.
    network = Network(1, [NoisyDense(1, 40_000)], np.float64)
    network.named_parameters()["0.NoisyDense.bias_sigma"][:] = 1
    network.draw_noise(np.random.default_rng(5))
    f = network.forward(np.zeros((1, 1)))[0]
    assert f.mean() == pytest.approx(0, abs=5 * 0.893 / 200)
    assert (f**2).mean() == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)
    assert np.abs(f).mean() == pytest.approx(0.8222, rel=0.02)
    assert (f**4).mean() == pytest.approx(1, rel=0.05)


def test_the_noise_of_weights_has_mean_zero_and_the_square_of_the_sizes() -> None:
    # E (f(p) f(q))^2 = 2 / pi. Factorised: rows and columns are multiples of one another.
    network = Network(300, [NoisyDense(300, 200)], np.float64)
    network.named_parameters()["0.NoisyDense.weight_sigma"][...] = 3
    network.draw_noise(np.random.default_rng(6))
    noise = network.forward(np.eye(300))
    assert (noise**2).mean() == pytest.approx(9 * 2 / math.pi, rel=0.15)
    assert abs(noise.mean()) < 0.5
    assert np.linalg.matrix_rank(noise) == 1


def test_noise_goes_through_a_float32_network_without_a_float64_in_it() -> None:
    network = noisy_network(dtype=np.float32)
    network.draw_noise(np.random.default_rng(1))
    gradients_of(network, drawn(4, 3, dtype=np.float32), drawn(4, 2, dtype=np.float32))
    assert network.forward(drawn(4, 3, dtype=np.float32)).dtype == network.gradients.dtype == np.float32


# Doors


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
def test_forward_refuses_another_shape_or_dtype_and_says_what_it_needs(x: Array, got: str) -> None:
    with pytest.raises(ShapeError) as caught:
        network_of(layer_norm=False, dtype=np.float32).forward(x)
    assert "x[B, 3] of float32" in str(caught.value)
    assert got in str(caught.value)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2), (4,), (4, 1), (2,), (1, 2)])
def test_backward_refuses_another_shape_and_says_which_it_needs(shape: tuple[int, ...]) -> None:
    network = network_of(layer_norm=False)
    network.forward(drawn(4, 3))
    with pytest.raises(ShapeError) as caught:
        network.backward(np.zeros(shape))
    assert "[4, 2]" in str(caught.value)
    assert str(list(shape)) in str(caught.value)


def test_backward_refuses_to_come_first() -> None:
    with pytest.raises(ShapeError, match="forward"):
        network_of(layer_norm=False).backward(np.zeros((4, 2)))


def test_a_refused_forward_leaves_the_last_one_in_force() -> None:
    network, x, d_outputs = network_of(layer_norm=True), drawn(4, 3), drawn(4, 2, seed=2)
    expected = gradients_of(network, x, d_outputs)
    network.forward(x)
    with pytest.raises(ShapeError):
        network.forward(drawn(4, 9))
    network.backward(d_outputs)
    np.testing.assert_array_equal(network.gradients, expected)


# Dtypes and memory


def one_update(
    network: Network, optimizer: Optimizer, x: Array, chosen: Array, target: Array, d_outputs: Array
) -> Array:
    """Forward, loss of one output per row, backward, clip and step: as the agent does it."""
    rows = np.arange(len(x))
    outputs = network.forward(x)
    _, d_prediction = huber(outputs[rows, chosen], target)
    d_outputs.fill(0)
    d_outputs[rows, chosen] = d_prediction
    network.backward(d_outputs)
    clip_by_global_norm(network.gradients, 0.5)
    optimizer.step(network.parameters, network.gradients, 1e-3)
    return d_prediction


@pytest.mark.parametrize("optimizer_name", list(OPTIMIZERS))
@both_norms
def test_float32_stays_float32_through_whole_updates(layer_norm: bool, optimizer_name: str) -> None:
    network = network_of(layer_norm, np.float32)
    optimizer = OPTIMIZERS[optimizer_name](len(network.parameters))
    before = network.parameters.copy()
    x, target, d_outputs = drawn(6, 3, dtype=np.float32), drawn(6, dtype=np.float32), np.zeros((6, 2), np.float32)
    for _ in range(3):
        d_prediction = one_update(network, optimizer, x, np.array([0, 1, 1, 0, 0, 1]), target, d_outputs)
    arrays = {"outputs": network.forward(x), "d_prediction": d_prediction, "parameters": network.parameters}
    arrays |= {"gradients": network.gradients} | optimizer.arrays
    arrays |= network.named_parameters() | {f"d_{name}": view for name, view in network.named_gradients().items()}
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(arrays, np.dtype(np.float32))
    assert (network.parameters != before).any()
    assert all(np.shares_memory(view, network.parameters) for view in network.named_parameters().values())


@pytest.mark.parametrize("optimizer_name", list(OPTIMIZERS))
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@both_norms
def test_learning_allocates_nothing_big_once_it_runs(
    layer_norm: bool, activation: Activation, optimizer_name: str
) -> None:
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
    # NumPy itself borrows 8192 elements, 32 kB, while it combines arrays of different shape or dtype, whatever their
    # size. One activation of this network is 128 kB, its mask 32 kB on top of that buffer, one copy of the parameters
    # 273 kB. Measured: 36 kB.
    assert peak - before < 48_000
    assert after - before < 1_000


@pytest.mark.parametrize("loss", [mse, huber])
def test_a_small_network_learns_a_function_from_its_values(
    loss: Callable[[Array, Array], tuple[float, Array]],
) -> None:
    network = mlp(1, [(16, "tanh")], 1)
    initialize(network, "glorot", np.random.default_rng(0))
    x = np.linspace(-2, 2, 32, dtype=np.float32)[:, None]
    target = np.sin(2 * x[:, 0])
    adam, losses = Adam(len(network.parameters)), []
    for _ in range(400):
        value, d_prediction = loss(network.forward(x)[:, 0], target)
        network.backward(d_prediction[:, None])
        adam.step(network.parameters, network.gradients, 0.03)
        losses.append(value)
    assert losses[-1] < 0.01 * losses[0]
