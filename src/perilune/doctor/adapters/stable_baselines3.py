"""Adapter for the DQN family of Stable-Baselines3 and sb3-contrib.

This module does not import them. Your agent's code imports them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.adapters.torch import TorchNetworks


class StableBaselines3Adapter(TorchNetworks):
    """Adapter for a ``DQN`` of Stable-Baselines3, a ``QRDQN`` of sb3-contrib, or a subclass of either.

    The observation space must be a Box, of any shape and with any bounds.

    Args:
        model: A new model with one environment. The examination trains it.
    """

    def __init__(self, model: Any) -> None:
        if model.n_envs != 1:
            raise ValueError(f"n_envs={model.n_envs} is invalid: expected 1. Create the model with one environment.")
        self.model = model
        self.gamma = float(model.gamma)
        self.n_step = int(getattr(model, "n_steps", 1))
        self.observation_size = int(np.prod(model.observation_space.shape))
        if not hasattr(model, "_logger"):
            model.set_logger(SimpleNamespace(record=lambda *_, **__: None, dump=lambda *_, **__: None))

    @property
    def net(self) -> Any:
        """The online network."""
        return self.model.policy.q_net if hasattr(self.model.policy, "q_net") else self.model.policy.quantile_net

    @property
    def target_net(self) -> Any:
        """The target network."""
        policy = self.model.policy
        return policy.q_net_target if hasattr(policy, "q_net_target") else policy.quantile_net_target

    def observations(self, obs: Array) -> Array:
        """Return observations (N, O) in the shape that the model expects, without a copy.

        Args:
            obs: Observations, (N, O).
        """
        return obs.reshape(len(obs), *self.model.observation_space.shape)

    def q_values(self, obs: Array) -> Any:
        """Return Q-values of the online network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return _means(self.net(self.tensor(self.observations(obs))))

    def target_q_values(self, obs: Array) -> Any:
        """Return Q-values of the target network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return _means(self.target_net(self.tensor(self.observations(obs))))

    def sync_target(self) -> None:
        """Run the model's own update of the target network, as if it were due."""
        kept = self.model.target_update_interval
        self.model.target_update_interval = 1
        try:
            self.model._on_step()
        finally:
            self.model.target_update_interval = kept

    def batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> SimpleNamespace:
        """Return a batch in the form that the model's replay buffer returns.

        Args:
            obs: Observations, (B, O).
            action: Actions, (B,).
            reward: Rewards, (B,).
            next_obs: Next observations, (B, O).
            terminated: Whether the transition terminated its episode, (B,).
        """
        return SimpleNamespace(
            observations=self.tensor(self.observations(obs)),
            actions=self.tensor(action[:, None]).long(),
            next_observations=self.tensor(self.observations(next_obs)),
            dones=self.tensor(terminated[:, None]),
            rewards=self.tensor(reward[:, None]),
            discounts=None if self.n_step == 1 else self.gamma**self.n_step,
        )

    def train_batch(self, *batch: Array) -> None:
        """Run one gradient step of the model.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter``.
        """
        columns, kept = self.batch(*batch), self.model.replay_buffer
        self.model.replay_buffer = SimpleNamespace(sample=lambda *_, **__: columns)
        try:
            self.model.train(gradient_steps=1, batch_size=len(batch[0]))
        finally:
            self.model.replay_buffer = kept

    def act(self, obs: Array, epsilon: float) -> int:
        """Return an action for one observation.

        Args:
            obs: Observation, (O,).
            epsilon: Probability of a random action, from 0 to 1.
        """
        self.model.exploration_rate = epsilon
        return int(self.model.predict(self.observations(obs[None])[0], deterministic=False)[0])

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> None:
        """Store one transition in the model's replay buffer.

        Args:
            obs: Observation, (O,).
            action: Action.
            reward: Reward.
            next_obs: Next observation, (O,).
            terminated: Whether the transition terminated its episode.
            truncated: Whether the episode was truncated after it.
        """
        before, after = self.observations(obs[None]), self.observations(next_obs[None])
        done, info = np.array([terminated or truncated]), {"TimeLimit.truncated": truncated and not terminated}
        self.model.replay_buffer.add(before, after, np.array([[action]]), np.array([reward]), done, [info])

    def sample(self, n: int) -> tuple[Any, ...]:
        """Return obs, action, reward, next_obs and terminated of transitions from the replay buffer.

        Args:
            n: Number of transitions.
        """
        drawn = self.model.replay_buffer.sample(n)
        obs, next_obs = (flat.reshape(n, -1) for flat in (drawn.observations, drawn.next_observations))
        return obs, drawn.actions, drawn.rewards, next_obs, drawn.dones

    def run(self, env: Any, env_steps: int) -> None:
        """Train the model with a warm-up and a target update interval that fit ``env_steps``.

        Args:
            env: A Gymnasium environment.
            env_steps: Number of time steps.
        """
        model = self.model
        model.learning_starts = min(model.learning_starts, env_steps // 4)
        model.target_update_interval = min(model.target_update_interval, max(1, env_steps // 10))
        model.set_env(_SameSpaces(env, model))
        model.learn(env_steps)


class _SameSpaces(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Give an environment the spaces of the model, because ``set_env`` compares them. Bounds do not matter here."""

    def __init__(self, env: Any, model: Any) -> None:
        super().__init__(env)
        self.observation_space, self.action_space = model.observation_space, model.action_space

    def _shaped(self, obs: Array) -> Array:
        return obs.reshape(self.observation_space.shape or ())

    def reset(self, **options: Any) -> tuple[Array, dict[str, Any]]:
        obs, info = self.env.reset(**options)
        return self._shaped(obs), info

    def step(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._shaped(obs), reward, terminated, truncated, info


def _means(values: Any) -> Any:
    """Return Q-values (N, A) from Q-values or from quantiles (N, K, A)."""
    return values.mean(dim=1) if values.ndim == 3 else values
