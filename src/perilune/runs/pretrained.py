"""Pre-trained agents: the weights files that come with Perilune, and the manifest that lists them.

The program ``examples/pretrain.py`` in the repository makes both.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import msgspec

from perilune import envs
from perilune._utils.text import suggestion
from perilune._utils.validation import Count, Natural
from perilune.errors import FileFormatError, PeriluneWarning, UnsupportedEnvironmentError
from perilune.runs import files
from perilune.training.evaluation import SCORE_SEEDS, Evaluation

DIRECTORY = Path(__file__).parents[1] / "pretrained"
MANIFEST = "manifest.json"
LARGEST = 2**20  # bytes of a weights file


class Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Statistics of the returns of greedy episodes.

    Attributes:
        episodes: number of episodes.
        first_seed: episode i starts from ``env.reset(seed=first_seed + i)``. Training never uses these seeds.
        mean: mean return.
        iqm: interquartile mean of the returns.
        min: smallest return.
        max: largest return.
        std: standard deviation of the returns (divided by N).
    """

    episodes: Count
    first_seed: Natural
    mean: float
    iqm: float
    min: float
    max: float
    std: float

    @classmethod
    def of(cls, result: Evaluation) -> Score:
        """Return the statistics of an evaluation from the default start states."""
        return cls(
            episodes=len(result.returns),
            first_seed=SCORE_SEEDS,
            mean=result.mean_return,
            iqm=result.iqm_return,
            min=result.min_return,
            max=result.max_return,
            std=result.std_return,
        )


class PretrainedAgent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The entry of one agent in the manifest.

    Attributes:
        preset: preset of the training run. The weights file contains all settings.
        seed: seed of the training run.
        env_steps: length of the training run in environment steps.
        score: score of the final weights.
        sha256: SHA-256 of the weights file.
        command: command that made the file, in a clone of the repository.
        versions: versions of Perilune, Python, NumPy, Gymnasium and the BLAS library, and the kind of processor.
    """

    preset: str
    seed: Natural
    env_steps: Count
    score: Score
    sha256: str
    command: str
    versions: dict[str, str]


def available() -> dict[str, PretrainedAgent]:
    """Return the entries of all pre-trained agents by the ID of their environment.

    Raises:
        RunDirectoryError: the manifest cannot be read.
        FileFormatError: the manifest is damaged.
    """
    path = (DIRECTORY / MANIFEST).resolve()  # an installer may install files as links
    try:
        return msgspec.convert(files.read_json(path), dict[str, PretrainedAgent])
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{path} is damaged: {error}. Install Perilune again.") from error


def entry(env_id: str) -> PretrainedAgent:
    """Return the entry of the pre-trained agent of an environment.

    Args:
        env_id: ID of the environment.

    Raises:
        UnsupportedEnvironmentError: there is no pre-trained agent for this environment.
        RunDirectoryError: the manifest cannot be read.
        FileFormatError: the manifest is damaged.
    """
    agents = available()
    if env_id not in agents:
        hint = suggestion(env_id, agents, most=1) or "For other environments, train an agent: perilune train ID."
        raise UnsupportedEnvironmentError(
            f"there is no pre-trained agent for {env_id!r}: expected {', '.join(agents)}. {hint}"
        )
    return agents[env_id]


def weights_file(env_id: str) -> Path:
    """Return the path of a pre-trained agent's weights file, after checking its SHA-256.

    Args:
        env_id: ID of the environment.

    Raises:
        UnsupportedEnvironmentError: there is no pre-trained agent for this environment.
        RunDirectoryError: a file cannot be read.
        FileFormatError: a file is damaged.
    """
    expected = entry(env_id).sha256
    path = (DIRECTORY / f"{env_id}.safetensors").resolve()
    found = hashlib.sha256(files.read(path, LARGEST)).hexdigest()
    if found != expected:
        raise FileFormatError(
            f"{path} is damaged: its SHA-256 is {found}, but {MANIFEST} lists {expected}. Install Perilune again."
        )
    return path


def weights_file_for(env: envs.Env) -> Path:
    """Return ``weights_file`` for an environment, after comparing the environment with the one in training.

    Args:
        env: the environment, with flattened observations. If only its arguments differ, warn.

    Raises:
        UnsupportedEnvironmentError: there is no pre-trained agent for this environment, or its spaces differ.
        RunDirectoryError: a file cannot be read.
        FileFormatError: a file is damaged.
    """
    env_id = envs.name(env)
    file = weights_file(env_id)
    trained_in = envs.flattened(envs.make(env_id))
    for space in ("observation_space", "action_space"):
        if getattr(env, space) != getattr(trained_in, space):
            raise UnsupportedEnvironmentError(
                f"the pre-trained agent of {env_id} does not fit the given environment: a wrapper or an argument "
                f"changes its {space}. Remove it, or train a new agent with DQN(env).train()."
            )
    before, now = (envs.description(each.unwrapped) for each in (trained_in, env))
    if before != now:
        message = f"the pre-trained agent was trained in {before}, but now plays in {now}."
        warnings.warn(message, PeriluneWarning, stacklevel=3)
    return file
