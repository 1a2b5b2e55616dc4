"""The warm-up: fill the replay buffer with random play before learning starts."""

from __future__ import annotations

from collections.abc import Iterator

from perilune import envs
from perilune._utils.seeding import episode_seed
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import DivergenceError, EnvironmentFaultError, located
from perilune.training.events import WarmingUp

WARMING_EVERY = 1_000  # steps between two WarmingUp events


def warm_up(agent: Agent, env: envs.Env, config: TrainConfig) -> Iterator[WarmingUp]:
    """Fill the replay buffer with uniformly random actions.

    The episodes are not counted. The last one is truncated.

    Args:
        agent: it must not be past its warm-up.
        env: the environment.
        config: its ``max_episode_steps`` applies.

    Raises:
        EnvironmentFaultError: the environment raised, or broke the Gymnasium interface.
        DivergenceError: an n-step return is not finite.
    """
    sizes = envs.space_sizes(env)
    obs = None
    length = 0
    while not agent.warm:
        length += 1
        try:
            if obs is None:
                length = 1
                agent.begin_episode()
                obs = envs.reset(env, episode_seed(agent.generators.environment))
            action = agent.explore()
            next_obs, reward, terminated, truncated = envs.step(env, sizes, action)
            stored = len(agent.replay) + len(agent.ongoing[0].n_step.pending) + 1
            truncated = truncated or stored >= agent.config.learning_starts or length == config.max_episode_steps
            agent.remember(obs, action, reward, next_obs, terminated, truncated)
        except EnvironmentFaultError as error:
            what = "a reset in the warm-up, before" if obs is None else f"step {length:,} of an episode in the warm-up,"
            raise located(error, f"at {what} environment step {agent.env_steps + 1:,}") from error
        except DivergenceError as error:
            where = f"at step {length:,} of an episode in the warm-up, environment step {agent.env_steps:,}"
            raise located(error, where) from error
        obs = None if terminated or truncated else next_obs
        if agent.env_steps % WARMING_EVERY == 0:
            yield WarmingUp(agent.env_steps)
