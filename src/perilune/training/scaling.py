"""Measure the scale of observations and rewards in an environment, for settings that are "auto"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from perilune import envs
from perilune._utils.seeding import episode_seed
from perilune.agent.config import SINGLE, DQNConfig
from perilune.errors import EnvironmentFaultError, UnsupportedEnvironmentError, located

STEPS = 1_000
LONGEST = 250  # steps of an episode, so that there are several episodes


def measured(config: DQNConfig, env: envs.Env) -> DQNConfig:
    """Return settings with numbers instead of "auto".

    Perilune takes 1,000 steps with uniformly random actions, in episodes of at most 250 steps. These steps do not count
    towards the budget of a training run. The random numbers do not depend on the seed of the run, so that agents with
    different seeds have the same settings.

    - ``observation_scale``: the largest absolute value of each entry of the observation, or 1 if it was always 0. If
      all numbers are 1, as for one-hot encoded observations, the result is None.
    - ``reward_scale``: the median absolute value of the rewards that are not 0, or 1 if all were 0.

    Args:
        config: the settings.
        env: the environment, with flattened observations. If it can be made a second time, it is not changed. Otherwise
            it is reset.

    Raises:
        EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface.
    """
    if not config.unmeasured:
        return config
    try:
        own = envs.again(env)
    except UnsupportedEnvironmentError:
        statistics = envs.read_statistics(env)
        found = _play(env)
        envs.write_statistics(env, statistics)
    else:
        found = _play(own)
        envs.close(own)
    return replace(config, **{name: found[name] for name in config.unmeasured})


def _play(env: envs.Env) -> dict[str, Any]:
    """Return both settings, measured in ``env``."""
    generator, sizes = np.random.default_rng(0), envs.space_sizes(env)
    largest, rewards, over, length = np.zeros(sizes.observation_size, np.float32), [], True, 0
    try:
        for _ in range(STEPS):
            if over:
                largest = np.maximum(largest, np.abs(envs.reset(env, episode_seed(generator))))
                length = 0
            obs, reward, terminated, truncated = envs.step(env, sizes, int(generator.integers(sizes.actions)))
            largest, length = np.maximum(largest, np.abs(obs)), length + 1
            over = terminated or truncated or length == LONGEST
            if reward:
                rewards.append(abs(reward))
    except EnvironmentFaultError as error:
        raise located(error, "a random step that measures the scale of observations and rewards") from error
    largest[largest == 0] = 1
    scale = tuple(map(_short, largest))
    reward_scale = _short(np.median(rewards)) if rewards else 1.0
    return {"observation_scale": None if set(scale) == {1} else scale, "reward_scale": reward_scale}


def _short(value: float | np.floating[Any]) -> float:
    """Return the number with the fewest digits that is ``value`` in single precision, in the allowed range."""
    return float(str(np.float32(np.clip(value, *SINGLE))))
