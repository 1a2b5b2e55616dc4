"""Presets by name: "default", "plain", and the tuned settings of each known environment (docs/tuning.md)."""

from __future__ import annotations

from perilune.agent.config import DQNConfig, TrainConfig
from perilune.envs.known import ENVIRONMENTS, lookup
from perilune.envs.known.record import Preset, tuned
from perilune.errors import ConfigError

DEFAULT, PLAIN = "default", "plain"
PRESETS: dict[str, Preset] = {
    # For any environment: epsilon falls slowly, and there is no optimism that a lucky return could mislead.
    DEFAULT: tuned(100_000, epsilon_decay_steps=30_000, optimism=0.0),
    # Mnih et al., Nature 518, 2015, at the size of these environments.
    PLAIN: Preset(
        DQNConfig(layer_norm=False, double=False, n_step=1, max_grad_norm=None, tau=1, target_update_interval=500),
        TrainConfig(steps=100_000),
    ),
} | {known.env_id: known.preset for known in ENVIRONMENTS.values() if known.preset is not None}


def preset(environment: str, name: str | None = None) -> Preset:
    """Return the preset called ``name``; by default that of ``environment``, or the default one.

    Raises:
        ConfigError: there is no preset of that name.
    """
    if name is None:
        return lookup(environment).preset or PRESETS[DEFAULT]
    if name not in PRESETS:
        raise ConfigError("preset", name, f"one of {', '.join(PRESETS)}")
    return PRESETS[name]
