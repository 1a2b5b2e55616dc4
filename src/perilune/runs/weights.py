"""Weights on disk: safetensors, so that opening somebody's file never runs their code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from perilune import envs
from perilune._utils.arrays import Arrays
from perilune.agent.config import DQNConfig, build, to_json
from perilune.agent.dqn import Agent
from perilune.agent.factory import least_weights
from perilune.agent.state import fill
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError, ShapeError
from perilune.replay.symmetry import Symmetry
from perilune.runs import files
from perilune.runs.runlog import WEIGHTS

FORMAT = 2
FORMATS = (1, 2)  # that are read; the first had no checksum
LARGEST_HEADER = 2**22  # bytes; a symmetry has two numbers for every reading
LARGEST_LAYER = 2**20  # units; what a file asks for is checked before anything is allocated


@dataclass(frozen=True)
class Saved:
    """What a weights file says beside the weights."""

    environment: str
    observation_size: int
    actions: int
    seed: int
    env_steps: int
    updates: int
    episodes: int
    target_syncs: int
    config: DQNConfig
    symmetry: Symmetry | None = None


def save_weights(path: Path, agent: Agent, environment: str) -> None:
    """Write the weights (the average's too), the settings and the counters to ``path``, whole or not at all."""
    header = {
        "format": FORMAT,
        "environment": environment,
        "observation_size": agent.observation_size,
        "actions": agent.actions,
        "seed": int(agent.seed),
        "env_steps": agent.env_steps,
        "updates": agent.updates,
        "episodes": agent.episodes,
        "target_syncs": agent.target_syncs,
        "config": to_json(agent.config),
        "symmetry": None if agent.symmetry is None else asdict(agent.symmetry),
    }
    arrays = agent.named_weights()
    header["sha256"] = _checksum(header, arrays)
    content = save(arrays, metadata={"perilune": json.dumps(header)})
    files.write(path, content)


def _checksum(header: dict[str, Any], arrays: Arrays) -> str:
    """SHA-256 of the settings and of all arrays by name."""
    sha256 = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        sha256.update(name.encode())
        sha256.update(np.ascontiguousarray(arrays[name]).data)
    return sha256.hexdigest()


def load_weights(path: Path) -> tuple[Agent, Saved]:
    """The agent that ``path`` holds: its online and target networks have the weights, its replay is empty.

    Raises:
        FileFormatError: the file is damaged, foreign, of another version, or its weights do not fit its settings.
    """
    if not path.is_file():
        raise FileFormatError(
            f"{path} is not a file. Give a .safetensors file that Perilune saved, or a run directory."
        )
    metadata, arrays = files.read_arrays(path)
    if "perilune" not in metadata:
        raise FileFormatError(f"{path} was not saved by Perilune: it has no settings in it")
    try:
        header = files.json_object(metadata["perilune"].encode(), path, LARGEST_HEADER)
        checksum = header.pop("sha256", None) if header.get("format") != 1 else None
        saved = _saved(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{path} has settings that cannot be read: {error}") from error
    if header["format"] != 1 and checksum != _checksum(header, arrays):
        raise FileFormatError(f"{path} is damaged: its checksum is not that of what is in it")

    agent = _agent(path, saved, arrays)
    agent.target.parameters[:] = agent.online.parameters
    agent.env_steps, agent.updates = saved.env_steps, saved.updates
    agent.episodes, agent.target_syncs = saved.episodes, saved.target_syncs
    return agent, saved


def load_with_env(path: Path, env: envs.Env | str | None = None) -> tuple[Agent, Saved, envs.Env]:
    """Return the agent in a weights file, its header, and the environment to use it in.

    Args:
        path: a weights file.
        env: an environment or the id of one. By default, the environment named in the file.

    Raises:
        FileFormatError: the file is damaged, or not a weights file.
        ShapeError: the environment has other sizes than the agent.
    """
    agent, saved = load_weights(path)
    if env is None:
        env = envs.make_named(saved.environment)
    env = envs.flattened(envs.make(env) if isinstance(env, str) else env)
    sizes = envs.check(env)
    if (sizes.observation_size, sizes.actions) != (agent.observation_size, agent.actions):
        raise ShapeError(
            f"the agent in {path} was trained for {agent.observation_size} observations and {agent.actions} "
            f"actions, but {envs.name(env)} has {sizes.observation_size} and {sizes.actions}"
        )
    return agent, saved, env


def _saved(header: dict[str, Any]) -> Saved:
    header = dict(header)
    if header.pop("format") not in FORMATS:
        raise ValueError(f"the format is none of {FORMATS}, which this version of Perilune reads")
    config = build(DQNConfig, header.pop("config"))
    symmetry = header.pop("symmetry", None)
    if symmetry is not None:
        symmetry = Symmetry(**{name: tuple(values) for name, values in symmetry.items()})  # JSON has lists
    saved = Saved(config=config, symmetry=symmetry, **header)
    units = (units for units, _ in config.hidden_layers)
    counts = (saved.observation_size, saved.actions, config.outputs_per_action, *units)
    if not all(type(count) is int and 1 <= count <= LARGEST_LAYER for count in counts):
        raise ConfigError("sizes", counts, f"whole numbers from 1 to {LARGEST_LAYER}")
    numbers = (saved.seed, saved.env_steps, saved.updates, saved.episodes, saved.target_syncs)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ConfigError("counters", numbers, "whole numbers >= 0")
    if not isinstance(saved.environment, str) or ":" in saved.environment:  # Gymnasium imports what is before a colon
        raise ConfigError("environment", saved.environment, "the id of an environment")
    return saved


def _agent(path: Path, saved: Saved, arrays: Arrays) -> Agent:
    expected = least_weights(saved.config, saved.observation_size, saved.actions)
    found = sum(array.size for array in arrays.values())
    if found < expected:
        raise FileFormatError(f"{path} has {found:,} weights, but its settings ask for {expected:,} or more")
    try:
        agent = Agent(saved.observation_size, saved.actions, saved.config, saved.seed, saved.symmetry)
    except ConfigError as error:
        raise FileFormatError(f"{path} has settings that no agent can have: {error}") from error
    except (MemoryError, OverflowError, ValueError) as error:
        raise FileFormatError(f"{path} asks for more memory than there is: {error}") from error
    try:
        fill(agent.named_weights(), arrays)
    except ShapeError as error:
        raise FileFormatError(f"{path} does not fit its own settings: {error}") from error
    return agent


def weights_file(run_or_file: Path, checkpoint: str = "best") -> Path:
    """The weights file meant by a run directory and a checkpoint's name, or by a file itself.

    Raises:
        RunDirectoryError: there is no such file.
    """
    named = run_or_file.with_name(f"{run_or_file.name}.safetensors") if run_or_file.name else run_or_file
    for file in (run_or_file, named):
        if file.is_file() and not run_or_file.is_dir():
            return file
    path = run_or_file / WEIGHTS[checkpoint]
    if not path.is_file():
        where = "there is no such directory" if not run_or_file.exists() else f"it has no {path.name}"
        others = [name for name, file in WEIGHTS.items() if (run_or_file / file).is_file()]
        hint = f", but {others[0]!r} is there" if others else ""
        others_named = [named, *sorted(run_or_file.glob(f"*/{path.name}"))]
        if found := [str(candidate) for candidate in others_named if candidate.is_file()]:
            hint += f". Did you mean {found[0]}?"
        raise RunDirectoryError(f"{run_or_file} holds no {checkpoint!r} checkpoint: {where}{hint}")
    return path
