"""Names of environments, and errors that report faults of an environment.

Objects that an environment returns or raises may themselves raise an exception when they are converted to text.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import EnvironmentFaultError

Env = gym.Env[Any, Any]


def name(env: Env) -> str:
    """Return the registered ID of an environment, or the name of its class if it has no ID."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def safe_str(error: BaseException) -> str:
    """Return the message of an exception, even if its ``__str__`` raises."""
    try:
        return str(error)
    except Exception as failed:
        return f"(its __str__ raised {type(failed).__name__})"


def shown(value: Any) -> str:
    """Return a short ``repr`` of any object."""
    try:
        text = repr(value)
    except Exception:  # a __repr__ that raises, or an integer of thousands of digits
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."


def as_number(env: Env, reward: Any) -> float:
    """Convert a reward that is not a Python float."""
    try:
        refused = isinstance(reward, str | bytes | bytearray | np.complexfloating)  # float() would accept these
        if refused or (isinstance(reward, np.ndarray) and reward.dtype.kind not in "biufO"):
            raise TypeError
        return float(reward)
    except Exception as error:  # a __float__ may raise anything
        raise EnvironmentFaultError(f"{name(env)}.step returned reward={shown(reward)}: expected a number.") from error


def not_a_step(env: Env, given: Any) -> EnvironmentFaultError:
    """Return the error for a result of ``step`` that is not five values."""
    what = f"{len(given)} values" if isinstance(given, tuple) else type(given).__name__
    return EnvironmentFaultError(
        f"{name(env)}.step returned {what}: expected (obs, reward, terminated, truncated, info). Replace the done flag "
        "of old Gym with two flags: terminated for the end of the task, truncated for a time limit."
    )


def not_finite(env: Env, reward: float) -> EnvironmentFaultError:
    """Return the error for a reward that is not finite in single precision."""
    return EnvironmentFaultError(
        f"{name(env)}.step returned reward={reward}: expected a number that is finite in single precision. A single "
        "reward that is not finite makes every weight NaN. Look for a division by zero, a logarithm of zero or an "
        "unbounded penalty, or clip the reward with gymnasium.wrappers.TransformReward."
    )


def obs_not_finite(obs: Array) -> EnvironmentFaultError:
    """Return the error for an observation that is not finite in single precision."""
    entries = ", ".join(f"obs[{index}] = {obs[index]}" for index in np.flatnonzero(~np.isfinite(obs))[:4])
    return EnvironmentFaultError(
        f"The environment returned {entries}: expected numbers that are finite in single precision. A single "
        "number that is not finite makes every weight NaN. Look for a division by zero or an infinite bound, or clip "
        "the observation with "
        "gymnasium.wrappers.TransformObservation."
    )


def masked(where: str = "") -> EnvironmentFaultError:
    """Return the error for an observation, or its part at ``where``, that is a masked array."""
    return EnvironmentFaultError(
        f"The environment returned a masked array{where}: expected an array without masked entries. Fill them, for "
        "example with observation.filled(0)."
    )
