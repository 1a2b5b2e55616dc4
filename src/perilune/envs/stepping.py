"""Step an environment, and check what it returns before the agent learns from it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.envs import faults
from perilune.envs.faults import Env, name, safe_str
from perilune.errors import EnvironmentFaultError, PeriluneError
from perilune.replay.buffer import LARGEST_REWARD


class Spaces(NamedTuple):
    """Sizes of the spaces of an environment.

    Attributes:
        observation_size: O, the size of an observation.
        actions: A, the number of actions.
        first_action: number of the first action, almost always 0.
    """

    observation_size: int
    actions: int
    first_action: int


def step(env: Env, sizes: Spaces, action: int) -> tuple[Array, float, bool, bool]:
    """Take one time step and return next_obs, float32 [O], reward, terminated and truncated.

    Args:
        env: the environment.
        sizes: the sizes of its spaces.
        action: the action, from 0 to A - 1.

    Raises:
        EnvironmentFaultError: the environment raised an exception, or did not return (obs, reward, terminated,
            truncated, info) with a finite reward and a finite obs[O].
    """
    given = call(env, "step", lambda: env.step(sizes.first_action + action))
    try:
        observation, reward, terminated, truncated, _ = given
    except Exception as error:  # an __iter__ may raise anything
        raise faults.not_a_step(env, given) from error
    value = reward if type(reward) is float else faults.as_number(env, reward)
    if not -LARGEST_REWARD <= value <= LARGEST_REWARD:  # also rejects NaN
        raise faults.not_finite(env, value)
    for word, flag in (("terminated", terminated), ("truncated", truncated)):
        if (
            flag is not False
            and flag is not True
            and not (isinstance(flag, np.bool_ | np.integer | int) and flag in (0, 1))
        ):
            raise EnvironmentFaultError(
                f"{name(env)}.step returned {word}={faults.shown(flag)}: expected True or False."
            )
    return as_obs(observation, sizes.observation_size), value, bool(terminated), bool(truncated)


def checksum(before: int, obs: Array, reward: float, terminated: bool, truncated: bool) -> int:
    """Return a checksum of what an environment has returned so far.

    Args:
        before: the checksum of earlier time steps.
        obs: the observation.
        reward: the reward, 0 at a reset.
        terminated: whether the episode has terminated.
        truncated: whether the episode was truncated.
    """
    return zlib.crc32(obs.tobytes() + struct.pack("<d??", reward, terminated, truncated), before)


def call(env: Env, what: str, function: Callable[[], Any]) -> Any:
    """Return ``function()``. Turn its exceptions into EnvironmentFaultError, which names the environment."""
    try:
        return function()
    except PeriluneError:
        raise
    except (Exception, SystemExit) as error:  # an environment may raise anything
        raise EnvironmentFaultError(f"{name(env)}.{what} raised {type(error).__name__}: {safe_str(error)}") from error


def as_obs(observation: Any, size: int) -> Array:
    """Return an observation as a new float32 array [O], because the environment may reuse its own.

    Args:
        observation: the observation.
        size: O.

    Raises:
        EnvironmentFaultError: it is not an array of numbers, is masked, does not have the shape of the observation
            space, or has an entry that is not finite in single precision.
    """
    if isinstance(observation, np.ma.MaskedArray):
        raise faults.masked()
    try:
        if getattr(observation, "dtype", None) == np.float32:
            obs = np.array(observation)
        else:
            given = np.asarray(observation)
            if given.dtype.kind not in "biufO":  # astype would convert strings and drop imaginary parts
                raise TypeError(f"its dtype is {given.dtype}")
            with np.errstate(over="ignore"):  # the check for infinity reports it
                obs = given.astype(np.float32)
    except Exception as error:  # an __array__ may raise anything
        raise EnvironmentFaultError(
            f"The environment returned an observation that is not an array of numbers: {safe_str(error)}"
        ) from error
    if obs.shape != (size,):
        raise EnvironmentFaultError(
            f"The environment returned an observation of shape {obs.shape}: expected ({size},), as in its space."
        )
    if not np.isfinite(obs).all():
        raise faults.obs_not_finite(obs)
    return obs
