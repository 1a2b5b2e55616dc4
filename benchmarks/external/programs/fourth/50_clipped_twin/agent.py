"""DQN with two Q-networks and the minimum of both (clipped double Q-learning for discrete actions)."""
import copy
import random
from collections import namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

Batch = namedtuple("Batch", "obs action reward next_obs terminated")


class TwinQ(nn.Module):
    def __init__(self, obs_size, n_actions, hidden=64):
        super().__init__()
        self.q1 = self._mlp(obs_size, hidden, n_actions)
        self.q2 = self._mlp(obs_size, hidden, n_actions)

    @staticmethod
    def _mlp(n_in, hidden, n_out):
        return nn.Sequential(
            nn.Linear(n_in, hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, n_out),
        )

    def both(self, x):
        return torch.stack((self.q1(x), self.q2(x)))

    def forward(self, x):
        return self.both(x).amin(dim=0)


class Memory:
    """Preallocated ring of float32 rows: obs, action, reward, next_obs, terminated."""

    def __init__(self, capacity, obs_size):
        self.obs_size = obs_size
        self.rows = np.zeros((capacity, 2 * obs_size + 3), dtype=np.float32)
        self.count = 0

    def push(self, obs, action, reward, next_obs, terminated):
        self.rows[self.count % len(self.rows)] = np.concatenate((obs, [action, reward], next_obs, [terminated]))
        self.count += 1

    def __len__(self):
        return min(self.count, len(self.rows))

    def sample(self, n):
        rows = self.rows[np.random.randint(len(self), size=n)]
        o = self.obs_size
        return Batch(rows[:, :o], rows[:, o].astype(np.int64), rows[:, o + 1], rows[:, o + 2 : 2 * o + 2], rows[:, -1])


class TwinDQN:
    def __init__(self, obs_size, n_actions, gamma=0.99, lr=5e-4, weight_decay=1e-5, batch_size=64,
                 capacity=20_000, warmup=256, hard_sync=100):
        self.obs_size, self.n_actions, self.gamma = obs_size, n_actions, gamma
        self.batch_size, self.warmup, self.hard_sync = batch_size, warmup, hard_sync
        self.net = TwinQ(obs_size, n_actions)
        self.target = copy.deepcopy(self.net).eval()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=lr, weight_decay=weight_decay)
        self.memory = Memory(capacity, obs_size)
        self.updates = 0

    @torch.inference_mode()
    def act(self, obs, epsilon):
        if np.random.random() < epsilon:
            return int(np.random.randint(self.n_actions))
        return int(self.net(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)).argmax(1).item())

    def loss(self, batch):
        obs = torch.as_tensor(batch.obs, dtype=torch.float32)
        action = torch.as_tensor(batch.action, dtype=torch.int64)
        reward = torch.as_tensor(batch.reward, dtype=torch.float32)
        next_obs = torch.as_tensor(batch.next_obs, dtype=torch.float32)
        alive = 1.0 - torch.as_tensor(batch.terminated, dtype=torch.float32)
        with torch.no_grad():
            y = reward + self.gamma * alive * self.target(next_obs).amax(dim=1)
        q = self.net.both(obs)
        q = q.gather(2, action.view(1, -1, 1).expand(2, -1, 1)).squeeze(2)
        return F.mse_loss(q, y.expand(2, -1), reduction="sum") / len(obs)

    def update(self, batch):
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 20.0)
        self.optimizer.step()
        self.updates += 1
        if self.updates % self.hard_sync == 0:
            self.sync()

    def sync(self):
        self.target.load_state_dict(self.net.state_dict())

    def train(self, env, steps, eps_min=0.03, eps_decay=0.998):
        epsilon = 1.0
        returns, total = [], 0.0
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.act(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.push(obs, action, reward, next_obs, terminated)
            total += reward
            if terminated or truncated:
                returns.append(total)
                total = 0.0
                obs, _ = env.reset()
            else:
                obs = next_obs
            if len(self.memory) >= self.warmup:
                self.update(self.memory.sample(self.batch_size))
                epsilon = max(eps_min, epsilon * eps_decay)
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.obs_size

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(Batch(obs, action, reward, next_obs, terminated))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return tuple(self.agent.memory.sample(n))

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(TwinDQN(4, 2))
