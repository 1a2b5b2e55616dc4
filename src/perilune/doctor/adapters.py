"""Patients made of agents of common shapes: Perilune's own, Stable-Baselines3's DQN, a torch module.

None of these libraries is imported here: whoever has such an agent has imported its library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array, Arrays
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.replay.buffer import Batch
from perilune.training.loop import training_events


class PerilunePatient:
    """A Perilune agent. Its q_values are the online network's, whatever network is evaluated."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.gamma = agent.config.gamma
        self.observation_size = agent.observation_size
        self.n_step = agent.config.n_step
        # Optimism and the average choose other actions than the best by q_values.
        self._plain = replace(agent.config, optimism=0.0, ema_acts=False)

    def q_values(self, obs: Array) -> Array:
        return self.agent.q_values(obs, self.agent.online)

    def target_q_values(self, obs: Array) -> Array:
        return self.agent.q_values(obs, self.agent.target)

    def sync_target(self) -> None:
        self.agent.sync_target()

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        self.agent.differentiate(self._batch(obs, action, reward, next_obs, terminated))
        self.agent.step()

    def _batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Batch:
        discount = (self.gamma**self.n_step * ~terminated).astype(np.float32)
        return Batch(obs, action, reward, discount, next_obs)

    def parameters(self) -> Arrays:
        return self.agent.online.named_parameters()

    def target_parameters(self) -> Arrays:
        return self.agent.target.named_parameters()

    def gradients(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Arrays:
        self.agent.differentiate(self._batch(obs, action, reward, next_obs, terminated))
        return {name: gradient.copy() for name, gradient in self.agent.online.named_gradients().items()}

    def loss(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> float:
        return self.agent.differentiate(self._batch(obs, action, reward, next_obs, terminated))[0]

    def act(self, obs: Array, epsilon: float) -> int:
        with self._settings(self._plain):
            return self.agent.act(obs[None], epsilon)[0]

    @contextmanager
    def _settings(self, config: DQNConfig) -> Iterator[None]:
        kept, self.agent.config = self.agent.config, config
        try:
            yield
        finally:
            self.agent.config = kept

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> None:
        self.agent.remember(obs, action, reward, next_obs, terminated, truncated)

    def sample(self, n: int) -> tuple[Array, ...]:
        agent = self.agent
        if agent.priorities is None:
            batch = agent.replay.sample(n, agent.generators.replay)
        else:
            batch = agent.replay.take(agent.priorities.sample(n, agent.priority_beta, agent.generators.replay)[0])
        obs, action, reward, discount, next_obs = (column.copy() for column in batch)
        return obs, action, reward, next_obs, discount == 0

    def run(self, env: Any, env_steps: int) -> None:
        kept = self.agent.config
        short = replace(
            kept,
            learning_starts=min(200, env_steps // 4),
            epsilon_decay_steps=env_steps // 2,
            target_update_interval=min(100, kept.target_update_interval),
        )
        with self._settings(short):
            config = TrainConfig(steps=env_steps, eval_every=None, eval_episodes=1, video_every=None)
            for _ in training_events(self.agent, env, config):
                pass


def stable_baselines3(model: Any) -> SB3Patient:
    """A patient of a ``stable_baselines3.DQN`` model, made with any environment of the same spaces."""
    return SB3Patient(model)


class SB3Patient:
    """Stable-Baselines3's DQN, or a subclass of it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.gamma = float(model.gamma)
        self.observation_size = int(np.prod(model.observation_space.shape))
        if not hasattr(model, "_logger"):
            model.set_logger(_QuietLogger())

    def _tensor(self, array: Array) -> Any:
        return _tensor_like(next(iter(self.model.q_net.parameters())), array)

    def q_values(self, obs: Array) -> Any:
        return self.model.q_net(self._tensor(obs))

    def target_q_values(self, obs: Array) -> Any:
        return self.model.q_net_target(self._tensor(obs))

    def sync_target(self) -> None:
        for target, online in zip(self.model.q_net_target.parameters(), self.model.q_net.parameters(), strict=True):
            target.data.copy_((1 - self.model.tau) * target.data + self.model.tau * online.data)

    def parameters(self) -> dict[str, Any]:
        return dict(self.model.q_net.named_parameters())

    def target_parameters(self) -> dict[str, Any]:
        return dict(self.model.q_net_target.named_parameters())

    def batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> SimpleNamespace:
        """The transitions as the model's replay buffer gives them."""
        return SimpleNamespace(
            observations=self._tensor(obs),
            actions=self._tensor(action[:, None]).long(),
            next_observations=self._tensor(next_obs),
            dones=self._tensor(terminated[:, None]),
            rewards=self._tensor(reward[:, None]),
            discounts=None,
        )

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        columns, kept = self.batch(obs, action, reward, next_obs, terminated), self.model.replay_buffer
        self.model.replay_buffer = SimpleNamespace(sample=lambda *_, **__: columns)
        try:
            self.model.train(gradient_steps=1, batch_size=len(action))
        finally:
            self.model.replay_buffer = kept

    def act(self, obs: Array, epsilon: float) -> int:
        self.model.exploration_rate = epsilon
        return int(self.model.predict(obs, deterministic=False)[0])

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> None:
        info = {"TimeLimit.truncated": truncated and not terminated}
        self.model.replay_buffer.add(
            obs[None],
            next_obs[None],
            np.array([[action]]),
            np.array([reward]),
            np.array([terminated or truncated]),
            [info],
        )

    def sample(self, n: int) -> tuple[Any, ...]:
        drawn = self.model.replay_buffer.sample(n)
        return drawn.observations, drawn.actions, drawn.rewards, drawn.next_observations, drawn.dones

    def run(self, env: Any, env_steps: int) -> None:
        self.model.set_env(env)
        self.model.learn(env_steps)


class _QuietLogger:
    """What Stable-Baselines3 logs while it is examined."""

    def record(self, *_: Any, **__: Any) -> None:
        """Nothing is kept."""

    def dump(self, *_: Any, **__: Any) -> None:
        """Nothing is written."""


def _tensor_like(parameter: Any, array: Array) -> Any:
    """``array`` as a tensor of the parameter's kind, in the array's own memory where that can be.

    A network that changes what it is given must show it. Who has a parameter has torch, which is not imported here.
    """
    return sys.modules["torch"].as_tensor(np.asarray(array, np.float32), dtype=parameter.dtype, device=parameter.device)


def torch_module(
    module: Any,
    optimizer: Any,
    loss: Callable[..., Any],
    *,
    observation_size: int,
    gamma: float,
    target: Any = None,
) -> TorchPatient:
    """A patient of a torch module with an optimiser and a loss.

    Args:
        module: obs[N, O] in float32 to Q[N, A].
        optimizer: of the module's parameters.
        loss: loss(obs, action, reward, next_obs, terminated), of tensors, gives a tensor with one number.
        observation_size: O.
        gamma: the discount.
        target: the target network, a module, if there is one.
    """
    return TorchPatient(module, optimizer, loss, observation_size, gamma, target)


class TorchPatient:
    """A torch module, its optimiser and its loss."""

    def __init__(
        self, module: Any, optimizer: Any, loss: Callable[..., Any], observation_size: int, gamma: float, target: Any
    ) -> None:
        self.module, self.optimizer, self.target = module, optimizer, target
        self.loss_of = loss
        self.observation_size, self.gamma = observation_size, gamma
        if target is not None:
            self.target_q_values = lambda obs: self.target(self._tensor(obs))
            self.target_parameters = lambda: dict(self.target.named_parameters())

    def _tensor(self, array: Array) -> Any:
        return _tensor_like(next(iter(self.module.parameters())), array)

    def _tensors(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> tuple[Any, ...]:
        return (
            self._tensor(obs), self._tensor(action).long(), self._tensor(reward), self._tensor(next_obs),
            self._tensor(terminated),
        )  # fmt: skip

    def q_values(self, obs: Array) -> Any:
        return self.module(self._tensor(obs))

    def train_batch(self, *batch: Array) -> None:
        self.optimizer.zero_grad()
        self.loss_of(*self._tensors(*batch)).backward()
        self.optimizer.step()

    def parameters(self) -> dict[str, Any]:
        return dict(self.module.named_parameters())

    def gradients(self, *batch: Array) -> dict[str, Any]:
        self.optimizer.zero_grad()
        self.loss_of(*self._tensors(*batch)).backward()
        return {name: parameter.grad for name, parameter in self.module.named_parameters()}

    def loss(self, *batch: Array) -> float:
        return float(self.loss_of(*self._tensors(*batch)))
