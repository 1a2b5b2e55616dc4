"""A DQN in PyTorch in one file, in the style of single-file implementations.

A reference agent of the fault benchmark.
"""

import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


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


class DQN:
    def __init__(self, n_obs, n_actions, gamma=0.99, lr=1e-3, buffer_size=10_000):
        self.n_actions = n_actions
        self.gamma = gamma
        self.q = QNetwork(n_obs, n_actions)
        self.q_target = QNetwork(n_obs, n_actions)
        self.q_target.load_state_dict(self.q.state_dict())
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=lr)
        self.buffer = deque(maxlen=buffer_size)

    def compute_loss(self, obs, action, reward, next_obs, terminated):
        with torch.no_grad():
            next_q = self.q_target(next_obs).max(dim=1).values
            target = reward + self.gamma * next_q * (1 - terminated)
        q = self.q(obs).gather(1, action.unsqueeze(1)).squeeze(1)
        return F.smooth_l1_loss(q, target)

    def update(self, obs, action, reward, next_obs, terminated):
        loss = self.compute_loss(obs, action, reward, next_obs, terminated)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q.parameters(), 10.0)
        self.optimizer.step()
        return loss.item()

    def sync(self):
        self.q_target.load_state_dict(self.q.state_dict())

    def select_action(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return int(self.q(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)).argmax(dim=1))

    def store(self, obs, action, reward, next_obs, terminated):
        self.buffer.append((np.array(obs), action, reward, np.array(next_obs), terminated))

    def sample(self, n):
        columns = zip(*random.choices(self.buffer, k=n))
        return [np.array(column) for column in columns]

    def train(self, env, env_steps, batch_size=32, learning_starts=200, sync_every=100):
        obs, _ = env.reset()
        for step in range(env_steps):
            epsilon = max(0.05, 1.0 - step / (0.5 * env_steps))
            action = self.select_action(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.store(obs, action, reward, next_obs, terminated)
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()
            if step >= learning_starts:
                self.update(*tensors(*self.sample(batch_size)))
            if step % sync_every == 0:
                self.sync()


def tensors(obs, action, reward, next_obs, terminated):
    return (
        torch.as_tensor(obs, dtype=torch.float32),
        torch.as_tensor(action, dtype=torch.int64),
        torch.as_tensor(reward, dtype=torch.float32),
        torch.as_tensor(next_obs, dtype=torch.float32),
        torch.as_tensor(terminated, dtype=torch.float32),
    )


class Adapter:
    """The adapter that the doctor examines."""

    def __init__(self, agent, n_obs):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = n_obs

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.q(torch.as_tensor(obs)).numpy()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(*tensors(obs, action, reward, next_obs, terminated))

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.q_target(torch.as_tensor(obs)).numpy()

    def sync_target(self):
        self.agent.sync()

    def parameters(self):
        return dict(self.agent.q.named_parameters())

    def target_parameters(self):
        return dict(self.agent.q_target.named_parameters())

    def gradients(self, obs, action, reward, next_obs, terminated):
        self.agent.optimizer.zero_grad()
        self.agent.compute_loss(*tensors(obs, action, reward, next_obs, terminated)).backward()
        return {name: p.grad for name, p in self.agent.q.named_parameters()}

    def loss(self, obs, action, reward, next_obs, terminated):
        return self.agent.compute_loss(*tensors(obs, action, reward, next_obs, terminated)).item()

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0, n_obs=4, n_actions=3):
    torch.manual_seed(seed)
    random.seed(seed)
    return Adapter(DQN(n_obs, n_actions), n_obs)
