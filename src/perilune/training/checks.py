"""Check settings before training starts, so that mistakes fail immediately and not after hours."""

from __future__ import annotations

from perilune import envs
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.envs.pool import check_pool
from perilune.envs.rendering import can_draw
from perilune.envs.workers import check_workers
from perilune.errors import ConfigError, UnsupportedEnvironmentError
from perilune.training.progress import TrainingProgress


def check(agent: Agent, env: envs.Env, config: TrainConfig, progress: TrainingProgress | None = None) -> None:
    """Check that a training run can use its settings. ``loop.training_events`` documents the arguments.

    Raises:
        ConfigError: the budget ends before the first update, or is already used up; the replay buffer does not fit
            into memory; the environment cannot render or be copied, but the settings require it; its record does not
            match its spaces; EnvPool does not have the environment, or worker processes cannot make it; or ``progress``
            has a different number of environments.
        MissingDependencyError: the setting ``envpool`` needs EnvPool, which is not installed.
    """
    if progress is None:
        check_budget(agent.config, config, envs.name(env), agent.env_steps, agent.warm)
    else:
        for name, left in (
            ("steps", progress.stop_step(config) - agent.env_steps),
            ("episodes", progress.stop_episode(config) - agent.episodes),
        ):
            if left <= 0:
                raise ConfigError(name, getattr(config, name), "more than this run has already used")
        if progress.episodes and len(progress.episodes) != config.num_envs:
            raise ConfigError("num_envs", config.num_envs, f"{len(progress.episodes)}, as in the saved run")
    check_rollout(agent.config, config)
    lookup(envs.name(env)).check(env)
    agent.take_memory()
    if config.video_every is not None and not can_draw(env):
        raise ConfigError(
            "video_every",
            config.video_every,
            f'None, because {envs.name(env)} cannot render. Pass its ID, or make it with render_mode="rgb_array"',
        )
    if config.workers > 1:
        if config.envpool:
            raise ConfigError("workers", config.workers, "1 with envpool=True, which steps the environments together")
        if config.workers > config.num_envs:
            raise ConfigError("workers", config.workers, f"at most num_envs={config.num_envs}")
        check_workers(env, config.workers)
    if config.envpool:
        check_pool(env)
    elif config.num_envs > 1:
        try:
            envs.close(envs.again(env))
        except UnsupportedEnvironmentError as error:
            raise ConfigError("num_envs", config.num_envs, f"1, because {error}") from error


def check_budget(agent: DQNConfig, config: TrainConfig, name: str, env_steps: int = 0, warm: bool = False) -> None:
    """Check that the budget of a new training run includes an update.

    Args:
        agent: settings of the agent.
        config: training settings.
        name: name of the environment, for the error.
        env_steps: steps of the agent so far.
        warm: whether the agent has completed its warm-up.

    Raises:
        ConfigError: the budget ends before the first update.
    """
    learning_starts, train_freq = agent.warm_up_steps, agent.updates_due[0]
    learning_from = env_steps + (0 if warm else learning_starts)
    needed = (learning_from // train_freq + 1) * train_freq - env_steps
    if config.steps is None or config.steps >= needed:
        return
    if agent.td_lambda is not None:
        expected = f"at least {needed}, because PQN learns from each buffer_size={train_freq} steps"
        raise ConfigError("steps", config.steps, expected)
    raise ConfigError(
        "steps",
        config.steps,
        f"at least {needed} for {name}, because updates begin after learning_starts={learning_starts}"
        f" steps (train_freq={train_freq}). Increase steps, or reduce learning_starts: "
        f"DQN(env, learning_starts={max(1, config.steps // 2)}), or --learning-starts on the command line",
    )


def check_rollout(agent: DQNConfig, config: TrainConfig) -> None:
    """Check that the environments of PQN fill its buffer at the same time.

    Args:
        agent: settings of the agent.
        config: training settings.

    Raises:
        ConfigError: ``num_envs`` is not a divisor of ``buffer_size``.
    """
    if agent.td_lambda is not None and agent.buffer_size % config.num_envs:
        raise ConfigError("num_envs", config.num_envs, f"a divisor of buffer_size={agent.buffer_size} with td_lambda")
