"""Stable-Baselines3's DQN and sb3-contrib's QRDQN: their defaults and the tuned settings of RL Baselines3 Zoo."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from torch import nn, optim

from perilune.doctor.adapters import StableBaselines3Adapter

ENVS = ("CartPole-v1", "LunarLander-v3", "Acrobot-v1", "MountainCar-v0")
WIDE = {"net_arch": [256, 256]}

# RL Baselines3 Zoo, hyperparams/dqn.yml and hyperparams/qrdqn.yml
TUNED: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000, "gamma": 0.99,
        "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04, "policy_kwargs": WIDE,
    },
    "LunarLander-v3": {
        "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0, "gamma": 0.99,
        "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1, "exploration_fraction": 0.12,
        "exploration_final_eps": 0.1, "policy_kwargs": WIDE,
    },
    "Acrobot-v1": {
        "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0, "gamma": 0.99,
        "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1, "exploration_fraction": 0.12,
        "exploration_final_eps": 0.1, "policy_kwargs": WIDE,
    },
    "MountainCar-v0": {
        "learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10_000, "learning_starts": 1000, "gamma": 0.98,
        "target_update_interval": 600, "train_freq": 16, "gradient_steps": 8, "exploration_fraction": 0.2,
        "exploration_final_eps": 0.07, "policy_kwargs": WIDE,
    },
}  # fmt: skip

# Further settings that the documentation of the libraries describes.
OTHERS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "polyak": (DQN, "CartPole-v1", {"tau": 0.005, "target_update_interval": 1}),
    "n-step": (DQN, "LunarLander-v3", {"n_steps": 3}),
    "schedule": (DQN, "Acrobot-v1", {"learning_rate": lambda remaining: 1e-3 * remaining}),
    "memory": (DQN, "MountainCar-v0", {
        "optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False},
    }),
    "tanh-adamw": (DQN, "CartPole-v1", {
        "policy_kwargs": {"activation_fn": nn.Tanh, "optimizer_class": optim.AdamW, "net_arch": [32]},
    }),
    "rmsprop": (DQN, "LunarLander-v3", {
        "policy_kwargs": {"optimizer_class": optim.RMSprop, "optimizer_kwargs": {"alpha": 0.95, "eps": 0.01}},
    }),
    "few-quantiles": (QRDQN, "CartPole-v1", {"policy_kwargs": {"n_quantiles": 10}}),
}  # fmt: skip


def make(algorithm: Any, env: str, settings: dict[str, Any], seed: int = 0) -> StableBaselines3Adapter:
    """Return an adapter for a new model."""
    settings = {"buffer_size": 10_000, **settings}  # the default of a million transitions is slow to copy
    return StableBaselines3Adapter(algorithm("MlpPolicy", gymnasium.make(env), seed=seed, device="cpu", **settings))


AGENTS: dict[str, Callable[..., Any]] = {
    **{
        f"sb3-{kind.__name__.lower()}-{env}-{name}": partial(make, kind, env, settings.get(env, {}))
        for kind in (DQN, QRDQN)
        for name, settings in (("default", {}), ("tuned", TUNED))
        for env in ENVS
    },
    **{
        f"sb3-{kind.__name__.lower()}-{env}-{name}": partial(make, kind, env, one)
        for name, (kind, env, one) in OTHERS.items()
    },
}
