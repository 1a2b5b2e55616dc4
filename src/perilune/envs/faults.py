"""Name and describe what an environment did wrong. Whatever it returns or raises may itself raise."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from perilune.errors import EnvironmentFaultError

Env = gym.Env[Any, Any]


def name(env: Env) -> str:
    """Return the registered id of an environment, or the name of its class if it has none."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def safe_str(error: Exception) -> str:
    """Return the message of any exception; its ``__str__`` may raise too."""
    try:
        return str(error)
    except Exception as failed:
        return f"(its __str__ raised {type(failed).__name__})"


def shown(value: Any) -> str:
    """Return a short ``repr`` of anything."""
    try:
        text = repr(value)
    except Exception:  # a __repr__ that raises, or an integer of thousands of digits
        return f"of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."


def as_number(env: Env, reward: Any) -> float:
    """Convert a reward that is not Python's own float."""
    try:
        refused = isinstance(reward, str | bytes | bytearray | np.complexfloating)  # float() would take these
        if refused or (isinstance(reward, np.ndarray) and reward.dtype.kind not in "biufO"):
            raise TypeError
        return float(reward)
    except Exception as error:  # a __float__ may raise anything
        raise EnvironmentFaultError(f"{name(env)}.step gave the reward {shown(reward)}, which is no number") from error
