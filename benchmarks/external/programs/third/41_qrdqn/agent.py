"""Quantile regression DQN."""
import random

import numpy as np
import torch
from torch import nn


class QuantileNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions, n_quantiles):
        super().__init__()
        self.n_actions, self.n_quantiles = n_actions, n_quantiles
        self.trunk = nn.Sequential(nn.Linear(obs_dim, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.quantile_head = nn.Linear(128, n_actions * n_quantiles)

    def forward(self, obs):
        return self.quantile_head(self.trunk(obs)).view(-1, self.n_actions, self.n_quantiles)

    def q_values(self, obs):
        return self.forward(obs).mean(dim=2)


def quantile_huber_loss(current, target, taus, kappa=1.0):
    """current: (B, N) quantiles at taus, target: (B, M) samples of the target distribution."""
    delta = target.unsqueeze(1) - current.unsqueeze(2)
    abs_delta = delta.abs()
    huber = torch.where(abs_delta <= kappa, 0.5 * delta.pow(2), kappa * (abs_delta - 0.5 * kappa))
    weight = (taus.view(1, -1, 1) - (delta.detach() < 0).float()).abs()
    return (weight * huber / kappa).mean(dim=2).sum(dim=1).mean()


class Memory:
    def __init__(self, capacity, obs_dim):
        self.capacity, self.n, self.i = capacity, 0, 0
        self.obs = torch.zeros(capacity, obs_dim)
        self.next_obs = torch.zeros(capacity, obs_dim)
        self.action = torch.zeros(capacity, dtype=torch.long)
        self.reward = torch.zeros(capacity)
        self.terminated = torch.zeros(capacity)

    def append(self, obs, action, reward, next_obs, terminated):
        i = self.i
        self.obs[i] = torch.as_tensor(obs)
        self.next_obs[i] = torch.as_tensor(next_obs)
        self.action[i], self.reward[i], self.terminated[i] = int(action), float(reward), float(terminated)
        self.i = (i + 1) % self.capacity
        self.n = min(self.n + 1, self.capacity)

    def sample(self, size):
        i = torch.randint(self.n, (size,))
        return self.obs[i], self.action[i], self.reward[i], self.next_obs[i], self.terminated[i]


class QRDQN:
    def __init__(self, obs_dim, n_actions, n_quantiles=25, gamma=0.98, lr=7e-4):
        self.obs_dim, self.n_actions, self.gamma = obs_dim, n_actions, gamma
        self.net = QuantileNetwork(obs_dim, n_actions, n_quantiles)
        self.target_net = QuantileNetwork(obs_dim, n_actions, n_quantiles).requires_grad_(False)
        self.taus = (torch.arange(n_quantiles) + 0.5) / n_quantiles
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr, eps=0.01 / 32)
        self.memory = Memory(20000, obs_dim)
        self.env_steps = 0
        self.hard_update()

    def hard_update(self):
        self.target_net.load_state_dict(self.net.state_dict())

    def act(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return int(self.net.q_values(torch.as_tensor(obs, dtype=torch.float32)[None]).argmax())

    def update(self, obs, action, reward, next_obs, terminated):
        rows = torch.arange(len(action))
        with torch.no_grad():
            next_quantiles = self.target_net(next_obs)
            best = next_quantiles.mean(dim=2).argmax(dim=1)
            target = reward[:, None] + self.gamma * (1 - terminated[:, None]) * next_quantiles[rows, best]
        loss = quantile_huber_loss(self.net(obs)[rows, action], target, self.taus)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimizer.step()

    def learn(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.act(obs, max(0.04, 1 - self.env_steps / 3000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.append(obs, action, reward, next_obs, terminated)
            obs = env.reset()[0] if terminated or truncated else next_obs
            self.env_steps += 1
            if self.env_steps > 300 and self.env_steps % 2 == 0:
                self.update(*self.memory.sample(64))
            if self.env_steps % 250 == 0:
                self.hard_update()


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.obs_dim

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.net.q_values(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.target_net.q_values(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.hard_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        f = lambda x: torch.as_tensor(np.asarray(x), dtype=torch.float32)
        self.agent.update(f(obs), torch.as_tensor(np.asarray(action), dtype=torch.long), f(reward), f(next_obs),
                          f(terminated))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return tuple(x.numpy() for x in self.agent.memory.sample(n))

    def run(self, env, env_steps):
        self.agent.learn(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(QRDQN(4, 2))
