"""The agent: act, observe, learn. The heart of the library, free of environments, files and clocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perilune import exploration, td
from perilune.config import DQNConfig
from perilune.errors import ShapeError
from perilune.nn.initializers import initialize
from perilune.nn.layers import Array
from perilune.nn.losses import huber, mse
from perilune.nn.network import Network, mlp
from perilune.nn.optimizers import SGD, Adam, AdamW, Optimizer, RMSProp, clip_by_global_norm
from perilune.nn.schedules import scheduled
from perilune.replay import NStep, Replay
from perilune.seeding import generators


class Update(NamedTuple):
    """What one update saw, before its step: floats in units of return, except the gradient's norm and the rate."""

    loss: float
    mean_q: float
    mean_td_target: float
    gradient_norm: float
    learning_rate: float


class Agent:
    """A deep Q-network: online and target network, optimiser, replay and exploration.

    Args:
        observation_size: O, the length of one observation.
        actions: A, the number of actions; an action is an int from 0 to A - 1.
        config: the settings.
        seed: fans out into the generators of all roles.

    Counters: ``env_steps``, ``updates``, ``episodes`` (those after the warm-up), ``target_syncs``.

    Mnih et al., Human-level control through deep reinforcement learning, Nature 518, 2015.
    """

    def __init__(self, observation_size: int, actions: int, config: DQNConfig, seed: int) -> None:
        self.observation_size = observation_size
        self.actions = actions
        self.config = config
        self.seed = seed
        self.generators = generators(seed)

        self.online = self._network()
        self.target = self._network()
        initialize(self.online, config.initializer, self.generators.network)
        self.target.parameters[:] = self.online.parameters

        self.optimizer = make_optimizer(config, len(self.online.parameters))
        self.replay = Replay(config.buffer_size, observation_size)
        self.n_step = NStep(config.n_step, config.gamma)

        self.env_steps = 0
        self.updates = 0
        self.episodes = 0
        self.target_syncs = 0

        self._d_q = np.zeros((config.batch_size, actions), np.float32)
        self._sync_step = np.empty_like(self.online.parameters)
        self._one_obs = np.empty((1, observation_size), np.float32)

    def _network(self) -> Network:
        config = self.config
        return mlp(self.observation_size, config.hidden_layers, self.actions, layer_norm=config.layer_norm)

    # Act

    def q_values(self, obs: Array) -> Array:
        """Q(obs, a) for every action: [N, A] for obs[N, O]."""
        obs = np.asarray(obs, np.float32)
        if obs.ndim != 2 or obs.shape[1] != self.observation_size:
            raise ShapeError(f"q_values needs obs[N, {self.observation_size}], got {list(obs.shape)}")
        return self.online.forward(obs).copy()

    def greedy_action(self, obs: Array) -> int:
        """argmax_a Q(obs, a) for one obs[O]; the first of equals."""
        if np.shape(obs) != (self.observation_size,):  # which the assignment would stretch to fit, in silence
            raise ShapeError(f"one obs[{self.observation_size}] is needed, got {list(np.shape(obs))}")
        self._one_obs[0] = obs
        return int(self.online.forward(self._one_obs).argmax())

    def act(self, obs: Array) -> int:
        """A random action with probability ``epsilon``, else the greedy one, for one obs[O]."""
        if self.generators.exploration.random() < self.epsilon:
            return self.random_action()
        return self.greedy_action(obs)

    def random_action(self) -> int:
        """An action drawn uniformly."""
        return int(self.generators.exploration.integers(self.actions))

    @property
    def warm(self) -> bool:
        """Whether the replay holds what the warm-up fills in, so that learning can start."""
        return len(self.replay) >= self.config.warmup_steps

    @property
    def epsilon(self) -> float:
        """Share of random actions now: 1 in the warm-up, then on the configured way from start to floor."""
        config = self.config
        if not self.warm:
            return 1.0
        if config.epsilon_decay is None:
            count = self.env_steps - config.warmup_steps
            return exploration.linear_epsilon(
                config.epsilon_start, config.epsilon_floor, config.epsilon_decay_steps, count
            )
        count = self.episodes if config.epsilon_decay_per == "episode" else self.updates
        return exploration.multiplicative_epsilon(
            config.epsilon_start, config.epsilon_floor, config.epsilon_decay, count
        )

    @property
    def learning_rate(self) -> float:
        """Step size now."""
        config = self.config
        return scheduled(
            config.learning_rate_schedule,
            config.learning_rate,
            config.learning_rate_floor,
            self.env_steps,
            config.learning_rate_decay_steps,
        )

    # Observe

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> None:
        """Store one step of the environment and count it. The arrays must not change afterwards."""
        for transition in self.n_step.push(obs, action, reward, next_obs, terminated, truncated):
            self.replay.add(*transition)
        self.env_steps += 1

    def observe(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> Update | None:
        """Remember one step; once warm, learn and sync the target where they are due. The update, if there was one."""
        self.remember(obs, action, reward, next_obs, terminated, truncated)
        if not self.warm:
            return None
        if terminated or truncated:
            self.episodes += 1
        update = self.learn() if self.env_steps % self.config.train_every == 0 else None
        if self.env_steps % self.config.target_update_every == 0:
            self.sync_target()
        return update

    # Learn

    def learn(self) -> Update:
        """One update: sample, targets, forward, loss, backward, clip, step."""
        config = self.config
        obs, action, reward, discount, next_obs = self.replay.sample(config.batch_size, self.generators.replay)

        next_q_target = self.target.forward(next_obs)
        if config.double:
            td_target = td.double_q_target(reward, discount, self.online.forward(next_obs), next_q_target)
        else:
            td_target = td.q_learning_target(reward, discount, next_q_target)

        q_values = self.online.forward(obs)
        rows = np.arange(config.batch_size)
        q = q_values[rows, action]
        loss, d_loss_d_q = mse(q, td_target) if config.loss == "mse" else huber(q, td_target, config.huber_delta)

        self._d_q.fill(0)  # every other action gets zero
        self._d_q[rows, action] = d_loss_d_q
        self.online.backward(self._d_q)

        gradients = self.online.gradients
        norm = clip_by_global_norm(gradients, np.inf if config.max_grad_norm is None else config.max_grad_norm)
        learning_rate = self.learning_rate
        self.optimizer.step(self.online.parameters, gradients, learning_rate)
        self.updates += 1
        size = config.batch_size
        return Update(loss, float(q.sum()) / size, float(td_target.sum()) / size, norm, learning_rate)

    def sync_target(self) -> None:
        """target <- target + tau (online - target); with tau = 1 a copy. Lillicrap et al., arXiv:1509.02971."""
        online, target, step = self.online.parameters, self.target.parameters, self._sync_step
        if self.config.tau == 1:
            target[:] = online
        else:
            np.subtract(online, target, out=step)
            np.multiply(step, self.config.tau, out=step)
            np.add(target, step, out=target)
        self.target_syncs += 1


def make_optimizer(config: DQNConfig, size: int) -> Optimizer:
    """The optimiser that ``config`` names, for a vector of ``size`` parameters."""
    match config.optimizer:
        case "sgd":
            return SGD(size, momentum=config.momentum)
        case "rmsprop":
            return RMSProp(size)
        case "adam":
            return Adam(size)
        case "adamw":
            return AdamW(size, weight_decay=config.weight_decay)
