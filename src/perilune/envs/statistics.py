"""Running statistics that wrappers such as NormalizeObservation and NormalizeReward collect over all episodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any, Literal, get_args, get_type_hints

import gymnasium as gym
import msgspec
import numpy as np

from perilune._utils.validation import Natural
from perilune.envs.faults import Env

MOMENTS = ("mean", "var", "count")  # the attributes of a RunningMeanStd, in Gymnasium and in other libraries
DISCOUNTED = "discounted_reward"  # of NormalizeReward, which continues after a truncation


class Statistic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number or array of the statistics.

    Attributes:
        name: position of the wrapper, outermost first, and name of the attribute, such as "0.obs_rms.mean".
        dtype: "float" or "int" for a number of Python, else the NumPy dtype.
        shape: shape of the array; empty for a number.
        values: the elements in C order.
    """

    name: str
    dtype: Literal["float", "int", "float32", "float64", "int64"]
    shape: tuple[Natural, ...]
    values: tuple[float, ...]


Statistics = tuple[Statistic, ...]
DTYPES = get_args(get_type_hints(Statistic)["dtype"])


def _holders(env: Env) -> Iterator[tuple[str, Any, str]]:
    """Yield the name, object and attribute of each statistic of an environment and its wrappers."""
    layer: Any = env
    for position in count():
        for name, value in getattr(layer, "__dict__", {}).items():
            if {*MOMENTS} <= getattr(value, "__dict__", {}).keys():
                yield from ((f"{position}.{name}.{moment}", value, moment) for moment in MOMENTS)
            elif name == DISCOUNTED:
                yield f"{position}.{name}", layer, name
        if not isinstance(layer, gym.Wrapper):
            return
        layer = layer.env


def read_statistics(env: Env) -> Statistics:
    """Return the statistics of an environment and its wrappers.

    Args:
        env: the environment.

    Returns:
        The statistics, empty if there are none. Attributes that do not hold finite numbers are omitted.
    """
    found = []
    for name, holder, attribute in _holders(env):
        value = getattr(holder, attribute)
        if not isinstance(value, float | int | np.ndarray | np.generic):
            continue
        array = np.asarray(value)
        dtype = array.dtype.name if isinstance(value, np.ndarray | np.generic) else type(value).__name__
        if dtype in DTYPES and np.isfinite(array).all():
            values = tuple(map(float, array.ravel()))
            found.append(Statistic(name=name, dtype=dtype, shape=array.shape, values=values))  # type: ignore[arg-type]
    return tuple(found)


def write_statistics(env: Env, saved: Statistics) -> None:
    """Set the statistics of an environment and its wrappers to saved values.

    Ignore values that do not fit the environment. A replay of saved episodes then differs.

    Args:
        env: the environment.
        saved: the result of ``read_statistics`` of an environment with the same wrappers.
    """
    values = {statistic.name: statistic for statistic in saved}
    for name, holder, attribute in _holders(env):
        statistic = values.get(name)
        if statistic is None or statistic.shape != np.shape(getattr(holder, attribute)):
            continue
        if len(statistic.values) == math.prod(statistic.shape):
            setattr(holder, attribute, _value(statistic))


def _value(statistic: Statistic) -> Any:
    if statistic.dtype in ("float", "int"):
        return {"float": float, "int": int}[statistic.dtype](statistic.values[0])
    with np.errstate(all="ignore"):  # numbers that a damaged file holds
        return np.array(statistic.values, np.float64).astype(statistic.dtype).reshape(statistic.shape)[()]
