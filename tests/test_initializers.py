"""Initial weights: measured variance, biases and gains, and reproducibility."""

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
    # The standard error of the variance of n = 180,000 draws is sqrt(2 / n) = 0.3 %, that of the mean 1/424 sigma.
    assert weight.var() == pytest.approx(variance, rel=0.015)
    assert abs(weight.mean()) < 4 * variance**0.5 / 424


def test_draws_are_normal_not_uniform() -> None:
    weight = big_weight("he")
    share = np.mean(np.abs(weight) < weight.std())
    assert share == pytest.approx(0.6827, abs=0.006)  # 0.577 if uniform


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


def test_all_initializers_are_tested() -> None:
    assert set(VARIANCES) == set(INITIALIZERS)


# Noisy layers


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_initial_noise_scale_matches_paper(initializer: Initializer) -> None:
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
    for part in (last[:, :50], last[:, 50:]):  # 20,000 and 60,000 draws
        assert part.var() == pytest.approx(2 / 400, rel=0.05)
