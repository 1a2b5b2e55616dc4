"""Save and load weights as safetensors files, which cannot run code when they are opened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from perilune import envs
from perilune._utils.validation import Count, Natural
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.agent.factory import least_weights
from perilune.agent.state import AVERAGE, COUNTERS, fill, named_weights
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError, ShapeError
from perilune.replay.symmetry import Symmetry
from perilune.runs import archive, logs, manifest, pretrained
from perilune.runs.layout import WEIGHTS, resume_command
from perilune.training.events import Evaluated

KIND = "perilune weights 1"
LARGEST_HEADER = 2**22  # bytes; a symmetry has two numbers for every entry of an observation


class SavedWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata of a weights file.

    Attributes:
        environment: ID of the environment, without the module that registers it.
        observation_size: size of a flattened observation.
        actions: number of actions.
        seed: seed of the agent.
        env_steps: environment steps so far, in all environments together.
        updates: gradient steps so far.
        episodes: finished episodes.
        target_syncs: updates of the target network so far.
        config: all settings of the agent.
        symmetry: the symmetry for the setting ``mirror``; None if the environment has none.
    """

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


def save_weights(path: Path, agent: Agent, environment: str, *, policy_only: bool = False) -> None:
    """Write the weights, settings and counters of an agent to a file, atomically.

    Args:
        path: the file.
        agent: the agent. With ``ema_decay``, the averaged weights are saved too.
        environment: ID of its environment, without a module.
        policy_only: save only the weights used for evaluation. All networks of the loaded agent start from them.

    Raises:
        RunDirectoryError: the file cannot be written. An existing file is unchanged.
    """
    names = ("observation_size", "actions", "seed", "config", "symmetry", *COUNTERS)
    content = SavedWeights(environment=environment, **{name: getattr(agent, name) for name in names})
    arrays = agent.policy_network.named_parameters() if policy_only else named_weights(agent)
    archive.write(path, KIND, content, arrays, LARGEST_HEADER)


def load_weights(path: Path) -> tuple[Agent, SavedWeights]:
    """Load an agent. Its replay buffer is empty, and online and target network have the saved weights.

    If the file has no averaged weights, the average also starts from the saved weights.

    Args:
        path: a weights file.

    Returns:
        The agent and the metadata of the file.

    Raises:
        RunDirectoryError: the file cannot be read.
        FileFormatError: the file is damaged, was not saved by Perilune, or has weights that do not fit its settings.
    """
    if not path.is_file():
        raise FileFormatError(f"{path} is not a file. Pass a .safetensors file saved by Perilune, or a run directory.")
    saved, checksum = archive.read_content(path, KIND, SavedWeights, LARGEST_HEADER)
    arrays = archive.read_arrays(path, checksum)
    expected = least_weights(saved.config, saved.observation_size, saved.actions)
    found = sum(array.size for array in arrays.values())
    if found < expected:
        raise FileFormatError(f"{path} has {found:,} weights, but its settings require at least {expected:,}")
    try:
        agent = Agent(saved.observation_size, saved.actions, saved.config, saved.seed, saved.symmetry)
        has_average = any(name.startswith(AVERAGE) for name in arrays)
        fill(named_weights(agent) if has_average else agent.online.named_parameters(), arrays)
    except (ConfigError, ShapeError) as error:
        raise FileFormatError(f"{path} does not fit its own settings: {error}") from error
    except (MemoryError, OverflowError, ValueError) as error:
        raise FileFormatError(f"{path} requires more memory than available: {error}") from error
    agent.target.parameters[:] = agent.online.parameters
    if agent.average is not None and not has_average:
        agent.average.parameters[:] = agent.online.parameters
    for name in COUNTERS:
        setattr(agent, name, getattr(saved, name))
    return agent, saved


def load_with_env(path: Path, env: envs.Env | str | None = None) -> tuple[Agent, SavedWeights, envs.Env]:
    """Load an agent and make an environment for it.

    Args:
        path: a weights file.
        env: an environment or its ID. By default, the one named in the file.

    Returns:
        The agent, the metadata of the file, and the environment with flattened observations.

    Raises:
        RunDirectoryError: the file cannot be read.
        FileFormatError: the file is damaged, or not a weights file.
        ShapeError: the observation size or the number of actions differs between agent and environment.
        UnsupportedEnvironmentError: the environment does not exist, or Perilune does not support its spaces.
    """
    agent, saved = load_weights(path)
    if env is None:
        env = envs.make_named(saved.environment)
    env = envs.flattened(envs.make(env) if isinstance(env, str) else env)
    sizes = envs.space_sizes(env)
    if (sizes.observation_size, sizes.actions) != (agent.observation_size, agent.actions):
        raise ShapeError(
            f"the agent in {path} was trained with observations of size {agent.observation_size} and {agent.actions} "
            f"actions, but {envs.name(env)} has size {sizes.observation_size} and {sizes.actions} actions. Pass the "
            "environment in which it was trained."
        )
    return agent, saved, env


def weights_file(run_or_file: Path, checkpoint: str = "best") -> Path:
    """Return the path of a weights file.

    Args:
        run_or_file: a run directory, or a weights file with or without its suffix.
        checkpoint: which weights of a run directory, "best" or "final".

    Returns:
        The path of an existing file.

    Raises:
        RunDirectoryError: there is no such file.
    """
    named = run_or_file.with_name(f"{run_or_file.name}.safetensors") if run_or_file.name else run_or_file
    for file in (run_or_file, named):
        if file.is_file() and not run_or_file.is_dir():
            return file
    path = run_or_file / WEIGHTS[checkpoint]
    if path.is_file():
        return path
    expected = "a run directory or a .safetensors file"
    if not run_or_file.exists():
        other = ", not the ID of an environment" if re.search(r"-v\d+$", run_or_file.name) else ""
        hint = "`perilune list` lists the runs in runs/."
        if (env_id := str(run_or_file)) in pretrained.available():
            hint = f"For the pre-trained agent, add --pretrained, or write DQN.pretrained({env_id!r}) in Python."
        raise RunDirectoryError(f"{run_or_file} does not exist: expected {expected}{other}. {hint}")
    raise RunDirectoryError(_missing(run_or_file, checkpoint))


def _missing(directory: Path, checkpoint: str) -> str:
    """Return why a directory has no weights of this name, and what to do."""
    others = [name for name, file in WEIGHTS.items() if (directory / file).is_file()]
    if not others:
        manifest.check_run(directory)
    why, hints = "", [f"pass --checkpoint {name} or the file {directory / WEIGHTS[name]}" for name in others]
    if (directory / "config.json").exists():
        if checkpoint == "final":
            why = ", because training has not ended"
        elif logs.last_record(directory, Evaluated) is None:
            why = ", because training has not evaluated the agent yet"
            hints.append("train with a smaller --eval-every")
        hints.append(f"resume the run with: {resume_command(directory)}")
    hint = ", or ".join(hints)
    return (
        f"{directory} has no {checkpoint} weights: {WEIGHTS[checkpoint]} does not exist{why}. "
        f"{hint[:1].upper()}{hint[1:]}"
    )
