"""Create the networks, head and optimizer of an agent from its settings."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np

from perilune.agent.config import AUTO, DQNConfig
from perilune.agent.heads import Categorical, Quantile
from perilune.agent.targets import Head
from perilune.errors import ConfigError, DivergenceError
from perilune.nn.adam import Adam
from perilune.nn.backend import compiled
from perilune.nn.base import Optimizer
from perilune.nn.initializers import initialize
from perilune.nn.layers import mlp
from perilune.nn.network import Network
from perilune.nn.optimizers import SGD, AdamW, RMSProp
from perilune.replay.symmetry import Symmetry


def make_networks(
    config: DQNConfig, observation_size: int, actions: int, generator: np.random.Generator
) -> tuple[Network, Network, Network | None]:
    """Return the online network, the target network and the moving average (or None), with the same weights.

    Raises:
        ConfigError: the layers do not fit into memory, or ``observation_scale`` does not have O numbers.
    """
    compiled()  # its errors are not about the settings
    input_scale = _input_scale(config, observation_size)
    try:
        online = mlp(
            observation_size,
            config.hidden_layers,
            actions,
            atoms=config.outputs_per_action,
            layer_norm=config.layer_norm,
            dueling=config.dueling,
            noisy=config.noisy,
            input_scale=input_scale,
            output_scale=config.output_scale,
        )
        initialize(online, config.initializer, generator)
        target = copy.deepcopy(online)
        average = None if config.ema_decay is None else copy.deepcopy(online)
    except (MemoryError, ValueError) as error:
        raise ConfigError("hidden", config.hidden, "layers that fit into memory") from error
    return online, target, average


def _input_scale(config: DQNConfig, observation_size: int) -> tuple[float, ...] | None:
    """Return the numbers by which the network divides an observation. Raise ConfigError if there are not O of them."""
    scale = config.observation_scale
    if not isinstance(scale, tuple):
        return None
    if len(scale) != observation_size:
        raise ConfigError(
            "observation_scale", scale, f"{observation_size} numbers, one for each entry of an observation"
        )
    return scale


def reward_scale(config: DQNConfig) -> float:
    """Return ``reward_scale``. Raise ConfigError if a setting is still "auto"."""
    for name in config.unmeasured:
        expected = (
            "numbers, because an agent has no environment to measure. Use DQN(env, ...), or pass the settings that "
            "perilune.training.scaling.measured(config, env) returns"
        )
        raise ConfigError(name, AUTO, expected)
    return float(np.float32(config.reward_scale))


def least_weights(config: DQNConfig, observation_size: int, actions: int) -> int:
    """Return a lower bound on the number of weights: the number in a plain network."""
    outputs = actions * config.outputs_per_action
    widths = [observation_size, *(units for units, _ in config.hidden_layers), outputs]
    return sum(inputs * outputs + outputs for inputs, outputs in pairwise(widths))


def make_head(config: DQNConfig, reward_scale: float = 1.0) -> Head:
    """Return the head that the settings select, for rewards that are divided by ``reward_scale``."""
    match config.head:
        case "expected":
            return Head(config.loss, config.huber_delta)
        case "qr":
            return Quantile(config.quantiles, config.huber_delta)
        case "c51":
            low, high = config.value_range or (0.0, 0.0)
            return Categorical(config.atoms, low / reward_scale, high / reward_scale)


def make_optimizer(config: DQNConfig, size: int) -> Optimizer:
    """Return the optimizer that the settings select, for ``size`` parameters."""
    match config.optimizer:
        case "sgd":
            return SGD(size, momentum=config.momentum)
        case "rmsprop":
            return RMSProp(size)
        case "adam":
            return Adam(size)
        case "adamw":
            return AdamW(size, weight_decay=config.weight_decay)


def check_symmetry(symmetry: Symmetry | None, observation_size: int, actions: int) -> None:
    """Raise ConfigError if there is no symmetry, or if its sizes differ from those of the environment."""
    if symmetry is None:
        raise ConfigError(
            "mirror",
            True,
            "False, because this environment has no known symmetry; in Python, pass symmetry=...",
        )
    sizes = (len(symmetry.observation_index), len(symmetry.action_index))
    if sizes != (observation_size, actions):
        raise ConfigError(
            "symmetry", sizes, f"{observation_size} observations and {actions} actions, as in the environment"
        )


def diverged(what: str, config: DQNConfig, learning_rate: float) -> DivergenceError:
    """Return the error for a number that is not finite, with the settings to change."""
    return DivergenceError(
        f"{what}: the weights have diverged. Try a smaller learning_rate (now {learning_rate:g}), max_grad_norm=10 "
        f"(now {config.max_grad_norm}), the Huber loss (now {config.loss}) or a slower target network (now tau="
        f"{config.tau:g} every {config.target_update_interval} environment steps)."
    )
