"""The settings as options, and what all commands share."""

from __future__ import annotations

import json

from perilune.agent.config import DQNConfig, TrainConfig, build


class TrainOptions(TrainConfig):
    """How long to train, and what to look at on the way."""

    def __post_init__(self) -> None:
        """Nothing is checked before all options are read: their defaults depend on the preset."""


class AgentOptions(DQNConfig):
    """What the agent is and how it learns."""

    def __post_init__(self) -> None:
        """As above."""


def chosen(options: AgentOptions, base: DQNConfig) -> DQNConfig:
    """The options over the preset that they started from: those that differ from it were asked for."""
    return build(
        DQNConfig, {name: value for name, value in vars(options).items() if value != getattr(base, name)}, base
    )


def print_json(value: object) -> None:
    print(json.dumps(value, allow_nan=False))
