"""Adapters for common agents: Perilune's, Stable-Baselines3's DQN, and PyTorch modules.

This module imports neither PyTorch nor Stable-Baselines3. Your agent's code imports them.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array, Arrays
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.replay.buffer import Batch
from perilune.training.loop import training_events


class PeriluneAdapter:
    """Adapter for a Perilune agent.

    The adapter turns off optimism and lets the online network act instead of the averaged one.

    Args:
        agent: The ``agent`` attribute of a ``perilune.DQN``. The doctor trains it.

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
        # With optimism or the averaged network, the agent may choose actions that are not greedy for q_values.
        agent.config = replace(agent.config, optimism=0.0, ema_acts=False)
        self.sync_target, self.remember = agent.sync_target, agent.remember
        self.parameters, self.target_parameters = agent.online.named_parameters, agent.target.named_parameters

    def q_values(self, obs: Array) -> Array:
        """Return the Q-values of the online network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return self.agent.q_values(obs, self.agent.online)

    def target_q_values(self, obs: Array) -> Array:
        """Return the Q-values of the target network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return self.agent.q_values(obs, self.agent.target)

    def train_batch(self, *batch: Array) -> None:
        """Run one update on a batch.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter.train_batch``.
        """
        self.agent.differentiate(self._batch(*batch))
        self.agent.step()

    def _batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Batch:
        discount = (self.gamma**self.n_step * ~terminated).astype(np.float32)
        return Batch(obs, action, reward, discount, next_obs)

    def gradients(self, *batch: Array) -> Arrays:
        """Return the gradient of the loss for each parameter, by name.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter.train_batch``.
        """
        self.agent.differentiate(self._batch(*batch))
        return {name: gradient.copy() for name, gradient in self.agent.online.named_gradients().items()}

    def loss(self, *batch: Array) -> float:
        """Return the loss of a batch.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter.train_batch``.
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
        """Return obs, action, reward, next_obs and terminated of transitions sampled from the replay buffer.

        Args:
            n: Number of transitions.
        """
        agent = self.agent
        if agent.priorities is None:
            batch = agent.replay.sample(n, agent.generators.replay)
        else:
            batch = agent.replay.take(agent.priorities.sample(n, agent.priority_beta, agent.generators.replay)[0])
        obs, action, reward, discount, next_obs = (column.copy() for column in batch)
        return obs, action, reward, next_obs, discount == 0

    def run(self, env: Any, env_steps: int) -> None:
        """Train with a warm-up and an epsilon schedule that are short enough for ``env_steps``.

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


