"""Stable-Baselines3's DQN with its own update and network, as in a subclass that tries a variant.

A reference agent of the fault benchmark.
"""

import gymnasium
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.dqn.policies import DQNPolicy

from perilune.doctor.adapters import StableBaselines3Adapter


class QNetwork(nn.Module):
    def __init__(self, n_obs, n_actions, hidden=64):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(n_obs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_actions),
        )

    def forward(self, x):
        return self.network(x)


class Policy(DQNPolicy):
    def make_q_net(self):
        q_net = super().make_q_net()
        q_net.q_net = QNetwork(self.observation_space.shape[0], int(self.action_space.n))
        return q_net


class Buffer(ReplayBuffer):
    pass


class World(gymnasium.Wrapper):
    pass


class MyDQN(DQN):
    def compute_loss(self, batch):
        action, terminated = batch.actions, batch.dones
        with torch.no_grad():
            next_q = self.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values
            target = batch.rewards + self.gamma * next_q * (1 - terminated)
        q = self.q_net(batch.observations).gather(1, action)
        return F.smooth_l1_loss(q, target)

    def train(self, gradient_steps, batch_size=32):
        self.policy.set_training_mode(True)
        for _ in range(gradient_steps):
            self.update(self.replay_buffer.sample(batch_size))

    def update(self, batch):
        loss = self.compute_loss(batch)
        self.policy.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        self._n_updates += 1

    def sync(self):
        for t, p in zip(self.q_net_target.parameters(), self.q_net.parameters()):
            t.data.copy_(p.data)

    def _on_step(self):
        self._n_calls += 1
        if self._n_calls % self.target_update_interval == 0:
            self.sync()
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if np.random.rand() < self.exploration_rate:
            many = np.ndim(observation) > 1
            action = np.array([self.action_space.sample() for _ in observation]) if many else self.action_space.sample()
            return action, state
        return self.policy.predict(observation, state, episode_start, deterministic)


class Adapter(StableBaselines3Adapter):
    """The adapter that the doctor examines."""

    def sync_target(self):
        self.model.sync()

    def gradients(self, *columns):
        self.model.policy.optimizer.zero_grad()
        self.model.compute_loss(self.batch(*columns)).backward()
        return {name: p.grad for name, p in self.model.q_net.named_parameters()}

    def loss(self, *columns):
        return self.model.compute_loss(self.batch(*columns)).item()

    def run(self, env, env_steps):
        self.model.set_env(World(env))
        self.model.learn(env_steps)


class Nowhere(gymnasium.Env):
    def __init__(self, n_obs, n_actions):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n_obs,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(n_actions)


def make(seed=0, n_obs=4, n_actions=3):
    model = MyDQN(
        Policy,
        Nowhere(n_obs, n_actions),
        learning_rate=1e-3,
        buffer_size=5000,
        learning_starts=200,
        batch_size=32,
        train_freq=1,
        target_update_interval=100,
        replay_buffer_class=Buffer,
        replay_buffer_kwargs={"handle_timeout_termination": True},
        exploration_fraction=0.5,
        exploration_final_eps=0.05,
        seed=seed,
        device="cpu",
    )
    return Adapter(model)
