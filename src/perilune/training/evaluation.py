"""Greedy evaluation on fixed start states, which do not occur in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from perilune import envs
from perilune._utils import seeding
from perilune._utils.arrays import Array
from perilune._utils.statistics import interquartile_mean
from perilune._utils.validation import Count, check_value
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.envs.rendering import frame
from perilune.errors import ConfigError, EnvironmentFaultError, located
from perilune.training.events import Evaluated, Timestep
from perilune.training.progress import TrainingProgress

# Episode i starts from reset(seed=first + i). Evaluations during training select the best checkpoint. A search for
# settings selects the best trial on other start states. Scores are measured on start states that selected nothing,
# because a score on the same start states would be optimistic. Seeds fit into a C int.
SELECTION_SEEDS = seeding.TRAINING_SEEDS
TUNING_SEEDS = seeding.TRAINING_SEEDS + 2**28
SCORE_SEEDS = seeding.TRAINING_SEEDS + 2**29

ENDLESS = 10_000  # step limit of episodes if neither the environment nor the caller sets one


@dataclass(frozen=True)
class Evaluation:
    """Results of greedy episodes, in order.

    Attributes:
        returns: the return of each episode.
        lengths: the number of time steps of each episode.
        reward_threshold: mean return at which the environment counts as solved, or None.
        outcomes: how each episode ended, or None if the environment defines no outcomes.
        labels: all outcomes of the environment, or None.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    reward_threshold: float | None
    outcomes: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None

    @property
    def mean_return(self) -> float:
        """Mean of the returns."""
        return float(np.mean(self.returns))

    @property
    def iqm_return(self) -> float:
        """Interquartile mean of the returns: the mean without the n // 4 lowest and the n // 4 highest."""
        return float(interquartile_mean(np.array(self.returns)))

    @property
    def std_return(self) -> float:
        """Standard deviation of the returns (divided by N)."""
        return float(np.std(self.returns))

    @property
    def min_return(self) -> float:
        """Smallest return."""
        return min(self.returns)

    @property
    def max_return(self) -> float:
        """Largest return."""
        return max(self.returns)

    @property
    def solved_share(self) -> float | None:
        """Fraction of episodes with a return of at least ``reward_threshold``."""
        if self.reward_threshold is None:
            return None
        return float(np.mean([episode_return >= self.reward_threshold for episode_return in self.returns]))

    @property
    def outcome_shares(self) -> dict[str, float] | None:
        """Fraction of episodes with each outcome, in the order of ``labels``."""
        if self.outcomes is None or self.labels is None:
            return None
        return {label: self.outcomes.count(label) / len(self.outcomes) for label in self.labels}


def evaluate(
    policy: Callable[[Array], int],
    env: envs.Env,
    episodes: int,
    *,
    first_seed: int = SCORE_SEEDS,
    max_episode_steps: int | None = None,
    show: Callable[[Timestep], object] | None = None,
    tell: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Play episodes with a policy and return the results.

    Args:
        policy: function that returns the action, from 0 to A - 1, for an observation [O].
        env: the environment, which is reset.
        episodes: number of episodes, >= 1.
        first_seed: episode i starts from ``env.reset(seed=first_seed + i)``.
        max_episode_steps: step limit, >= 1. By default, the limit of the environment, or 10,000 if it has none.
        show: function that is called with every time step and its image.
        tell: function that is called after each episode with the number of played and of all episodes.

    Returns:
        The results.

    Raises:
        ConfigError: ``episodes`` or ``max_episode_steps`` is less than 1.
        EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface.
    """
    if episodes < 1:
        raise ConfigError("episodes", episodes, "a whole number >= 1")
    ends = []
    for episode in range(episodes):
        seed = first_seed + episode
        for timestep in play_episode(policy, env, seed, max_episode_steps, episode + 1, images=show is not None):
            if show is not None:
                show(timestep)
        ends.append(timestep)
        if tell is not None:
            tell(episode + 1, episodes)
    labels = lookup(envs.name(env)).outcome_labels or None
    return Evaluation(
        returns=tuple(end.reward for end in ends),
        lengths=tuple(end.step for end in ends),
        reward_threshold=envs.reward_threshold(env),
        outcomes=None if labels is None else tuple(str(end.outcome) for end in ends),
        labels=labels,
    )


def play_episode(
    policy: Callable[[Array], int],
    env: envs.Env,
    seed: int,
    max_episode_steps: int | None = None,
    episode: int = 1,
    images: bool = False,
) -> Iterator[Timestep]:
    """Yield the time steps of one episode, including the last state.

    Args:
        policy: function that returns the action, from 0 to A - 1, for an observation [O].
        env: the environment, which is reset.
        seed: seed of the reset.
        max_episode_steps: step limit, as in ``evaluate``.
        episode: number of the episode in the time steps.
        images: whether to render every state.
    """
    max_episode_steps = check_value("max_episode_steps", max_episode_steps, Count | None)
    spaces = envs.space_sizes(env)
    if max_episode_steps is None and envs.time_limit(env) is None:
        max_episode_steps = ENDLESS
    total, steps, ended = 0.0, 0, False
    try:
        obs = envs.reset(env, seed)
        while not ended:
            action = policy(obs)
            yield Timestep(episode, steps, obs, action, total, image=frame(env) if images else None)
            steps += 1
            obs, reward, terminated, truncated = envs.step(env, spaces, action)
            total += reward
            ended = terminated or truncated or steps == max_episode_steps
        outcome = lookup(envs.name(env)).outcome(obs, reward, terminated)
        yield Timestep(episode, steps, obs, None, total, outcome, frame(env) if images else None)
    except EnvironmentFaultError as error:
        at = f"step {steps:,}" if steps else "reset"
        raise located(error, f"{at} of the greedy episode with seed {seed}") from error


def greedy_limit(env: envs.Env, config: TrainConfig) -> int | None:
    """Return the step limit of greedy episodes: the limit of the training run if the environment has none, else None.

    Args:
        env: the environment.
        config: training settings.
    """
    return None if envs.time_limit(env) is not None else config.max_episode_steps


def select(agent: Agent, env: envs.Env, config: TrainConfig, progress: TrainingProgress) -> Evaluated:
    """Evaluate an agent during training, on the start states that select the best checkpoint.

    Args:
        agent: the agent.
        env: the environment, which is reset.
        config: training settings.
        progress: training progress.

    Returns:
        The event with the result.
    """
    episodes, limit = config.eval_episodes, greedy_limit(env, config)
    result = evaluate(agent.greedy_action, env, episodes, first_seed=SELECTION_SEEDS, max_episode_steps=limit)
    return Evaluated(
        env_steps=agent.env_steps,
        episodes=agent.episodes,
        mean_return=result.mean_return,
        std_return=result.std_return,
        min_return=result.min_return,
        # Of equal evaluations, prefer the later one, because its agent has learned more.
        best=progress.best_return is None or result.mean_return >= progress.best_return,
        seconds=progress.seconds,
        cpu_seconds=progress.cpu_seconds,
    )