class _TorchNetworks:
    """Base class of adapters whose online network ``net`` and target network ``target_net`` are PyTorch modules."""

    net: Any
    target_net: Any

    def _tensor(self, array: Array) -> Any:
        """Return ``array`` as a tensor of the network's dtype and device, sharing the array's memory if possible.

        Sharing lets the doctor detect a network that modifies its input.
        """
        like = next(iter(self.net.parameters()))
        return sys.modules["torch"].as_tensor(np.asarray(array, np.float32), dtype=like.dtype, device=like.device)

    def q_values(self, obs: Array) -> Any:
        """Return the Q-values of the online network, (N, A), for observations (N, O)."""
        return self.net(self._tensor(obs))

    def target_q_values(self, obs: Array) -> Any:
        """Return the Q-values of the target network, (N, A), for observations (N, O)."""
        return self.target_net(self._tensor(obs))

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the online network by name."""
        return dict(self.net.named_parameters())

    def target_parameters(self) -> dict[str, Any]:
        """Return the parameters of the target network by name."""
        return dict(self.target_net.named_parameters())


class StableBaselines3Adapter(_TorchNetworks):
    """Adapter for a ``stable_baselines3.DQN`` model or a subclass of it.

    Args:
        model: A new model. Its environment only needs the right spaces. The doctor trains the model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.gamma = float(model.gamma)
        self.observation_size = int(np.prod(model.observation_space.shape))
        if not hasattr(model, "_logger"):
            model.set_logger(SimpleNamespace(record=lambda *_, **__: None, dump=lambda *_, **__: None))

    @property
    def net(self) -> Any:
        """The online network."""
        return self.model.q_net

    @property
    def target_net(self) -> Any:
        """The target network."""
        return self.model.q_net_target

    def sync_target(self) -> None:
        """Move the target network toward the online network by the model's ``tau``."""
        for target, online in zip(self.target_net.parameters(), self.net.parameters(), strict=True):
            target.data.copy_((1 - self.model.tau) * target.data + self.model.tau * online.data)

    def batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> SimpleNamespace:
        """Return a batch in the format of the model's replay buffer.

        Args:
            obs: Observations, (B, O).
            action: Actions, (B,).
            reward: Rewards, (B,).
            next_obs: Next observations, (B, O).
            terminated: Whether each transition terminated its episode, (B,).
        """
        return SimpleNamespace(
            observations=self._tensor(obs),
            actions=self._tensor(action[:, None]).long(),
            next_observations=self._tensor(next_obs),
            dones=self._tensor(terminated[:, None]),
            rewards=self._tensor(reward[:, None]),
            discounts=None,
        )

    def train_batch(self, *batch: Array) -> None:
        """Run one gradient step of the model.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter.train_batch``.
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
        return int(self.model.predict(obs, deterministic=False)[0])

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
            truncated: Whether the episode was truncated after the transition.
        """
        done, info = np.array([terminated or truncated]), {"TimeLimit.truncated": truncated and not terminated}
        buffer = self.model.replay_buffer
        buffer.add(obs[None], next_obs[None], np.array([[action]]), np.array([reward]), done, [info])

    def sample(self, n: int) -> tuple[Any, ...]:
        """Return obs, action, reward, next_obs and terminated of transitions sampled from the replay buffer.

        Args:
            n: Number of transitions.
        """
        drawn = self.model.replay_buffer.sample(n)
        return drawn.observations, drawn.actions, drawn.rewards, drawn.next_observations, drawn.dones

    def run(self, env: Any, env_steps: int) -> None:
        """Train the model on an environment.

        Args:
            env: A Gymnasium environment.
            env_steps: Number of time steps.
        """
        # set_env rejects an environment whose observation bounds differ, but the bounds do not matter here.
        self.model.observation_space = env.observation_space
        self.model.set_env(env)
        self.model.learn(env_steps)


class TorchAdapter(_TorchNetworks):
    """Adapter for a PyTorch module with an optimizer and a loss.

    Args:
        module: Maps float32 observations (N, O) to Q-values (N, A).
        optimizer: PyTorch optimizer of the module's parameters.
        loss: ``loss(obs, action, reward, next_obs, terminated)`` takes tensors and returns a scalar tensor.
        observation_size: Number of entries of an observation, O.
        gamma: Discount, from 0 to 1.
        target: The target network, a PyTorch module, or None if there is none.
    """

    def __init__(
        self,
        module: Any,
        optimizer: Any,
        loss: Callable[..., Any],
        *,
        observation_size: int,
        gamma: float,
        target: Any = None,
    ) -> None:
        self.net, self.optimizer, self.target_net = module, optimizer, target
        self._loss = loss
        self.observation_size, self.gamma = observation_size, gamma
        if target is None:
            self.target_q_values = self.target_parameters = None  # type: ignore[assignment, method-assign]

    def _loss_tensor(self, obs: Array, action: Array, *others: Array) -> Any:
        return self._loss(self._tensor(obs), self._tensor(action).long(), *(self._tensor(column) for column in others))

    def gradients(self, *batch: Array) -> dict[str, Any]:
        """Return the gradient of the loss for each parameter, by name.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter.train_batch``.
        """
        self.optimizer.zero_grad()
        self._loss_tensor(*batch).backward()
        return {name: parameter.grad for name, parameter in self.net.named_parameters()}

    def train_batch(self, *batch: Array) -> None:
        """Run one optimizer step.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter.train_batch``.
        """
        self.gradients(*batch)
        self.optimizer.step()

    def loss(self, *batch: Array) -> float:
        """Return the loss of a batch.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter.train_batch``.
        """
        return float(self._loss_tensor(*batch))
