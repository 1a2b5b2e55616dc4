"""NoisyNet-DQN: exploration comes from parameter noise only."""
import copy
import math
import random
from collections import deque

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class NoisyLinear(nn.Module):
    """Factorised Gaussian noise (Fortunato et al., 2018)."""

    def __init__(self, in_features, out_features, std_init=0.5):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.std_init = std_init
        self.weight_mu = nn.Parameter(torch.empty(out_features, in_features))
        self.weight_sigma = nn.Parameter(torch.empty(out_features, in_features))
        self.register_buffer("weight_epsilon", torch.zeros(out_features, in_features))
        self.bias_mu = nn.Parameter(torch.empty(out_features))
        self.bias_sigma = nn.Parameter(torch.empty(out_features))
        self.register_buffer("bias_epsilon", torch.zeros(out_features))
        self.reset_parameters()
        self.reset_noise()

    def reset_parameters(self):
        mu_range = 1 / math.sqrt(self.in_features)
        self.weight_mu.data.uniform_(-mu_range, mu_range)
        self.weight_sigma.data.fill_(self.std_init / math.sqrt(self.in_features))
        self.bias_mu.data.uniform_(-mu_range, mu_range)
        self.bias_sigma.data.fill_(self.std_init / math.sqrt(self.out_features))

    @staticmethod
    def _scale_noise(size):
        x = torch.randn(size)
        return x.sign().mul(x.abs().sqrt())

    def reset_noise(self):
        epsilon_in = self._scale_noise(self.in_features)
        epsilon_out = self._scale_noise(self.out_features)
        self.weight_epsilon.copy_(torch.outer(epsilon_out, epsilon_in))
        self.bias_epsilon.copy_(epsilon_out)

    def forward(self, x):
        if self.training:
            return F.linear(
                x,
                self.weight_mu + self.weight_sigma * self.weight_epsilon,
                self.bias_mu + self.bias_sigma * self.bias_epsilon,
            )
        return F.linear(x, self.weight_mu, self.bias_mu)


class NoisyDQN(nn.Module):
    def __init__(self, obs_size, n_actions, hidden=64):
        super().__init__()
        self.feature = nn.Linear(obs_size, hidden)
        self.head = nn.Sequential(
            NoisyLinear(hidden, hidden),
            nn.ReLU(),
            NoisyLinear(hidden, n_actions),
        )

    def forward(self, x):
        return self.head(F.relu(self.feature(x)))

    def reset_noise(self):
        for module in self.children():
            if isinstance(module, NoisyLinear):
                module.reset_noise()


class Agent:
    def __init__(self, obs_size, n_actions, gamma=0.99, lr=5e-4, batch_size=32, capacity=10_000,
                 warmup=200, target_interval=250):
        self.obs_size = obs_size
        self.n_actions = n_actions
        self.gamma = gamma
        self.batch_size = batch_size
        self.warmup = warmup
        self.target_interval = target_interval
        self.online = NoisyDQN(obs_size, n_actions)
        self.target = copy.deepcopy(self.online)
        for p in self.target.parameters():
            p.requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=lr, eps=1.5e-4)
        self.memory = deque(maxlen=capacity)

    @torch.no_grad()
    def act(self, obs):
        self.online.reset_noise()
        q = self.online(torch.as_tensor(obs, dtype=torch.float32)[None])
        return int(q.argmax(1))

    @torch.no_grad()
    def act_greedy(self, obs):
        self.online.eval()
        action = int(self.online(torch.as_tensor(obs, dtype=torch.float32)[None]).argmax(1))
        self.online.train()
        return action

    def sample(self, n):
        batch = random.sample(self.memory, n)
        return [np.array(column) for column in zip(*batch)]

    def learn(self, obs, action, reward, next_obs, done):
        obs = torch.as_tensor(obs, dtype=torch.float32)
        action = torch.as_tensor(action, dtype=torch.int64)
        reward = torch.as_tensor(reward, dtype=torch.float32)
        next_obs = torch.as_tensor(next_obs, dtype=torch.float32)
        done = torch.as_tensor(done, dtype=torch.float32)

        self.online.reset_noise()
        self.target.reset_noise()
        q = self.online(obs).gather(1, action[:, None]).squeeze(1)
        with torch.no_grad():
            next_q = self.target(next_obs).max(1).values
            y = reward + self.gamma * (1 - done) * next_q
        loss = F.smooth_l1_loss(q, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        return loss.item()

    def sync(self):
        self.target.load_state_dict(self.online.state_dict())

    def train(self, env, steps):
        returns, total = [], 0.0
        obs, _ = env.reset()
        for t in range(1, steps + 1):
            action = self.act(obs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.append((obs, action, reward, next_obs, terminated))
            total += reward
            obs = next_obs
            if terminated or truncated:
                returns.append(total)
                total = 0.0
                obs, _ = env.reset()
            if len(self.memory) >= self.warmup:
                self.learn(*self.sample(self.batch_size))
            if t % self.target_interval == 0:
                self.sync()
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.obs_size

    def q_values(self, obs):
        self.agent.online.eval()
        with torch.no_grad():
            q = self.agent.online(torch.as_tensor(obs, dtype=torch.float32)).numpy()
        self.agent.online.train()
        return q

    def target_q_values(self, obs):
        self.agent.target.eval()
        with torch.no_grad():
            q = self.agent.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()
        self.agent.target.train()
        return q

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return tuple(self.agent.sample(n))

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(4, 2))
