"""Environments: the Gymnasium adapter, rendering, and records of known environments."""

from perilune.envs.adapter import (
    again,
    as_rows,
    close,
    description,
    flattened,
    from_recipe,
    make,
    make_named,
    missing,
    recipe,
    reset,
    reward_threshold,
    space_sizes,
    time_limit,
)
from perilune.envs.faults import Env, name, safe_str
from perilune.envs.stepping import Spaces, as_obs, step

__all__ = [
    "Env",
    "Spaces",
    "again",
    "as_obs",
    "as_rows",
    "close",
    "description",
    "flattened",
    "from_recipe",
    "make",
    "make_named",
    "missing",
    "name",
    "recipe",
    "reset",
    "reward_threshold",
    "safe_str",
    "space_sizes",
    "step",
    "time_limit",
]
