"""Make the parts of an agent that its settings name."""

from __future__ import annotations

from itertools import pairwise

from perilune.agent.config import DQNConfig
from perilune.agent.heads import Categorical, Quantile
from perilune.agent.targets import Expected, Head
from perilune.errors import ConfigError
from perilune.nn.layers import mlp
from perilune.nn.network import Network
from perilune.nn.optimizers import SGD, Adam, AdamW, Optimizer, RMSProp
from perilune.replay.symmetry import Symmetry


def make_network(config: DQNConfig, observation_size: int, actions: int) -> Network:
    """Return the network that ``config`` describes, its parameters zero."""
    return mlp(
        observation_size,
        config.hidden_layers,
        actions,
        atoms=config.outputs_per_action,
        layer_norm=config.layer_norm,
        dueling=config.dueling,
        noisy=config.noisy,
    )


def least_weights(config: DQNConfig, observation_size: int, actions: int) -> int:
    """Return a lower bound on the number of weights: those of a plain network."""
    outputs = actions * config.outputs_per_action
    widths = [observation_size, *(units for units, _ in config.hidden_layers), outputs]
    return sum(inputs * outputs + outputs for inputs, outputs in pairwise(widths))


def make_head(config: DQNConfig) -> Head:
    """Return the head that ``config`` names."""
    match config.head:
        case "expected":
            return Expected(config.loss, config.huber_delta)
        case "qr":
            return Quantile(config.quantiles, config.huber_delta)
        case "c51":
            low, high = config.value_range or (0.0, 0.0)
            return Categorical(config.atoms, low, high)


def make_optimizer(config: DQNConfig, size: int) -> Optimizer:
    """Return the optimizer that ``config`` names, for ``size`` parameters."""
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
    """Refuse ``mirror`` without a symmetry, or with one of other sizes."""
    if symmetry is None:
        raise ConfigError(
            "mirror",
            True,
            "False, because this environment declares no symmetry; in Python, pass symmetry=...",
        )
    sizes = (len(symmetry.observation_index), len(symmetry.action_index))
    if sizes != (observation_size, actions):
        raise ConfigError(
            "symmetry", sizes, f"one of {observation_size} observations and {actions} actions, as the environment has"
        )
