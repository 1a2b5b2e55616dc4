"""Dueling DQN with three-step returns and a hard target update."""
from collections import deque

import numpy as np
import torch
from torch import nn


class DuelingNetwork(nn.Module):
    def __init__(self, obs_size, n_actions, width=96):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(obs_size, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.state_value = nn.Linear(width, 1)
        self.advantage = nn.Linear(width, n_actions)

    def forward(self, obs):
        h = self.encoder(obs)
        advantage = self.advantage(h)
        return self.state_value(h) + advantage - advantage.max(dim=-1, keepdim=True).values


class NStepReplay:
    def __init__(self, capacity, obs_size, n, gamma, rng):
        self.capacity, self.n, self.gamma, self.rng = capacity, n, gamma, rng
        self.obs = np.empty((capacity, obs_size), np.float32)
        self.last_obs = np.empty((capacity, obs_size), np.float32)
        self.action = np.empty(capacity, np.int64)
        self.returns = np.empty(capacity, np.float32)
        self.terminated = np.empty(capacity, np.float32)
        self.size = self.cursor = 0
        self.pending = deque()

    def _write(self, last_obs, terminated):
        obs, action, _ = self.pending[0]
        i = self.cursor
        self.obs[i], self.action[i], self.last_obs[i], self.terminated[i] = obs, action, last_obs, terminated
        self.returns[i] = sum(self.gamma ** k * reward for k, (_, _, reward) in enumerate(self.pending))
        self.cursor = (i + 1) % self.capacity
        self.size = max(self.size, i + 1)
        self.pending.popleft()

    def append(self, obs, action, reward, next_obs, terminated, truncated):
        self.pending.append((np.array(obs, np.float32), action, reward))
        if terminated:
            # The shorter returns at the end need no bootstrap.
            while self.pending:
                self._write(next_obs, True)
        elif len(self.pending) == self.n:
            self._write(next_obs, False)
        if truncated:
            # Incomplete windows would need another discount.
            self.pending.clear()

    def sample(self, batch_size):
        i = self.rng.integers(self.size, size=batch_size)
        return self.obs[i], self.action[i], self.returns[i], self.last_obs[i], self.terminated[i]


class Agent:
    def __init__(self, obs_size, n_actions, seed, n=3, gamma=0.98):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.obs_size, self.n_actions, self.n, self.gamma = obs_size, n_actions, n, gamma
        self.online = DuelingNetwork(obs_size, n_actions)
        self.frozen = DuelingNetwork(obs_size, n_actions)
        self.frozen.requires_grad_(False)
        self.copy_weights()
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=6e-4, betas=(0.9, 0.99))
        self.replay = NStepReplay(16384, obs_size, n, gamma, self.rng)
        self.steps = 0

    def copy_weights(self):
        self.frozen.load_state_dict(self.online.state_dict())

    @torch.no_grad()
    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.online(torch.as_tensor(obs, dtype=torch.float32)).argmax())

    def update(self, obs, action, returns, last_obs, terminated):
        obs, returns, last_obs, terminated = (
            torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in (obs, returns, last_obs, terminated))
        action = torch.as_tensor(np.asarray(action), dtype=torch.long)
        bootstrap = self.frozen(last_obs).max(dim=1).values
        y = returns + (1 - terminated) * self.gamma ** self.n * bootstrap
        q = self.online(obs).gather(1, action.unsqueeze(-1)).squeeze(-1)
        loss = nn.functional.smooth_l1_loss(q, y, beta=0.5)
        self.online.zero_grad()
        loss.backward()
        self.optimizer.step()

    def train(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.act(obs, max(0.05, 1 - self.steps / 3000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.replay.append(obs, action, reward, next_obs, terminated, truncated)
            obs = env.reset()[0] if terminated or truncated else next_obs
            self.steps += 1
            if self.replay.size >= 256:
                self.update(*self.replay.sample(48))
            if self.steps % 300 == 0:
                self.copy_weights()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma, self.n_step, self.observation_size = agent.gamma, agent.n, agent.obs_size

    def q_values(self, obs):
        return self.agent.online(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).detach().numpy()

    def target_q_values(self, obs):
        return self.agent.frozen(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.copy_weights()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed))
