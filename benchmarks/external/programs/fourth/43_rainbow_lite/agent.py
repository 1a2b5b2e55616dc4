"""Double dueling DQN with multi-step returns and prioritized replay."""
import copy
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class DuelingNet(nn.Module):
    def __init__(self, obs_dim, n_actions, hidden=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(obs_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.value = nn.Linear(hidden, 1)
        self.advantage = nn.Linear(hidden, n_actions)

    def forward(self, x):
        h = self.trunk(x)
        adv = self.advantage(h)
        return self.value(h) + adv - adv.mean(dim=-1, keepdim=True)


class NStepPER:
    """Proportional prioritized replay of n-step transitions, with a discount per transition."""

    def __init__(self, capacity, obs_dim, n_step, gamma, alpha=0.5, beta=0.4, beta_steps=20_000):
        self.capacity, self.n_step, self.gamma = capacity, n_step, gamma
        self.alpha, self.beta, self.beta_inc = alpha, beta, (1.0 - beta) / beta_steps
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.action = np.zeros(capacity, np.int64)
        self.reward = np.zeros(capacity, np.float32)
        self.discount = np.zeros(capacity, np.float32)
        self.priority = np.zeros(capacity, np.float64)
        self.pos, self.size, self.max_priority = 0, 0, 1.0
        self.window = deque()

    def __len__(self):
        return self.size

    def add(self, obs, action, reward, next_obs, terminated, truncated):
        self.window.append((obs, action, reward))
        if terminated or truncated:
            while self.window:
                self._store(next_obs, terminated)
        elif len(self.window) == self.n_step:
            self._store(next_obs, False)

    def _store(self, next_obs, terminated):
        i = self.pos
        self.obs[i], self.action[i] = self.window[0][:2]
        self.reward[i] = sum(self.gamma**k * r for k, (_, _, r) in enumerate(self.window))
        self.next_obs[i] = next_obs
        self.discount[i] = 0.0 if terminated else self.gamma ** len(self.window)
        self.priority[i] = self.max_priority**self.alpha
        self.pos = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)
        self.window.popleft()

    def sample(self, n):
        p = self.priority[: self.size]
        p = p / p.sum()
        idx = np.random.choice(self.size, size=n, p=p)
        self.beta = min(1.0, self.beta + self.beta_inc)
        weight = (self.size * p[idx]) ** -self.beta
        weight = (weight / weight.max()).astype(np.float32)
        return idx, weight, (self.obs[idx], self.action[idx], self.reward[idx], self.next_obs[idx], self.discount[idx])

    def update(self, idx, errors):
        priority = np.abs(errors) + 1e-3
        self.priority[idx] = priority**self.alpha
        self.max_priority = max(self.max_priority, float(priority.max()))


class Agent:
    def __init__(self, obs_dim, n_actions, gamma=0.99, n_step=3, lr=1e-3, batch_size=64, capacity=10_000,
                 learn_start=250, tau=0.01):
        self.obs_dim, self.n_actions = obs_dim, n_actions
        self.gamma, self.n_step, self.batch_size = gamma, n_step, batch_size
        self.learn_start, self.tau = learn_start, tau
        self.online = DuelingNet(obs_dim, n_actions)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=lr)
        self.replay = NStepPER(capacity, obs_dim, n_step, gamma)
        self.steps = 0

    @torch.no_grad()
    def act(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        return self.online(torch.as_tensor(obs, dtype=torch.float32)).argmax().item()

    def learn(self, obs, action, reward, next_obs, discount, weight):
        obs = torch.as_tensor(obs, dtype=torch.float32)
        action = torch.as_tensor(action, dtype=torch.int64)
        reward = torch.as_tensor(reward, dtype=torch.float32)
        next_obs = torch.as_tensor(next_obs, dtype=torch.float32)
        discount = torch.as_tensor(discount, dtype=torch.float32)
        weight = torch.as_tensor(weight, dtype=torch.float32)

        with torch.no_grad():
            best = self.online(next_obs).argmax(1, keepdim=True)
            y = reward + discount * self.target(next_obs).gather(1, best).squeeze(1)
        q = self.online(obs).gather(1, action[:, None]).squeeze(1)
        loss = (weight * F.smooth_l1_loss(q, y, reduction="none")).mean()
        self.optimizer.zero_grad()
        loss.backward()
        # the two streams add up in the trunk
        for p in self.online.trunk.parameters():
            p.grad.mul_(2**-0.5)
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        return (y - q).detach().numpy()

    @torch.no_grad()
    def soft_update(self):
        for t, p in zip(self.target.parameters(), self.online.parameters()):
            t.lerp_(p, self.tau)

    def train(self, env, steps, eps_end=0.02, eps_steps=3000):
        returns, total = [], 0.0
        obs, _ = env.reset()
        for _ in range(steps):
            eps = max(eps_end, 1.0 - self.steps / eps_steps)
            action = self.act(obs, eps)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.replay.add(obs, action, reward, next_obs, terminated, truncated)
            self.steps += 1
            total += reward
            obs = next_obs
            if terminated or truncated:
                returns.append(total)
                total = 0.0
                obs, _ = env.reset()
            if len(self.replay) >= self.learn_start:
                idx, weight, batch = self.replay.sample(self.batch_size)
                self.replay.update(idx, self.learn(*batch, weight))
                self.soft_update()
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.n_step = agent.n_step
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.online(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.soft_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        discount = self.gamma**self.n_step * (1.0 - np.asarray(terminated, dtype=np.float32))
        self.agent.learn(obs, action, reward, next_obs, discount, np.ones(len(obs), np.float32))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.replay.add(obs, action, reward, next_obs, terminated, truncated)

    def sample(self, n):
        obs, action, reward, next_obs, discount = self.agent.replay.sample(n)[2]
        return obs, action, reward, next_obs, discount == 0

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(4, 2))
