"""Presets by purpose ("recommended", "fast", "plain", "default"), and the tuned settings of each known environment.

The schedules of a preset scale with the budget. If you train a new agent and ``steps`` is ``ratio`` times the budget of
the preset, Perilune multiplies these settings by ``ratio``:

- ``learning_rate_decay_steps`` and ``priority_beta_steps``,
- ``epsilon_decay_steps``, only if ``ratio`` < 1.

It does not scale settings that you pass. It scales nothing if the budget is in episodes, or if the agent has already
been trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from perilune._utils.text import suggestion
from perilune.agent.config import AUTO, DQNConfig, TrainConfig
from perilune.agent.settings import build
from perilune.envs.known import ENVIRONMENTS, lookup
from perilune.envs.known.record import Preset, fast_replay, tuned
from perilune.errors import ConfigError

DEFAULT, PLAIN = "default", "plain"
RECOMMENDED, FAST = "recommended", "fast"
"""The recommended and the fast preset of the environment, or settings for any environment if it has none."""
_GENERAL = {
    # For any environment: epsilon falls slowly. Optimism is off, because a lucky return could mislead the agent.
    DEFAULT: tuned(100_000, epsilon_decay_steps=30_000, optimism=0.0, observation_scale=AUTO, reward_scale=AUTO),
    # Mnih et al., Nature 518, 2015, scaled down for small environments.
    PLAIN: Preset(
        DQNConfig(layer_norm=False, double=False, n_step=1, max_grad_norm=None, tau=1, target_update_interval=500),
        TrainConfig(steps=100_000),
    ),
}
_GENERAL_FAST = fast_replay(100_000, epsilon_decay_steps=20_000, observation_scale=AUTO, reward_scale=AUTO)
SCALED = ("learning_rate_decay_steps", "priority_beta_steps")


def available() -> dict[str, Preset]:
    """Return all presets by name: "default", "plain", and those of the known environments by ID."""
    return _GENERAL | {known.env_id: known.preset for known in ENVIRONMENTS.values() if known.preset is not None}


def preset(environment: str, name: str | None = RECOMMENDED) -> Preset:
    """Return a preset.

    Args:
        environment: ID of the environment. An ID without a version selects the newest version.
        name: "recommended" (reliable, the highest final return), "fast" (the least CPU time), "plain", "default", or
            the ID of an environment that has a preset. None selects the defaults of ``DQNConfig`` with the recommended
            training settings.

    Returns:
        The preset.

    Raises:
        ConfigError: no preset has this name.

    Example:
        >>> preset("CartPole-v1").train.steps
        40000
        >>> preset("CartPole-v1", "fast").train.num_envs
        32
    """
    known = lookup(environment.rpartition(":")[2])  # without the module, if any
    if name == RECOMMENDED:
        return known.preset or _GENERAL[DEFAULT]
    if name == FAST:
        return known.fast or _GENERAL_FAST
    if name is None:
        return replace(preset(environment), agent=DQNConfig())
    named = available()
    if name not in named:
        names = [RECOMMENDED, FAST, *named]
        raise ConfigError("preset", name, f"one of {', '.join(names)}, or None. {suggestion(name, names)}".rstrip())
    return named[name]


def nearest(environment: str, agent: Mapping[str, Any], steps: int | None) -> str:
    """Return the name of the preset, recommended or fast, from which the fewest settings of an agent differ.

    Args:
        environment: ID of the environment.
        agent: settings of the agent.
        steps: the budget in environment steps, or None.
    """

    def differences(name: str) -> int:
        base = preset(environment, name)
        own = as_measured(for_budget(base.agent, base, steps), agent)
        return sum(agent.get(setting) != value for setting, value in own.items())

    return min(RECOMMENDED, FAST, key=differences)


def as_measured(config: DQNConfig, agent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a preset by name, with the values of an agent where the preset has "auto".

    Measured numbers therefore do not count as a difference from a preset.

    Args:
        config: the settings of the preset.
        agent: settings of the agent.
    """
    return vars(config) | {name: agent[name] for name in config.unmeasured if name in agent}


def for_budget(config: DQNConfig, base: Preset, steps: int | None, given: Collection[str] = ()) -> DQNConfig:
    """Return ``config`` with the schedules of a preset scaled to a budget.

    Args:
        config: the settings, based on those of ``base``.
        base: the preset.
        steps: the budget in environment steps. If None, nothing is scaled.
        given: names of the settings that the user set, which are not scaled.

    Returns:
        The settings with scaled schedules.
    """
    if steps is None or base.train.steps is None:
        return config
    ratio = steps / base.train.steps
    names = (*SCALED, *(("epsilon_decay_steps",) if ratio < 1 else ()))
    scaled = {name: max(1, round(getattr(config, name) * ratio)) for name in names if name not in given}
    return replace(config, **scaled)


def derived(environment: str, agent: Mapping[str, Any], steps: int | None) -> set[str]:
    """Return the names of settings that follow from the budget of a run.

    These are the schedules with the value to which the preset of the environment, or one for any environment, scales
    them.

    Args:
        environment: ID of the environment.
        agent: settings of the agent.
        steps: the budget in environment steps, or None.
    """
    purposes = (preset(environment, name) for name in (RECOMMENDED, FAST))
    bases = [] if steps is None else [*purposes, *_GENERAL.values(), _GENERAL_FAST]
    scaled = [vars(for_budget(base.agent, base, steps)) for base in bases]
    return {name for name in (*SCALED, "epsilon_decay_steps") for one in scaled if agent.get(name) == one[name]}


def resolve(
    environment: str, name: str | None, agent: Mapping[str, Any], train: Mapping[str, Any]
) -> tuple[DQNConfig, TrainConfig]:
    """Return all settings of a new agent and of its training.

    Args:
        environment: ID of the environment.
        name: name of the preset, as in ``preset``.
        agent: agent settings that the user set.
        train: training settings that the user set. A budget replaces that of the preset.

    Returns:
        The settings of the agent, with schedules scaled to the budget, and of its training.

    Raises:
        ConfigError: a setting or the preset does not exist, or a value is invalid.
    """
    base = preset(environment, name)
    budget = {"steps": None, "episodes": None} if {"steps", "episodes"} & train.keys() else {}
    training = build(TrainConfig, {**budget, **train}, base.train)
    config = build(DQNConfig, agent, base.agent)
    return config if name is None else for_budget(config, base, training.steps, agent), training
