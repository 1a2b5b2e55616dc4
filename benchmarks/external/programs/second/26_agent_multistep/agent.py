import copy
import random
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


# === config.py ===
@dataclass
class Config:
    obs_dim: int = 4
    n_actions: int = 2
    gamma: float = 0.97
    n_step: int = 4
    lr: float = 1e-3
    batch_size: int = 32
    memory: int = 10_000
    start: int = 100
    sync_every: int = 250
    eps_end: float = 0.05
    eps_steps: int = 4000


# === memory.py ===
class NStepMemory:
    """Keeps the last n transitions and emits (s_t, a_t, R_t^n, s_{t+n}, done)."""

    def __init__(self, cfg):
        self.n, self.gamma = cfg.n_step, cfg.gamma
        self.window = deque()
        self.data = deque(maxlen=cfg.memory)

    def push(self, s, a, r, s2, terminated, truncated):
        self.window.append((s, a, r))
        if len(self.window) == self.n:
            self._emit(s2, terminated)
        if terminated:
            while self.window:
                self._emit(s2, terminated)
        elif truncated:
            self.window.clear()

    def _emit(self, s2, terminated):
        ret = 0.0
        for k, (_, _, r) in enumerate(self.window):
            ret += self.gamma**k * r
        s, a, _ = self.window.popleft()
        self.data.append((s, a, ret, s2, terminated))

    def __len__(self):
        return len(self.data)

    def sample(self, n):
        s, a, r, s2, d = zip(*random.sample(self.data, n))
        return np.array(s), np.array(a), np.array(r), np.array(s2), np.array(d)


# === agent.py ===
class Agent:
    def __init__(self, cfg):
        self.cfg = cfg
        self.net = nn.Sequential(
            nn.Linear(cfg.obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, cfg.n_actions)
        )
        self.target_net = copy.deepcopy(self.net).requires_grad_(False)
        self.optim = torch.optim.Adam(self.net.parameters(), lr=cfg.lr)
        self.memory = NStepMemory(cfg)
        self.steps = 0

    def act(self, s, eps):
        if random.random() < eps:
            return random.randrange(self.cfg.n_actions)
        with torch.no_grad():
            return int(self.net(torch.as_tensor(s, dtype=torch.float32)).argmax())

    def learn(self, s, a, r, s2, d):
        s, r, s2, d = (torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in (s, r, s2, d))
        a = torch.as_tensor(a, dtype=torch.int64)
        q = self.net(s).gather(1, a.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            a2 = self.net(s2).argmax(1, keepdim=True)
            q2 = self.target_net(s2).gather(1, a2).squeeze(1)
            y = r + self.cfg.gamma * (1 - d) * q2
        loss = nn.functional.huber_loss(q, y)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        return loss.item()

    def sync(self):
        self.target_net.load_state_dict(self.net.state_dict())


# === train.py ===
def run_training(agent, env, steps):
    cfg = agent.cfg
    agent.memory.window.clear()
    s, _ = env.reset()
    for _ in range(steps):
        eps = max(cfg.eps_end, 1 - agent.steps / cfg.eps_steps)
        a = agent.act(s, eps)
        s2, r, terminated, truncated, _ = env.step(a)
        agent.memory.push(s, a, float(r), s2, terminated, truncated)
        agent.steps += 1
        if len(agent.memory) >= cfg.start:
            agent.learn(*agent.memory.sample(cfg.batch_size))
        if agent.steps % cfg.sync_every == 0:
            agent.sync()
        s = s2 if not (terminated or truncated) else env.reset()[0]


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.cfg.gamma
        self.n_step = agent.cfg.n_step
        self.observation_size = agent.cfg.obs_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        return self.agent.target_net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.push(np.array(obs), int(action), float(reward), np.array(next_obs), terminated, truncated)

    def sample(self, n):
        return self.agent.memory.sample(n)

    def run(self, env, env_steps):
        run_training(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(Config()))
