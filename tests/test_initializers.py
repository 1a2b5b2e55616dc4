"""Initial weights: their spread as measured, biases and gains, and what the seed decides."""

from __future__ import annotations

import numpy as np
import pytest

from perilune._utils.arrays import Array
from perilune.nn import Dense, Network, initialize, mlp
from perilune.nn.initializers import VARIANCES, Initializer

INITIALIZERS: list[Initializer] = ["he", "glorot", "lecun"]
FAN_IN, FAN_OUT = 600, 300


def big_weight(initializer: Initializer) -> Array:
    network = Network(FAN_IN, [Dense(FAN_IN, FAN_OUT)], np.float64)
    initialize(network, initializer, np.random.default_rng(11))
    return network.named_parameters()["0.Dense.weight"]


def initialized(seed: int, dtype: type = np.float32, initializer: Initializer = "he") -> Network:
    network = mlp(7, [(20, "relu"), (20, "tanh")], 3, layer_norm=True, dtype=dtype)
    initialize(network, initializer, np.random.default_rng(seed))
    return network


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [("he", 1 / 300), ("glorot", 1 / 450), ("lecun", 1 / 600)],  # of 600 inputs and 300 outputs
)
def test_initial_variance_matches_equation(initializer: Initializer, variance: float) -> None:
    weight = big_weight(initializer)
    # The measured variance of 180 000 normal draws is off by sqrt(2 / n) = 0.3 %, their mean by a 424th of the spread.
    assert weight.var() == pytest.approx(variance, rel=0.015)
    assert abs(weight.mean()) < 4 * variance**0.5 / 424


def test_glorot_does_not_care_which_way_round_and_he_does() -> None:
    there, back = (mlp(inputs, [], outputs, dtype=np.float64) for inputs, outputs in ((500, 200), (200, 500)))
    ratios: dict[str, float] = {}
    for initializer in INITIALIZERS:
        for network in (there, back):
            initialize(network, initializer, np.random.default_rng(2))
        # 0 is the mean of the draws; the biases, which are 0 too, are few.
        ratios[initializer] = float(np.sum(there.parameters**2) / np.sum(back.parameters**2))
    assert ratios == pytest.approx({"he": 0.4, "glorot": 1.0, "lecun": 0.4}, rel=0.03)


def test_draws_are_normal_not_uniform() -> None:
    weight = big_weight("he")
    share = np.mean(np.abs(weight) < weight.std())
    assert share == pytest.approx(0.6827, abs=0.006)  # 0.577 if uniform


def test_he_keeps_activation_scale_in_deep_networks() -> None:
    network = mlp(400, [(400, "relu")] * 6, 400, dtype=np.float64)
    initialize(network, "he", np.random.default_rng(8))
    x = np.random.default_rng(9).normal(size=(64, 400))
    # The last layer is linear, so he doubles there. lecun would end at 2 / 2^6 of this.
    assert np.mean(network.forward(x) ** 2) == pytest.approx(2 * np.mean(x**2), rel=0.35)


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_initialize_resets_biases_and_gains(initializer: Initializer) -> None:
    network = mlp(7, [(20, "relu"), (20, "tanh")], 3, layer_norm=True)
    network.parameters[:] = np.nan
    initialize(network, initializer, np.random.default_rng(0))
    seen = set()
    for name, view in network.named_parameters().items():
        kind = name.split(".", 1)[1]
        seen.add(kind)
        if kind == "Dense.weight":
            assert np.isfinite(view).all()
            assert len(np.unique(view)) == view.size
        else:
            np.testing.assert_array_equal(view, {"Dense.bias": 0, "LayerNorm.bias": 0, "LayerNorm.gain": 1}[kind])
    assert seen == {"Dense.weight", "Dense.bias", "LayerNorm.gain", "LayerNorm.bias"}


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_float32_weights_are_rounded_float64_draws(initializer: Initializer) -> None:
    single, double = (initialized(4, dtype, initializer).parameters for dtype in (np.float32, np.float64))
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))
    assert (single != double).any()  # the float64 draws are not rounded themselves


def test_the_generator_alone_decides_the_weights() -> None:
    np.testing.assert_array_equal(initialized(1).parameters, initialized(1).parameters)
    one, other = (initialized(seed).named_parameters() for seed in (1, 2))
    for name in ("0.Dense.weight", "3.Dense.weight", "6.Dense.weight"):
        assert (one[name] != other[name]).all()


def test_every_layer_gets_new_draws() -> None:
    generator = np.random.default_rng(6)
    networks = [mlp(5, [(5, "relu")], 5) for _ in range(2)]
    for network in networks:
        initialize(network, "lecun", generator)
    weights = [
        network.named_parameters()[name] for network in networks for name in ("0.Dense.weight", "2.Dense.weight")
    ]
    assert len(np.unique(weights)) == 4 * 25


def test_every_initializer_that_is_offered_is_tested_here() -> None:
    assert set(VARIANCES) == set(INITIALIZERS)


# Noisy layers


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_noisy_layer_starts_with_half_over_root_fan_in(initializer: Initializer) -> None:
    noisy, plain = (mlp(9, [(16, "relu")], 3, layer_norm=True, noisy=is_noisy) for is_noisy in (True, False))
    noisy.parameters[:] = np.nan
    for network in (noisy, plain):
        initialize(network, initializer, np.random.default_rng(3))
    named = noisy.named_parameters()
    for name, view in plain.named_parameters().items():
        np.testing.assert_array_equal(named.pop(name.replace("Dense", "NoisyDense")), view)
    sizes = {name: set(view.ravel().tolist()) for name, view in named.items()}
    first, last = float(np.float32(0.5 / 3)), 0.125  # 0.5 / sqrt(9) and 0.5 / sqrt(16)
    assert sizes == {
        "0.NoisyDense.weight_sigma": {first},
        "0.NoisyDense.bias_sigma": {first},
        "3.NoisyDense.weight_sigma": {last},
        "3.NoisyDense.bias_sigma": {last},
    }


def test_dueling_output_weights_share_one_variance() -> None:
    network = mlp(100, [(400, "relu")], 3, atoms=50, dueling=True)
    initialize(network, "he", np.random.default_rng(3))
    last = network.named_parameters()["2.Dense.weight"]
    assert last.shape == (400, 200)
    for part in (last[:, :50], last[:, 50:]):  # of 20 000 draws and of 60 000
        assert part.var() == pytest.approx(2 / 400, rel=0.05)
