"""Adapter for Perilune's own agents."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array, Arrays
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.replay.buffer import Batch
from perilune.training.loop import training_events


class PeriluneAdapter:
    """Adapter for a Perilune agent. It turns off optimism and weight averaging for acting.

    Args:
        agent: The ``.agent`` of a ``perilune.DQN``. The examination trains it.

    Example:
        >>> from perilune import DQN
        >>> adapter = PeriluneAdapter(DQN("CartPole-v1", seed=0).agent)
        >>> adapter.q_values(np.zeros((3, 4), np.float32)).shape
        (3, 2)
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.gamma = agent.config.gamma
        self.observation_size = agent.observation_size
        self.n_step = agent.config.n_step
        # With optimism or the averaged network, the agent may choose actions that are not greedy in q_values.
        agent.config = replace(agent.config, optimism=0.0, ema_acts=False)
        self.sync_target, self.remember = agent.sync_target, agent.remember
        self.parameters, self.target_parameters = agent.online.named_parameters, agent.target.named_parameters

    def q_values(self, obs: Array) -> Array:
        """Return Q-values of the online network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return self.agent.q_values(obs, self.agent.online)

    def target_q_values(self, obs: Array) -> Array:
        """Return Q-values of the target network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return self.agent.q_values(obs, self.agent.target)

    def train_batch(self, *batch: Array) -> None:
        """Run one update.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter``.
        """
        self.agent.differentiate(self._batch(*batch))
        self.agent.step()

    def _batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Batch:
        discount = (self.gamma**self.n_step * ~terminated).astype(np.float32)
        return Batch(obs, action, reward / np.float32(self.agent.reward_scale), discount, next_obs)

    def gradients(self, *batch: Array) -> Arrays:
        """Return the gradient of the loss for each parameter, by name.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter``.
        """
        self.agent.differentiate(self._batch(*batch))
        return {name: gradient.copy() for name, gradient in self.agent.online.named_gradients().items()}

    def loss(self, *batch: Array) -> float:
        """Return the loss.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter``.
        """
        return self.agent.differentiate(self._batch(*batch))[0]

    def act(self, obs: Array, epsilon: float) -> int:
        """Return an action for one observation.

        Args:
            obs: Observation, (O,).
            epsilon: Probability of a random action, from 0 to 1.
        """
        return self.agent.act(obs[None], epsilon)[0]

    def sample(self, n: int) -> tuple[Array, ...]:
        """Return obs, action, reward, next_obs and terminated of transitions from the replay buffer.

        Args:
            n: Number of transitions.
        """
        agent = self.agent
        if agent.priorities is None:
            batch = agent.replay.sample(n, agent.generators.replay)
        else:
            batch = agent.replay.take(agent.priorities.sample(n, agent.priority_beta, agent.generators.replay)[0])
        obs, action, reward, discount, next_obs = (column.copy() for column in batch)
        return obs, action, reward * np.float32(agent.reward_scale), next_obs, discount == 0

    def run(self, env: Any, env_steps: int) -> None:
        """Train with a warm-up and an epsilon schedule that fit ``env_steps``.

        Args:
            env: A Gymnasium environment.
            env_steps: Number of time steps.
        """
        self.agent.config = replace(
            self.agent.config,
            learning_starts=min(200, env_steps // 4),
            epsilon_decay_steps=env_steps // 2,
            target_update_interval=min(100, self.agent.config.target_update_interval),
        )
        settings = TrainConfig(steps=env_steps, eval_every=None, eval_episodes=1, video_every=None)
        deque(training_events(self.agent, env, settings), maxlen=0)
