"""Reset and step an environment, and check everything that it returns before the agent learns from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.envs.faults import Env, as_number, name, safe_str, shown
from perilune.errors import EnvironmentFaultError, PeriluneError
from perilune.replay.buffer import LARGEST_REWARD


class Spaces(NamedTuple):
    """Sizes of an environment: O, A, and the number of its first action (almost always 0)."""

    observation_size: int
    actions: int
    first_action: int


def step(env: Env, sizes: Spaces, action: int) -> tuple[Array, float, bool, bool]:
    """Take one step with an ``action`` from 0 to A - 1; return next_obs[O], reward, terminated, truncated.

    Raises:
        EnvironmentFaultError: the environment raised, or did not return (obs, reward, terminated, truncated, info) with
            a finite reward and a finite obs[O].
    """
    given = call(env, "step", lambda: env.step(sizes.first_action + action))
    try:
        observation, reward, terminated, truncated, _ = given
    except Exception as error:  # an __iter__ may raise anything
        what = f"{len(given)} values" if isinstance(given, tuple) else type(given).__name__
        raise EnvironmentFaultError(
            f"{name(env)}.step gave {what}, not (obs, reward, terminated, truncated, info). The old Gym's done is "
            "terminated or truncated: terminated is the end of the task, truncated a time limit"
        ) from error
    value = reward if type(reward) is float else as_number(env, reward)
    if not -LARGEST_REWARD <= value <= LARGEST_REWARD:  # false for NaN too
        raise EnvironmentFaultError(
            f"{name(env)}.step gave the reward {value}, which is not finite in single precision. One such number "
            "spoils every weight. Find its cause (a division by zero, a logarithm of zero, an unbounded penalty), or "
            "clip it with gymnasium.wrappers.TransformReward"
        )
    for word, flag in (("terminated", terminated), ("truncated", truncated)):
        if flag is not False and flag is not True and not (isinstance(flag, np.bool_ | int) and flag in (0, 1)):
            raise EnvironmentFaultError(
                f"{name(env)}.step gave {word} = {shown(flag)}, which is neither True nor False"
            )
    return as_obs(observation, sizes.observation_size), value, bool(terminated), bool(truncated)


def call(env: Env, what: str, function: Callable[[], Any]) -> Any:
    """Return ``function()``; turn its exceptions into EnvironmentFaultError, which names the environment."""
    try:
        return function()
    except PeriluneError:
        raise
    except Exception as error:  # an environment may raise anything
        raise EnvironmentFaultError(f"{name(env)}.{what} raised {type(error).__name__}: {safe_str(error)}") from error


def as_obs(observation: Any, size: int) -> Array:
    """Return one observation as a new float32 array [O]; the environment may reuse its own.

    Raises:
        EnvironmentFaultError: it is not an array of numbers, has another shape than the observation space, or holds a
            number that is not finite in single precision.
    """
    try:
        if getattr(observation, "dtype", None) == np.float32:
            obs = np.array(observation)
        else:
            given = np.asarray(observation)
            if given.dtype.kind not in "biufO":  # astype would convert strings, and drop half of a complex number
                raise TypeError(f"it is of {given.dtype}")
            with np.errstate(over="ignore"):  # the check for infinity reports it
                obs = given.astype(np.float32)
    except Exception as error:  # an __array__ may raise anything
        raise EnvironmentFaultError(
            f"the environment gave an observation that is no array of numbers: {safe_str(error)}"
        ) from error
    if obs.shape != (size,):
        raise EnvironmentFaultError(
            f"the environment gave an observation of shape {obs.shape}, but its observation space says ({size},)"
        )
    if not np.isfinite(obs).all():
        entries = ", ".join(f"obs[{index}] = {obs[index]}" for index in np.flatnonzero(~np.isfinite(obs))[:4])
        raise EnvironmentFaultError(
            f"the environment gave an observation that is not finite in single precision: {entries}. One such number "
            "spoils every weight. Find its cause (a division by zero, an infinite bound), or clip it with "
            "gymnasium.wrappers.TransformObservation"
        )
    return obs
