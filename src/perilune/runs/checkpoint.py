"""Save and load checkpoints.

A checkpoint is a file with the complete state of a run, so that the run can resume exactly.
RUN/checkpoints/000000120000.safetensors is the checkpoint after 120,000 environment steps.
docs/reference/checkpoints.md describes the format.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from perilune.agent import state
from perilune.agent.dqn import Agent
from perilune.agent.factory import least_weights
from perilune.agent.state import AgentState
from perilune.errors import ConfigError, FileFormatError, PeriluneError, PeriluneWarning, RunDirectoryError, ShapeError
from perilune.runs import archive, files, manifest
from perilune.runs.layout import WEIGHTS, check_links
from perilune.runs.logs import LogState
from perilune.runs.manifest import Setup
from perilune.training.progress import TrainingProgress

KIND = "perilune checkpoint 1"
DIRECTORY = "checkpoints"
LARGEST_HEADER = 2**26  # bytes; the header lists the actions of all running episodes
BEST = "best_weights"  # name of the array with the content of best.safetensors


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata of a checkpoint: everything except its arrays.

    Attributes:
        perilune: the version of Perilune that wrote the checkpoint.
        setup: the environment, the seed and all settings.
        agent: the state of the agent, except its arrays.
        training: the progress of training.
        best: whether the best evaluation so far took place immediately before saving.
        has_best_weights: whether the checkpoint holds the best weights so far.
        logs: size and checksum of each log at the time of saving.
    """

    perilune: str
    setup: Setup
    agent: AgentState
    training: TrainingProgress
    best: bool
    has_best_weights: bool
    logs: tuple[LogState, ...]


def path_of(directory: Path, env_steps: int) -> Path:
    """Return the path of a run's checkpoint after ``env_steps``."""
    return directory / DIRECTORY / f"{env_steps:012d}.safetensors"


def paths(directory: Path) -> list[Path]:
    """Return the paths of all checkpoints of a run, oldest first."""
    found = (directory / DIRECTORY).glob("*.safetensors")
    return sorted(path for path in found if re.fullmatch(r"\d{12}", path.stem) and path.is_file())


def save(
    directory: Path, agent: Agent, setup: Setup, training: TrainingProgress, logs: Sequence[LogState], best: bool
) -> None:
    """Write a checkpoint of ``agent`` into the run ``directory``, and remove checkpoints that are no longer needed."""
    path = path_of(directory, agent.env_steps)
    arrays, weights = state.arrays(agent), directory / WEIGHTS["best"]
    with files.reported("written", path):
        path.parent.mkdir(exist_ok=True)  # do not recreate a run that was removed
        if weights.exists():
            arrays[BEST] = np.frombuffer(files.read(weights, weights.stat().st_size), np.uint8)
    checkpoint = Checkpoint(
        perilune=manifest.version(),
        setup=setup,
        agent=state.values(agent),
        training=training,
        best=best,
        has_best_weights=BEST in arrays,
        logs=tuple(logs),
    )
    try:
        archive.write(path, KIND, checkpoint, arrays, LARGEST_HEADER)
    except FileFormatError as error:
        raise RunDirectoryError(
            f"the checkpoint is too large: {error}. A checkpoint holds all actions and the last n_step steps of each "
            "running episode. Reduce max_episode_steps, num_envs or n_step."
        ) from error
    _prune(directory, path, setup.train.keep_checkpoints)


def _prune(directory: Path, newest: Path, most: int) -> None:
    """Keep ``newest``, the ``most`` - 1 checkpoints before it, and the one at the best evaluation.

    Also remove later checkpoints. They exist if the run has resumed from an earlier one.
    """
    there = paths(directory)
    until = there[: there.index(newest) + 1]
    kept = set(until[-most:])
    best = next((path for path in reversed(until) if _is_best(path)), None)
    for path in there:
        if path not in kept and path != best:
            with suppress(OSError):  # the file only takes up space, and the next save tries again
                path.unlink()


def _is_best(path: Path) -> bool:
    try:
        return read(path).best
    except PeriluneError:  # damaged
        return False


def read(path: Path) -> Checkpoint:
    """Return the metadata of a checkpoint without reading its arrays."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Checkpoint, str]:
    """Return the metadata and the checksum of the arrays. Reject a file that is too small for its settings."""
    checkpoint, checksum = archive.read_content(path, KIND, Checkpoint, LARGEST_HEADER)
    setup, agent, size = checkpoint.setup, checkpoint.agent, path.stat().st_size
    weights = least_weights(setup.agent, setup.observation_size, setup.actions)
    held = min(agent.added, setup.agent.buffer_size) * (8 * setup.observation_size + 16)
    if size < 8 * weights + held:
        raise FileFormatError(f"{path} has {size:,} bytes, too few for {weights:,} weights and the replay buffer")
    if path.name != path_of(path.parents[1], agent.env_steps).name:
        right = path_of(path.parents[1], agent.env_steps).name
        raise FileFormatError(
            f"{path} is the checkpoint after {agent.env_steps:,} environment steps. Rename it to {right}."
        )
    return checkpoint, checksum


def load(path: Path, agent: Agent | None = None) -> tuple[Checkpoint, Agent]:
    """Return the metadata of a checkpoint, and its agent as it was saved.

    If ``agent`` is given, restore it. Its changeable settings may differ. After an error, its state is undefined.
    """
    checkpoint, checksum = _read(path)
    setup, arrays = checkpoint.setup, archive.read_arrays(path, checksum)
    arrays.pop(BEST, None)
    try:
        if agent is None:
            agent = Agent(setup.observation_size, setup.actions, setup.agent, setup.seed, setup.symmetry)
        state.restore(agent, checkpoint.agent, arrays)
    except (ConfigError, ShapeError) as error:
        raise FileFormatError(f"{path} does not fit its own settings: {error}") from error
    return checkpoint, agent


def latest(directory: Path) -> tuple[Checkpoint, Agent]:
    """Load the newest undamaged checkpoint of a run. Warn about damaged ones."""
    check_links(directory)
    there = paths(directory)
    for path in reversed(there):
        try:
            return load(path)
        except (FileFormatError, RunDirectoryError) as error:
            warnings.warn(f"skipped a checkpoint: {error}", PeriluneWarning, stacklevel=2)
    hint = "Evaluate its weights with `perilune evaluate`, or start a new run with `perilune train`."
    if there:
        raise FileFormatError(
            f"{directory} cannot be resumed: every checkpoint is damaged ({len(there)} in total). {hint}"
        )
    manifest.check_run(directory)
    raise RunDirectoryError(f"{directory} cannot be resumed: it has no checkpoint. {hint}")


def restore_weights(directory: Path, checkpoint: Checkpoint) -> None:
    """Restore best.safetensors from a checkpoint, or remove the file if the checkpoint has none."""
    path, best = path_of(directory, checkpoint.agent.env_steps), directory / WEIGHTS["best"]
    weights = archive.read_arrays(path, _read(path)[1]).get(BEST)
    if weights is None:
        best.unlink(missing_ok=True)
    else:
        files.update(best, weights.tobytes())
