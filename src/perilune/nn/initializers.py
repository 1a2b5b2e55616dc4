"""Initial weights: normal draws with a variance that preserves the scale of activations from layer to layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from perilune.nn.layers import LayerNorm, NoisyDense
from perilune.nn.network import Dense, Network

Initializer = Literal["he", "glorot", "lecun"]

# Variance of a weight, from the inputs (fan_in) and outputs (fan_out) of its layer.
VARIANCES: dict[str, Callable[[int, int], float]] = {
    # For ReLU, which sets about half of its inputs to 0.
    "he": lambda fan_in, fan_out: 2 / fan_in,
    # For tanh.
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    # For linear units.
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}
NOISE = 0.5  # the initial scale of the noise is NOISE / sqrt(fan_in): sigma_0 in arXiv:1706.10295, section 3.2


def initialize(network: Network, initializer: Initializer, generator: np.random.Generator) -> None:
    """Initialize all parameters of ``network`` in place: w ~ N(0, variance), biases 0, gains 1.

    All draws are float64 and then rounded, so float32 and float64 networks get the same weights from the same seed.

    Args:
        network: the network.
        initializer: "he" (variance 2 / fan_in), "glorot" (2 / (fan_in + fan_out)) or "lecun" (1 / fan_in).
        generator: source of the draws.

    He et al., arXiv:1502.01852. Glorot and Bengio, AISTATS 2010. LeCun et al., Efficient BackProp, 1998.
    """
    named = network.named_parameters()
    for index, layer in enumerate(network.layers):
        name = f"{index}.{type(layer).__name__}"
        if isinstance(layer, Dense | NoisyDense):
            spread = VARIANCES[initializer](layer.inputs, layer.outputs) ** 0.5
            named[f"{name}.weight"][...] = generator.normal(0.0, spread, (layer.inputs, layer.outputs))
            named[f"{name}.bias"][...] = 0
        if isinstance(layer, NoisyDense):
            for sigma in ("weight_sigma", "bias_sigma"):
                named[f"{name}.{sigma}"][...] = NOISE / layer.inputs**0.5
        if isinstance(layer, LayerNorm):
            named[f"{index}.LayerNorm.gain"][...] = 1
            named[f"{index}.LayerNorm.bias"][...] = 0
