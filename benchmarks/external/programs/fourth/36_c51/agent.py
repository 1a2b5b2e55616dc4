"""Categorical DQN (C51) for small vector observations."""
import random
from typing import Deque, Dict, List
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class ReplayBuffer:
    """A simple numpy replay buffer."""

    def __init__(self, obs_dim: int, size: int, batch_size: int = 32):
        self.obs_buf = np.zeros([size, obs_dim], dtype=np.float32)
        self.next_obs_buf = np.zeros([size, obs_dim], dtype=np.float32)
        self.acts_buf = np.zeros([size], dtype=np.float32)
        self.rews_buf = np.zeros([size], dtype=np.float32)
        self.done_buf = np.zeros(size, dtype=np.float32)
        self.max_size, self.batch_size = size, batch_size
        self.ptr, self.size = 0, 0

    def store(self, obs, act, rew, next_obs, done):
        self.obs_buf[self.ptr] = obs
        self.next_obs_buf[self.ptr] = next_obs
        self.acts_buf[self.ptr] = act
        self.rews_buf[self.ptr] = rew
        self.done_buf[self.ptr] = done
        self.ptr = (self.ptr + 1) % self.max_size
        self.size = min(self.size + 1, self.max_size)

    def sample_batch(self, batch_size=None) -> Dict[str, np.ndarray]:
        idxs = np.random.choice(self.size, size=batch_size or self.batch_size, replace=False)
        return dict(
            obs=self.obs_buf[idxs],
            next_obs=self.next_obs_buf[idxs],
            acts=self.acts_buf[idxs],
            rews=self.rews_buf[idxs],
            done=self.done_buf[idxs],
        )

    def __len__(self) -> int:
        return self.size


class Network(nn.Module):
    def __init__(self, in_dim: int, out_dim: int, atom_size: int, support: torch.Tensor):
        super(Network, self).__init__()
        self.register_buffer("support", support)
        self.out_dim = out_dim
        self.atom_size = atom_size
        self.layers = nn.Sequential(
            nn.Linear(in_dim, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, out_dim * atom_size),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dist = self.dist(x)
        return torch.sum(dist * self.support, dim=2)

    def dist(self, x: torch.Tensor) -> torch.Tensor:
        return F.softmax(self.logits(x), dim=-1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).view(-1, self.out_dim, self.atom_size)


class DQNAgent:
    def __init__(self, obs_dim, action_dim, memory_size=10000, batch_size=64, target_update=200,
                 epsilon_decay=1 / 3000, max_epsilon=1.0, min_epsilon=0.05, gamma=0.99, lr=5e-4,
                 v_min=0.0, v_max=100.0, atom_size=101):
        self.obs_dim, self.action_dim = obs_dim, action_dim
        self.memory = ReplayBuffer(obs_dim, memory_size, batch_size)
        self.batch_size = batch_size
        self.epsilon = max_epsilon
        self.epsilon_decay = epsilon_decay
        self.max_epsilon = max_epsilon
        self.min_epsilon = min_epsilon
        self.target_update = target_update
        self.gamma = gamma

        self.v_min = v_min
        self.v_max = v_max
        self.atom_size = atom_size
        self.support = torch.linspace(self.v_min, self.v_max, self.atom_size)

        self.dqn = Network(obs_dim, action_dim, atom_size, self.support)
        self.dqn_target = Network(obs_dim, action_dim, atom_size, self.support)
        self.dqn_target.load_state_dict(self.dqn.state_dict())
        self.dqn_target.eval()
        self.optimizer = optim.Adam(self.dqn.parameters(), lr=lr)

    def select_action(self, state, epsilon=None):
        epsilon = self.epsilon if epsilon is None else epsilon
        if epsilon > np.random.random():
            return int(np.random.randint(self.action_dim))
        with torch.no_grad():
            return int(self.dqn(torch.FloatTensor(np.asarray(state))).argmax().item())

    def update_model(self, samples=None):
        if samples is None:
            samples = self.memory.sample_batch()
        loss = self._compute_dqn_loss(samples)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _compute_dqn_loss(self, samples):
        state = torch.FloatTensor(samples["obs"])
        next_state = torch.FloatTensor(samples["next_obs"])
        action = torch.LongTensor(samples["acts"])
        reward = torch.FloatTensor(samples["rews"].reshape(-1, 1))
        done = torch.FloatTensor(samples["done"].reshape(-1, 1))

        batch = state.shape[0]
        delta_z = float(self.v_max - self.v_min) / (self.atom_size - 1)

        with torch.no_grad():
            next_action = self.dqn_target(next_state).argmax(1)
            next_dist = self.dqn_target.dist(next_state)
            next_dist = next_dist[range(batch), next_action]

            t_z = reward + (1 - done) * self.gamma * self.support
            t_z = t_z.clamp(min=self.v_min, max=self.v_max)
            b = (t_z - self.v_min) / delta_z
            l = b.floor().long()
            u = b.ceil().long()

            offset = (torch.arange(batch) * self.atom_size).unsqueeze(1).expand(batch, self.atom_size)
            proj_dist = torch.zeros(next_dist.size())
            proj_dist.view(-1).index_add_(0, (l + offset).view(-1), (next_dist * (u.float() - b)).view(-1))
            proj_dist.view(-1).index_add_(0, (u + offset).view(-1), (next_dist * (b - l.float())).view(-1))

        log_p = F.log_softmax(self.dqn.logits(state), dim=-1)[range(batch), action]
        return -(proj_dist * log_p).sum(1).mean()

    def _target_hard_update(self):
        self.dqn_target.load_state_dict(self.dqn.state_dict())

    def train(self, env, num_frames):
        state, _ = env.reset()
        update_cnt = 0
        scores, score = [], 0
        for frame_idx in range(1, num_frames + 1):
            action = self.select_action(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.store(state, action, reward, next_state, terminated)
            state = next_state
            score += reward
            if terminated or truncated:
                state, _ = env.reset()
                scores.append(score)
                score = 0

            if len(self.memory) >= self.batch_size:
                self.update_model()
                update_cnt += 1
                self.epsilon = max(
                    self.min_epsilon,
                    self.epsilon - (self.max_epsilon - self.min_epsilon) * self.epsilon_decay,
                )
                if update_cnt % self.target_update == 0:
                    self._target_hard_update()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.dqn(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.dqn_target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent._target_hard_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        f = lambda x: np.asarray(x, dtype=np.float32)
        self.agent.update_model(dict(obs=f(obs), acts=f(action), rews=f(reward), next_obs=f(next_obs), done=f(terminated)))

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        s = self.agent.memory.sample_batch(n)
        return s["obs"], s["acts"].astype(np.int64), s["rews"], s["next_obs"], s["done"]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DQNAgent(4, 2))
