"""Settings that are known to work, by environment. How they were found: docs/tuning.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from perilune.agent.config import DQNConfig, TrainConfig
from perilune.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """Settings of the agent and of its training."""

    agent: DQNConfig
    train: TrainConfig


DEFAULT, PLAIN = "default", "plain"
# One recipe for all: what it is made of, and what each part is worth, is in docs/benchmarks.md.
RECIPE = DQNConfig(
    head="qr",
    batch_size=64,
    learning_rate=1e-3,
    learning_rate_schedule="linear",
    learning_rate_end=5e-5,
    ema_decay=0.9995,
    max_action_repeat=20,
    optimism=0.5,
    epsilon_end=0.03,
)


def _recipe(steps: int, **settings: Any) -> DQNConfig:
    """The recipe for a budget of so many steps: the learning rate falls to its end, and the replay forgets nothing."""
    return replace(RECIPE, learning_rate_decay_steps=steps, buffer_size=steps, **settings)


PRESETS: dict[str, Preset] = {
    # Nobody knows what will be asked of it: exploring takes its time, and without optimism luck cannot deceive it.
    DEFAULT: Preset(_recipe(100_000, epsilon_decay_steps=30_000, optimism=0.0), TrainConfig(steps=100_000)),
    # Mnih et al., Nature 518, 2015, at the size of these environments.
    PLAIN: Preset(
        DQNConfig(layer_norm=False, double=False, n_step=1, max_grad_norm=None, tau=1, target_update_interval=500),
        TrainConfig(steps=100_000),
    ),
    "LunarLander-v3": Preset(
        _recipe(
            200_000,
            mirror=True,
            batch_size=128,
            gamma=0.995,
            munchausen=0.9,
            munchausen_temperature=0.3,
            munchausen_floor=-10.0,
        ),
        TrainConfig(steps=200_000),
    ),
    "CartPole-v1": Preset(
        _recipe(40_000, mirror=True, gamma=0.995, huber_delta=10.0, optimism=0.75, max_action_repeat=5),
        TrainConfig(steps=40_000, eval_every=2_500, eval_episodes=20),
    ),
    "Acrobot-v1": Preset(_recipe(100_000, mirror=True, epsilon_end=0.01), TrainConfig(steps=100_000)),
    "MountainCar-v0": Preset(_recipe(100_000), TrainConfig(steps=100_000)),
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
