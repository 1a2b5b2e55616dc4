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
    unsaved_wrappers,
)
from perilune.envs.faults import Env, name, safe_str
from perilune.envs.statistics import Statistics, read_statistics, write_statistics
from perilune.envs.stepping import Spaces, as_obs, checksum, step

__all__ = [
    "Env",
    "Spaces",
    "Statistics",
    "again",
    "as_obs",
    "as_rows",
    "checksum",
    "close",
    "description",
    "flattened",
    "from_recipe",
    "make",
    "make_named",
    "missing",
    "name",
    "read_statistics",
    "recipe",
    "reset",
    "reward_threshold",
    "safe_str",
    "space_sizes",
    "step",
    "time_limit",
    "unsaved_wrappers",
    "write_statistics",
]
