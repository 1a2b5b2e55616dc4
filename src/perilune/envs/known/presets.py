"""Presets: "default", "plain", and the tuned settings of each known environment.

The schedules of a preset scale with the budget. If you train a new agent for another number of environment steps than
the budget of the preset, with ``ratio`` = your budget / that of the preset:

- ``learning_rate_decay_steps`` and ``priority_beta_steps`` are multiplied by ``ratio``.
- ``epsilon_decay_steps`` is multiplied by ``ratio`` if your budget is smaller.
- Settings that you pass, budgets in episodes and later trainings of the same agent scale nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import build
from perilune.envs.known import ENVIRONMENTS, lookup
from perilune.envs.known.record import Preset, tuned
from perilune.errors import ConfigError

DEFAULT, PLAIN = "default", "plain"
RECOMMENDED = "recommended"
"""The preset of the environment, or "default" if it has none."""
_GENERAL = {
    # For any environment: epsilon falls slowly, and no optimism, which a lucky return could mislead.
    DEFAULT: tuned(100_000, epsilon_decay_steps=30_000, optimism=0.0),
    # Mnih et al., Nature 518, 2015, at the size of these environments.
    PLAIN: Preset(
        DQNConfig(layer_norm=False, double=False, n_step=1, max_grad_norm=None, tau=1, target_update_interval=500),
        TrainConfig(steps=100_000),
    ),
}
SCALED = ("learning_rate_decay_steps", "priority_beta_steps")


def available() -> dict[str, Preset]:
    """Return all presets by name: "default", "plain", and those of the known environments by ID."""
    return _GENERAL | {known.env_id: known.preset for known in ENVIRONMENTS.values() if known.preset is not None}


def preset(environment: str, name: str | None = RECOMMENDED) -> Preset:
    """Return a preset.

    Args:
        environment: ID of the environment. Without a version, it means the newest one.
        name: "recommended", "plain", "default", or the ID of an environment that has a preset. None stands for the
            defaults of ``DQNConfig`` with the recommended training.

    Raises:
        ConfigError: there is no preset of that name.

    Example:
        >>> preset("CartPole-v1").train.steps
        40000
    """
    if name == RECOMMENDED:
        return lookup(environment.rpartition(":")[2]).preset or _GENERAL[DEFAULT]  # of my_module:MyEnv-v0
    if name is None:
        return replace(preset(environment), agent=DQNConfig())
    named = available()
    if name not in named:
        raise ConfigError("preset", name, f"one of {', '.join([RECOMMENDED, *named])}, or None")
    return named[name]


def for_budget(config: DQNConfig, base: Preset, steps: int | None, given: Collection[str] = ()) -> DQNConfig:
    """Return ``config`` with the schedules of a preset scaled to a budget.

    Args:
        config: the settings, most of them from ``base``.
        base: the preset.
        steps: the budget in environment steps. If None, nothing is scaled.
        given: names of the settings that the user chose, which are not scaled.
    """
    if steps is None or base.train.steps is None:
        return config
    ratio = steps / base.train.steps
    names = (*SCALED, *(("epsilon_decay_steps",) if ratio < 1 else ()))
    scaled = {name: max(1, round(getattr(config, name) * ratio)) for name in names if name not in given}
    return replace(config, **scaled)


def resolve(
    environment: str, name: str | None, agent: Mapping[str, Any], train: Mapping[str, Any]
) -> tuple[DQNConfig, TrainConfig]:
    """Return all settings of a new agent and its training.

    Args:
        environment: ID of the environment.
        name: name of the preset, as in ``preset``.
        agent: settings of the agent that the user chose.
        train: settings of the training that the user chose. A budget replaces that of the preset.

    Raises:
        ConfigError: a setting or the preset does not exist, or a value is invalid.
    """
    base = preset(environment, name)
    budget = {"steps": None, "episodes": None} if {"steps", "episodes"} & train.keys() else {}
    training = build(TrainConfig, {**budget, **train}, base.train)
    config = build(DQNConfig, agent, base.agent)
    return config if name is None else for_budget(config, base, training.steps, agent), training
