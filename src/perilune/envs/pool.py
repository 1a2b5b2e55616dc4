"""Environments of EnvPool, which step together in one call. Their random numbers differ from those of Gymnasium."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from perilune._utils import extras
from perilune._utils.arrays import Array
from perilune.envs import faults
from perilune.envs.adapter import close, description, flattened, make, time_limit
from perilune.envs.faults import Env, name
from perilune.errors import ConfigError


def check_pool(env: Env) -> None:
    """Check that EnvPool has an environment.

    Args:
        env: the environment of Gymnasium.

    Raises:
        MissingDependencyError: EnvPool is not installed.
        ConfigError: EnvPool does not have the environment, or not with these arguments and wrappers.
    """
    envpool, spec = _envpool(), env.unwrapped.spec
    if spec is None or spec.id not in envpool.list_all_envs():
        raise ConfigError("envpool", True, f"False, because EnvPool does not have {name(env)}")
    plain = flattened(make(spec.id))
    same = description(env) == description(plain)
    close(plain)
    if not same:
        raise ConfigError("envpool", True, f"False, because {name(env)} has arguments or wrappers of its own")
    if env.unwrapped.observation_space.shape != env.observation_space.shape:
        raise ConfigError("envpool", True, f"False, because EnvPool does not encode the observations of {name(env)}")
    sizes = [(one.observation_space.shape, getattr(one.action_space, "n", None)) for one in (env, _make(env, [0]))]
    if sizes[0] != sizes[1]:
        raise ConfigError("envpool", True, f"False, because {name(env)} has other spaces in EnvPool")


def members(env: Env, seeds: Sequence[int]) -> list[PoolMember]:
    """Return environments that step together, one for each seed.

    Args:
        env: the environment of Gymnasium, which ``check_pool`` accepts.
        seeds: seeds, each below 2^31.
    """
    pool = Pool(_make(env, seeds), env)
    return [PoolMember(pool, index, env) for index in range(len(seeds))]


def send(envs: Sequence[Env], actions: Sequence[int]) -> None:
    """Step the members of a pool together. Their ``step`` then returns the result.

    Args:
        envs: environments. Those that are not members of a pool are left alone.
        actions: the action of each environment.
    """
    waiting = [(env, action) for env, action in zip(envs, actions, strict=True) if isinstance(env, PoolMember)]
    if waiting:
        waiting[0][0].pool.step([env.index for env, _ in waiting], [action for _, action in waiting])


class Pool:
    """An EnvPool and the results of its latest step.

    Args:
        envpool: the EnvPool, in synchronous mode.
        env: the environment of Gymnasium.

    Attributes:
        results: (obs[O], reward, terminated, truncated) of each member that was stepped and has not read it.
    """

    def __init__(self, envpool: Any, env: Env) -> None:
        self.envpool, self.env = envpool, env
        self.results: dict[int, tuple[Array, float, bool, bool]] = {}

    def step(self, indices: Sequence[int], actions: Sequence[int]) -> None:
        """Step some members. A member whose episode has ended must be reset first.

        EnvPool resets such a member instead of stepping it, and returns a time step that is not a transition.
        """
        given, reward, terminated, truncated, info = self.envpool.step(
            np.array(actions, np.int32), np.array(indices, np.int32)
        )
        obs = np.array(given, np.float32)  # a copy, because EnvPool may use its arrays again
        if not (np.isfinite(obs).all() and np.isfinite(reward).all()):
            self._raise_not_finite(obs, reward)
        rows = zip(obs, reward.tolist(), terminated.tolist(), truncated.tolist(), strict=True)
        self.results = dict(zip(info["env_id"].tolist(), rows, strict=True))

    def _raise_not_finite(self, obs: Array, reward: Array) -> None:
        for row, value in zip(obs, reward.tolist(), strict=True):
            if not math.isfinite(value):
                raise faults.not_finite(self.env, value)
            if not np.isfinite(row).all():
                raise faults.obs_not_finite(row)

    def reset(self, index: int) -> Array:
        """Begin an episode of a member and return its first observation [O]."""
        obs, _ = self.envpool.reset(np.array([index], np.int32))
        first: Array = obs[0]
        return first


class PoolMember(gym.Env[Any, Any]):
    """One environment of a pool. Call ``send`` before each ``step``.

    A seed has no effect on ``reset``: the random numbers continue from those of the previous episode.
    """

    def __init__(self, pool: Pool, index: int, env: Env) -> None:
        self.pool, self.index, self.spec = pool, index, env.unwrapped.spec
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        return self.pool.reset(self.index), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return the result of the action that was sent."""
        return *self.result(), {}

    def result(self) -> tuple[Array, float, bool, bool]:
        """Return next_obs, float32 [O], reward, terminated and truncated after the action that was sent."""
        return self.pool.results.pop(self.index)


def _make(env: Env, seeds: Sequence[int]) -> Any:
    spec = env.unwrapped.spec
    assert spec is not None
    made = _envpool().make(
        spec.id,
        env_type="gymnasium",
        num_envs=len(seeds),
        num_threads=1,
        seed=list(seeds),
        max_episode_steps=time_limit(env),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first use of the spaces warns about the precision of their bounds
        _ = made.observation_space, made.action_space
    return made


def _envpool() -> Any:
    try:
        import envpool  # noqa: PLC0415 -- optional, and takes a second to import
    except ImportError as error:
        raise extras.missing("the setting envpool needs EnvPool", "envpool") from error
    return envpool
