"""Settings that are known to work, by environment. How they were found: docs/benchmarks.md."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perilune.config import DQNConfig, TrainConfig
from perilune.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """Settings of the agent and of its training."""

    agent: DQNConfig
    train: TrainConfig


DEFAULT = "default"
# What LunarLander was tuned to, and CartPole took over; each with its own horizon.
TUNED = DQNConfig(
    huber_delta=10,
    learning_rate=1e-3,
    learning_rate_schedule="linear",
    learning_rate_floor=5e-5,
    n_step=5,
    tau=0.01,
    epsilon_floor=0.01,
)
PRESETS: dict[str, Preset] = {
    DEFAULT: Preset(DQNConfig(), TrainConfig(steps=100_000)),
    "LunarLander-v3": Preset(
        replace(TUNED, learning_rate_decay_steps=150_000, buffer_size=150_000),
        TrainConfig(steps=150_000, max_episode_steps=500),
    ),
    "CartPole-v1": Preset(
        replace(TUNED, learning_rate_decay_steps=50_000, buffer_size=50_000),
        TrainConfig(steps=50_000, eval_every=2_500, eval_episodes=100),
    ),
}


def preset(environment: str, name: str | None = None) -> Preset:
    """The preset called ``name``; without one, that of ``environment``, or the default.

    Raises:
        ConfigError: there is no preset of that name.
    """
    if name is None:  # an id without a version means the newest, which is the one that has a preset
        versions = (known for known in PRESETS if environment in (known, known.rpartition("-v")[0]))
        return PRESETS[next(versions, DEFAULT)]
    if name not in PRESETS:
        raise ConfigError("preset", name, f"one of {', '.join(PRESETS)}")
    return PRESETS[name]
