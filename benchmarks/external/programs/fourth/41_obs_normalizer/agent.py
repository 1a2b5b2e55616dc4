"""DQN agent with running observation normalization."""
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn, optim


class RunningMeanStd:
    """Welford/Chan running statistics."""

    def __init__(self, mean, var, count):
        self.mean = np.array(mean, dtype=np.float64)
        self.var = np.array(var, dtype=np.float64)
        self.count = count

    def update(self, x):
        x = np.asarray(x, dtype=np.float64).reshape(-1, *self.mean.shape)
        batch_mean, batch_var, batch_count = x.mean(0), x.var(0), x.shape[0]
        delta = batch_mean - self.mean
        total = self.count + batch_count
        self.mean = self.mean + delta * batch_count / total
        m2 = self.var * self.count + batch_var * batch_count
        m2 = m2 + delta**2 * self.count * batch_count / total
        self.var = m2 / total
        self.count = total

    def normalize(self, x, clip=10.0):
        return np.clip((x - self.mean) / np.sqrt(self.var + 1e-8), -clip, clip).astype(np.float32)


@dataclass
class Config:
    obs_dim: int = 4
    n_actions: int = 2
    gamma: float = 0.99
    lr: float = 1e-3
    batch_size: int = 64
    capacity: int = 20_000
    start_learning: int = 500
    target_sync: int = 250
    eps_final: float = 0.05
    eps_steps: int = 4000
    hidden: int = 64
    # statistics of a random policy on CartPole-v1, the prior of the running statistics
    obs_mean: tuple = (0.0, 0.0, 0.0, 0.0)
    obs_var: tuple = (0.01, 0.33, 0.0095, 0.41)
    obs_count: float = 1000.0


class Buffer:
    def __init__(self, capacity, obs_dim):
        self.obs = np.empty((capacity, obs_dim), np.float32)
        self.next_obs = np.empty((capacity, obs_dim), np.float32)
        self.action = np.empty(capacity, np.int64)
        self.reward = np.empty(capacity, np.float32)
        self.terminated = np.empty(capacity, np.float32)
        self.capacity, self.index, self.size = capacity, 0, 0

    def add(self, obs, action, reward, next_obs, terminated):
        i = self.index
        self.obs[i], self.action[i], self.reward[i] = obs, action, reward
        self.next_obs[i], self.terminated[i] = next_obs, terminated
        self.index = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n):
        i = np.random.randint(self.size, size=n)
        return self.obs[i], self.action[i], self.reward[i], self.next_obs[i], self.terminated[i]


class NormalizedDQN:
    def __init__(self, config):
        self.config = config
        c = config
        self.rms = RunningMeanStd(c.obs_mean, c.obs_var, c.obs_count)
        self.online = nn.Sequential(
            nn.Linear(c.obs_dim, c.hidden), nn.ReLU(), nn.Linear(c.hidden, c.hidden), nn.ReLU(),
            nn.Linear(c.hidden, c.n_actions),
        )
        self.target = nn.Sequential(
            nn.Linear(c.obs_dim, c.hidden), nn.ReLU(), nn.Linear(c.hidden, c.hidden), nn.ReLU(),
            nn.Linear(c.hidden, c.n_actions),
        )
        self.sync()
        self.optimizer = optim.Adam(self.online.parameters(), lr=c.lr)
        self.buffer = Buffer(c.capacity, c.obs_dim)
        self.env_step = 0

    def preprocess(self, obs):
        return torch.from_numpy(self.rms.normalize(np.asarray(obs)))

    def predict(self, obs, net=None):
        with torch.no_grad():
            return (net or self.online)(self.preprocess(obs)).numpy()

    def act(self, obs, epsilon):
        if np.random.rand() < epsilon:
            return int(np.random.randint(self.config.n_actions))
        return int(self.predict(obs[None])[0].argmax())

    def update(self, obs, action, reward, next_obs, terminated):
        obs_t = self.preprocess(obs)
        next_obs_t = torch.as_tensor(next_obs, dtype=torch.float32)
        action_t = torch.as_tensor(action, dtype=torch.int64)
        reward_t = torch.as_tensor(reward, dtype=torch.float32)
        cont_t = 1.0 - torch.as_tensor(terminated, dtype=torch.float32)

        q = self.online(obs_t)[torch.arange(len(action_t)), action_t]
        with torch.no_grad():
            next_v = self.target(next_obs_t).amax(dim=1)
            y = reward_t + self.config.gamma * cont_t * next_v
        loss = nn.functional.mse_loss(q, y)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 5.0)
        self.optimizer.step()
        return loss.item()

    def sync(self):
        self.target.load_state_dict(self.online.state_dict())

    def epsilon(self):
        return max(self.config.eps_final, 1.0 - self.env_step / self.config.eps_steps)

    def learn(self, env, steps):
        returns, ret = [], 0.0
        obs, _ = env.reset()
        for _ in range(steps):
            self.env_step += 1
            self.rms.update(obs)
            action = self.act(obs, self.epsilon())
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.buffer.add(obs, action, reward, next_obs, terminated)
            ret += reward
            obs = next_obs
            if terminated or truncated:
                returns.append(ret)
                ret = 0.0
                obs, _ = env.reset()
            if self.buffer.size >= self.config.start_learning:
                self.update(*self.buffer.sample(self.config.batch_size))
            if self.env_step % self.config.target_sync == 0:
                self.sync()
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.config.gamma
        self.observation_size = agent.config.obs_dim

    def q_values(self, obs):
        return self.agent.predict(obs)

    def target_q_values(self, obs):
        return self.agent.predict(obs, self.agent.target)

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(np.asarray(obs), epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.buffer.sample(n)

    def run(self, env, env_steps):
        self.agent.learn(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(NormalizedDQN(Config()))
