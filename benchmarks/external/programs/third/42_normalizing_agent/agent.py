"""DQN agent with running normalization of observations and scaled rewards."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn


class RunningNorm(nn.Module):
    """Mean and variance of all observations so far (Welford)."""

    def __init__(self, size, clip=5.0):
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("m2", torch.ones(size))
        self.register_buffer("count", torch.ones(()))

    def observe(self, x):
        x = torch.as_tensor(x, dtype=torch.float32)
        self.count += 1
        delta = x - self.mean
        self.mean += delta / self.count
        self.m2 += delta * (x - self.mean)

    def forward(self, x):
        return ((x - self.mean) / torch.sqrt(self.m2 / self.count + 1e-6)).clamp(-self.clip, self.clip)


class Agent:
    def __init__(self, obs_size, action_size, seed=0):
        random.seed(seed)
        torch.manual_seed(seed)
        self.obs_size, self.action_size = obs_size, action_size
        self.gamma = 0.99
        self.reward_scale = 0.1
        self.tau = 0.01
        self.batch_size = 64
        self.memory = deque(maxlen=15000)
        self.norm = RunningNorm(obs_size)
        self.local = self._network()
        self.target = self._network()
        self.target.load_state_dict(self.local.state_dict())
        self.optimizer = torch.optim.Adam(self.local.parameters(), lr=1e-3)
        self.steps = 0

    def _network(self):
        return nn.Sequential(nn.Linear(self.obs_size, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(),
                             nn.Linear(64, self.action_size))

    def values(self, obs, net=None):
        net = self.local if net is None else net
        return net(self.norm(torch.as_tensor(np.asarray(obs), dtype=torch.float32)))

    def act(self, obs, eps):
        if random.random() < eps:
            return random.choice(range(self.action_size))
        with torch.no_grad():
            return int(self.values(obs).argmax(-1))

    def store(self, obs, action, reward, next_obs, terminated):
        self.memory.append((np.array(obs, np.float32), int(action), float(reward), np.array(next_obs, np.float32),
                            float(terminated)))

    def sample(self, n):
        return [np.array(column) for column in zip(*random.choices(self.memory, k=n))]

    def learn(self, obs, actions, rewards, next_obs, terminated):
        rewards = torch.as_tensor(np.asarray(rewards), dtype=torch.float32) * self.reward_scale
        alive = 1 - torch.as_tensor(np.asarray(terminated), dtype=torch.float32)
        actions = torch.as_tensor(np.asarray(actions), dtype=torch.int64)
        with torch.no_grad():
            targets = rewards + self.gamma * alive * self.values(next_obs, self.target).amax(1)
        q = (self.values(obs) * nn.functional.one_hot(actions, self.action_size)).sum(1)
        loss = 0.5 * (targets - q).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def soft_update(self):
        for target_param, local_param in zip(self.target.parameters(), self.local.parameters()):
            target_param.data.copy_(self.tau * local_param.data + (1.0 - self.tau) * target_param.data)

    def run(self, env, n_steps):
        obs, _ = env.reset()
        for _ in range(n_steps):
            self.norm.observe(obs)
            action = self.act(obs, max(0.02, 0.9995 ** self.steps))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.store(obs, action, reward, next_obs, terminated)
            self.steps += 1
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()
            if len(self.memory) > 4 * self.batch_size:
                self.learn(*self.sample(self.batch_size))
                self.soft_update()


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.obs_size

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.values(obs).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.values(obs, self.agent.target).numpy()

    def sync_target(self):
        self.agent.soft_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed))
