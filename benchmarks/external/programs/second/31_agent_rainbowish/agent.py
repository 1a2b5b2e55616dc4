"""Dueling Double DQN with prioritized n-step replay and a Polyak-averaged target network."""
import copy
from collections import deque

import numpy as np
import torch
from torch import nn


# ============================== replay.py ==============================
class SegmentTree:
    """Binary tree over a power of two of leaves; node 1 is the root."""

    def __init__(self, capacity):
        assert capacity & (capacity - 1) == 0
        self.capacity = capacity
        self.node = np.zeros(2 * capacity)

    def __setitem__(self, index, value):
        i = index + self.capacity
        self.node[i] = value
        i //= 2
        while i >= 1:
            self.node[i] = self.node[2 * i] + self.node[2 * i + 1]
            i //= 2

    def __getitem__(self, index):
        return self.node[np.asarray(index) + self.capacity]

    def find(self, mass):
        i = 1
        while i < self.capacity:
            i *= 2
            if mass >= self.node[i]:
                mass -= self.node[i]
                i += 1
        return i - self.capacity


class ReplayBuffer:
    def __init__(self, capacity, n_step, gamma, rng, alpha=0.5, beta=0.4):
        self.capacity, self.n_step, self.gamma, self.rng = capacity, n_step, gamma, rng
        self.alpha, self.beta = alpha, beta
        self.tree = SegmentTree(capacity)
        self.items = [None] * capacity
        self.pos = self.size = 0
        self.top = 1.0
        self.pending = deque()

    def add(self, obs, action, reward, next_obs, terminated, truncated):
        self.pending.append((obs, action, reward))
        if terminated:
            while self.pending:
                self._fold(next_obs, True)
        else:
            if len(self.pending) == self.n_step:
                self._fold(next_obs, False)
            if truncated:
                # the remaining windows are shorter than n steps, whose discount would differ
                self.pending.clear()

    def _fold(self, next_obs, terminated):
        ret = sum(self.gamma**k * r for k, (_, _, r) in enumerate(self.pending))
        obs, action, _ = self.pending.popleft()
        self.items[self.pos] = (obs, action, ret, next_obs, terminated)
        self.tree[self.pos] = self.top**self.alpha
        self.pos = (self.pos + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n):
        total = self.tree.node[1]
        masses = (np.arange(n) + self.rng.random(n)) / n * total
        idx = np.minimum([self.tree.find(m) for m in masses], self.size - 1)
        weight = (self.size * self.tree[idx] / total) ** -self.beta
        self.beta = min(1.0, self.beta + 2e-5)
        columns = [np.array(c) for c in zip(*(self.items[i] for i in idx))]
        return columns, weight / weight.max(), idx

    def reprioritize(self, idx, td):
        for i, p in zip(idx, np.abs(td) + 1e-3):
            self.tree[i] = p**self.alpha
            self.top = max(self.top, p)


# ============================== networks.py ==============================
class Dueling(nn.Module):
    def __init__(self, n_obs, n_actions, width=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_obs, width), nn.LayerNorm(width), nn.ReLU())
        self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        self.advantage = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, n_actions))

    def forward(self, x):
        x = self.trunk(x)
        a = self.advantage(x)
        return self.value(x) + a - a.mean(-1, keepdim=True)


# ============================== agent.py ==============================
class Agent:
    def __init__(self, n_obs, n_actions, seed=0, gamma=0.99, n_step=3, tau=0.01, batch_size=32):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions = n_obs, n_actions
        self.gamma, self.n_step, self.tau, self.batch_size = gamma, n_step, tau, batch_size
        self.online = Dueling(n_obs, n_actions)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=1e-3, eps=1e-5)
        self.buffer = ReplayBuffer(8192, n_step, gamma, self.rng)
        self.steps = 0

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        with torch.no_grad():
            return int(self.online(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).argmax())

    def learn(self, obs, action, reward, next_obs, terminated, weight):
        as_float = lambda x: torch.as_tensor(np.asarray(x), dtype=torch.float32)
        obs, reward, next_obs, terminated, weight = map(as_float, (obs, reward, next_obs, terminated, weight))
        action = torch.as_tensor(action, dtype=torch.int64)[:, None]
        with torch.no_grad():
            best = self.online(next_obs).argmax(1, keepdim=True)
            boot = self.target(next_obs).gather(1, best)[:, 0]
            y = reward + self.gamma**self.n_step * (1 - terminated) * boot
        td = self.online(obs).gather(1, action)[:, 0] - y
        loss = (weight * nn.functional.smooth_l1_loss(td, torch.zeros_like(td), reduction="none")).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10)
        self.optimizer.step()
        self.polyak()
        return td.detach().numpy()

    @torch.no_grad()
    def polyak(self):
        for t, p in zip(self.target.parameters(), self.online.parameters()):
            t.lerp_(p, self.tau)

    def update(self):
        batch, weight, idx = self.buffer.sample(self.batch_size)
        self.buffer.reprioritize(idx, self.learn(*batch, weight))


# ============================== train.py ==============================
def train(agent, env, steps):
    obs, _ = env.reset()
    for _ in range(steps):
        action = agent.act(obs, max(0.02, 1 - agent.steps / 3000))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.buffer.add(obs, action, float(reward), next_obs, bool(terminated), bool(truncated))
        agent.steps += 1
        if agent.buffer.size >= 100:
            agent.update()
        obs = env.reset()[0] if terminated or truncated else next_obs
    agent.buffer.pending.clear()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma, self.n_step, self.observation_size = agent.gamma, agent.n_step, agent.n_obs

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.online(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.polyak()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated, np.ones(len(action)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.add(obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated), bool(truncated))

    def sample(self, n):
        return self.agent.buffer.sample(n)[0]

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed))
