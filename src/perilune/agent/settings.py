"""Typed keyword arguments for settings, which editors can complete, and functions that check and combine settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, TypedDict, TypeVar

from perilune._utils.text import suggestion
from perilune.agent.config import Auto, DQNConfig, HeadName, TrainConfig
from perilune.errors import ConfigError, UsageError
from perilune.nn.adam import Schedule
from perilune.nn.base import Activation
from perilune.nn.initializers import Initializer
from perilune.nn.losses import Loss
from perilune.nn.optimizers import OptimizerName


class AgentSettings(TypedDict, total=False):
    """Keyword arguments of ``DQN(env, ...)``. ``DQNConfig`` documents them."""

    hidden: Sequence[int | tuple[int, Activation]]
    activation: Activation
    layer_norm: bool
    initializer: Initializer
    noisy: bool
    dueling: bool
    head: HeadName
    atoms: int
    value_range: tuple[float, float] | None
    quantiles: int
    output_scale: float
    observation_scale: tuple[float, ...] | Auto | None
    reward_scale: float | Auto
    loss: Loss
    huber_delta: float
    optimizer: OptimizerName
    learning_rate: float
    learning_rate_schedule: Schedule
    learning_rate_end: float
    learning_rate_decay_steps: int
    momentum: float
    weight_decay: float
    max_grad_norm: float | None
    batch_size: int
    train_freq: int
    gradient_steps: int
    epochs: int
    mirror: bool
    gamma: float
    n_step: int
    td_lambda: float | None
    double: bool
    munchausen: float
    munchausen_temperature: float
    munchausen_floor: float
    target_update_interval: int
    tau: float
    ema_decay: float | None
    ema_acts: bool
    buffer_size: int
    learning_starts: int
    priority_alpha: float
    priority_beta: float
    priority_beta_steps: int
    epsilon_start: float
    epsilon_end: float
    epsilon_decay_steps: int
    epsilon_decay: float | None
    epsilon_decay_per: Literal["episode", "update"]
    max_action_repeat: int
    optimism: float


class TrainSettings(TypedDict, total=False):
    """Keyword arguments of ``DQN.train(...)``. ``TrainConfig`` documents them."""

    steps: int | None
    episodes: int | None
    max_episode_steps: int | None
    num_envs: int
    envpool: bool
    workers: int
    eval_every: int | None
    eval_episodes: int
    stop_at_return: float | None
    metrics_every: int
    video_every: int | None
    checkpoint_seconds: float | None
    keep_checkpoints: int


# Names in Stable-Baselines3 and common scripts, with the equivalent setting or call in Perilune.
ELSEWHERE = {
    "total_timesteps": "steps, as in agent.train(steps=50_000) or agent.learn(50_000)",
    "exploration_fraction": "epsilon_decay_steps, in environment steps instead of a fraction of training",
    "exploration_initial_eps": "epsilon_start",
    "exploration_final_eps": "epsilon_end",
    "epsilon": "epsilon_start",
    "epsilon_min": "epsilon_end",
    "policy": "hidden, as in hidden=(64, 64): there is no policy argument",
    "policy_kwargs": "hidden and activation, as in hidden=(64, 64), activation='tanh'",
    "net_arch": "hidden",
    "hidden_sizes": "hidden",
    "activation_fn": "activation",
    "optimizer_class": "optimizer",
    "replay_buffer_class": "priority_alpha, which turns on prioritized replay",
    "memory_size": "buffer_size",
    "capacity": "buffer_size",
    "discount": "gamma",
    "n_steps": "n_step",
    "n_envs": "num_envs",
    "max_steps": "max_episode_steps",
    "eval_freq": "eval_every",
    "n_eval_episodes": "eval_episodes",
    "log_interval": "metrics_every, an argument of train",
    "verbose": "quiet, an argument of train",
    "progress_bar": "quiet, an argument of train",
    "tensorboard_log": "tensorboard=True and run_dir, arguments of train",
    "out": "run_dir, an argument of train",
    "device": "no device argument: Perilune always trains on one CPU core",
    "prioritized_replay_alpha": "priority_alpha",
    "prioritized_replay_beta0": "priority_beta",
    "double_q": "double",
    "target_network_update_freq": "target_update_interval",
}


def check_names(cls: type[DQNConfig] | type[TrainConfig], settings: Iterable[str]) -> None:
    """Check that keyword arguments are settings of ``cls``.

    Args:
        cls: DQNConfig or TrainConfig.
        settings: the names.

    Raises:
        UsageError: a name is unknown. The message suggests the setting to use.
    """
    known = [field.name for field in fields(cls)]
    other, call = (TrainConfig, "agent.train") if cls is DQNConfig else (DQNConfig, "DQN(env, ...)")
    for name in settings:
        if name in known:
            continue
        if name in ELSEWHERE:
            raise UsageError(f"{name} is not a setting of Perilune. Use {ELSEWHERE[name]}.")
        if name in {field.name for field in fields(other)}:
            where = f"{call}({name}=...)" if cls is DQNConfig else f"DQN(env, {name}=...)"
            raise UsageError(f"{name} is a setting of {call.partition('(')[0]}. Write {where}.")
        hint = suggestion(name, known, most=3) or f"Settings: {', '.join(known)}."
        raise UsageError(f"{name} is not a setting of {cls.__name__}. {hint}")


T = TypeVar("T", DQNConfig, TrainConfig)
OF_A_HEAD = ("loss", "value_range", "optimism")  # valid with some heads only


def build(cls: type[T], settings: Mapping[str, Any], base: T | None = None) -> T:
    """Return ``cls`` with ``settings``, and the values of ``base`` (or the defaults) for all other settings.

    If ``settings`` select a different head than ``base``, the settings of ``base`` that depend on the head are dropped.

    Args:
        cls: DQNConfig or TrainConfig.
        settings: values by name.
        base: the settings to start from.

    Raises:
        ConfigError: a setting does not exist, or its value is invalid.
    """
    known = {field.name for field in fields(cls)}
    for name in settings.keys() - known:
        raise ConfigError(name, settings[name], f"a setting of {cls.__name__}")
    taken = {} if base is None else vars(base)
    if "head" in settings and settings["head"] != taken.get("head"):
        taken = {name: value for name, value in taken.items() if name not in OF_A_HEAD}
    return cls(**taken | dict(settings))
