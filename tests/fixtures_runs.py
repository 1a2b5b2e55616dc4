"""A small run of CartPole that is trained once for all tests, and synthetic runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import gymnasium as gym
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from perilune import DQN, History
from perilune._utils.arrays import Array
from perilune.runs import archive
from perilune.runs.logs import Run
from perilune.training.events import Episode, Evaluated

# The agent learns after 40 steps; training takes about a second.
AGENT: dict[str, Any] = {"hidden": (8,), "batch_size": 8, "buffer_size": 500, "learning_starts": 40}
TRAINING: dict[str, Any] = {"episodes": 4, "max_episode_steps": 20, "eval_episodes": 2, "quiet": True}


def cartpole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1", render_mode="rgb_array")


@dataclass(frozen=True)
class TinyRun:
    """A finished training run and its initial weights."""

    dqn: DQN
    history: History
    initial_weights: Array


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """Four episodes, with videos of the first, second and fourth. Tests must not change them."""
    dqn = DQN(cartpole(), seed=2, **AGENT)
    initial_weights = dqn.agent.online.parameters.copy()
    out = tmp_path_factory.mktemp("tiny") / "run"
    history = dqn.train(run_dir=out, video_every=2, eval_every=20, metrics_every=10, frames=True, **TRAINING)
    return TinyRun(dqn, history, initial_weights)


def episode(number: int, reward: float = 1.0, **values: Any) -> Episode:
    """Return the record of an episode of ten steps."""
    defaults: dict[str, Any] = {
        "episode": number, "env_steps": 10 * number, "reward": reward, "length": 10, "loss": 0.5, "epsilon": 0.9,
        "target_syncs": 0, "ended": "terminated",
    }  # fmt: skip
    return Episode(**defaults | values)


def evaluated(env_steps: int, mean_return: float, *, best: bool = True) -> Evaluated:
    return Evaluated(env_steps, env_steps // 10, mean_return, 0.0, mean_return, best, 1.0)


def made_up_run(
    episodes: Sequence[Episode],
    evaluations: Sequence[Evaluated] = (),
    *,
    directory: str = "somewhere/run",
    environment: str = "LunarLander-v3",
    reward_threshold: float | None = 200.0,
    seed: int = 0,
) -> Run:
    """Return a run without files."""
    config = {"format": 1, "environment": environment, "reward_threshold": reward_threshold, "seed": seed}
    return Run(Path(directory), config, list(episodes), [], list(evaluations), [])


@dataclass(frozen=True)
class Video:
    """A decoded MP4."""

    codec: str
    pixel_format: str
    width: int
    height: int
    fps: float
    frames: list[Array]


def decode(path: Path) -> Video:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [np.asarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        rate = stream.average_rate
        assert rate is not None
        context = stream.codec_context
        assert context.pix_fmt is not None
        return Video(context.name, context.pix_fmt, context.width, context.height, float(rate), frames)


def unsealed(path: Path) -> tuple[str, Any, dict[str, Array]]:
    """Return the kind, the JSON object and the arrays of a weights file or checkpoint."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    return metadata["kind"], json.loads(metadata["perilune"]), dict(load_file(path))


def resealed(
    path: Path,
    content: Callable[[Any], Any] | None = None,
    arrays: Mapping[str, Callable[[Array], Array] | None] | None = None,
    kind: str | None = None,
) -> None:
    """Change a weights file or checkpoint and update its checksums, as an attacker can.

    Args:
        content: Returns a new JSON object, or JSON as a string, from the stored object.
        arrays: Function that changes an array, or None to remove it, by name.
        kind: New kind.
    """
    was, held, stored = unsealed(path)
    changed = content(held) if content is not None else held
    for name, change in (arrays or {}).items():
        array = stored.pop(name, np.zeros(3, np.float32))
        if change is not None:
            stored[name] = np.ascontiguousarray(change(array))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    parts = (kind or was, text, archive.checksum(stored))
    metadata = dict(zip(("kind", "perilune", "arrays"), parts, strict=True))
    save_file(stored, path, metadata | {"sha256": archive._seal(*parts)})
