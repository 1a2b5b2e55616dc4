"""Weights on disk as safetensors files, which cannot run code when they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from perilune import envs
from perilune._utils.validation import Count, Natural
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.agent.factory import least_weights
from perilune.agent.state import COUNTERS, fill, named_weights
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError, ShapeError
from perilune.replay.symmetry import Symmetry
from perilune.runs import archive
from perilune.runs.layout import WEIGHTS

KIND = "perilune weights 1"
LARGEST_HEADER = 2**22  # bytes; a symmetry has two numbers for every entry of an observation


class SavedWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The description that a weights file holds beside its arrays."""

    environment: Annotated[str, Meta(pattern=r"^[^:]*\Z")]  # Gymnasium imports the module named before a colon
    observation_size: Count
    actions: Count
    seed: Natural
    env_steps: Natural
    updates: Natural
    episodes: Natural
    target_syncs: Natural
    config: DQNConfig
    symmetry: Symmetry | None


def save_weights(path: Path, agent: Agent, environment: str) -> None:
    """Write the weights (the averaged ones too), settings and counters of ``agent`` to ``path`` atomically."""
    names = ("observation_size", "actions", "seed", "config", "symmetry", *COUNTERS)
    content = SavedWeights(environment=environment, **{name: getattr(agent, name) for name in names})
    archive.write(path, KIND, content, named_weights(agent), LARGEST_HEADER)


def load_weights(path: Path) -> tuple[Agent, SavedWeights]:
    """Return the agent saved in ``path``, with an empty replay buffer and the weights in both networks.

    Raises:
        FileFormatError: the file is damaged or foreign, or its weights do not fit its settings.
    """
    if not path.is_file():
        raise FileFormatError(f"{path} is not a file. Pass a .safetensors file saved by Perilune, or a run directory.")
    saved, checksum = archive.read_content(path, KIND, SavedWeights, LARGEST_HEADER)
    arrays = archive.read_arrays(path, checksum)
    expected = least_weights(saved.config, saved.observation_size, saved.actions)
    found = sum(array.size for array in arrays.values())
    if found < expected:
        raise FileFormatError(f"{path} has {found:,} weights, but its settings ask for {expected:,} or more")
    try:
        agent = Agent(saved.observation_size, saved.actions, saved.config, saved.seed, saved.symmetry)
        fill(named_weights(agent), arrays)
    except (ConfigError, ShapeError) as error:
        raise FileFormatError(f"{path} does not fit its own settings: {error}") from error
    except (MemoryError, OverflowError, ValueError) as error:
        raise FileFormatError(f"{path} asks for more memory than there is: {error}") from error
    agent.target.parameters[:] = agent.online.parameters
    for name in COUNTERS:
        setattr(agent, name, getattr(saved, name))
    return agent, saved


def load_with_env(path: Path, env: envs.Env | str | None = None) -> tuple[Agent, SavedWeights, envs.Env]:
    """Return the agent in a weights file, its description, and the environment to use it in.

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
    sizes = envs.space_sizes(env)
    if (sizes.observation_size, sizes.actions) != (agent.observation_size, agent.actions):
        raise ShapeError(
            f"the agent in {path} was trained for {agent.observation_size} observations and {agent.actions} "
            f"actions, but {envs.name(env)} has {sizes.observation_size} and {sizes.actions}"
        )
    return agent, saved, env


def weights_file(run_or_file: Path, checkpoint: str = "best") -> Path:
    """Return the weights file of a run directory ("best" or "final"), or ``run_or_file`` itself if it is a file.

    Raises:
        RunDirectoryError: there is no such file.
    """
    named = run_or_file.with_name(f"{run_or_file.name}.safetensors") if run_or_file.name else run_or_file
    for file in (run_or_file, named):
        if file.is_file() and not run_or_file.is_dir():
            return file
    path = run_or_file / WEIGHTS[checkpoint]
    if not path.is_file():
        where = f"{path.name} does not exist" if run_or_file.exists() else "the directory does not exist"
        others = [name for name, file in WEIGHTS.items() if (run_or_file / file).is_file()]
        hint = f", but {others[0]!r} does" if others else ""
        candidates = [named, *sorted(run_or_file.glob(f"*/{path.name}"))]
        if found := [str(candidate) for candidate in candidates if candidate.is_file()]:
            hint += f". Did you mean {found[0]}?"
        raise RunDirectoryError(f"{run_or_file} has no {checkpoint!r} weights: {where}{hint}")
    return path
