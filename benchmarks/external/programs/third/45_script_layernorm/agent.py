# dqn_layernorm.py: DQN with LayerNorm, AdamW, a learning-rate schedule and a Huber loss
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 50000
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    buffer_size: int = 20000
    gamma: float = 0.99
    tau: float = 0.5
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1
    end_e: float = 0.02
    exploration_steps: int = 3500
    learning_starts: int = 250
    max_grad_norm: float = 1.0


def layer(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.LeakyReLU())


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(layer(obs_dim, 96), layer(96, 96), nn.Linear(96, n_actions))

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, obs_dim, seed):
        self.rng = np.random.default_rng(seed)
        self.data = np.zeros(size, dtype=[("obs", "f4", (obs_dim,)), ("action", "i8"), ("reward", "f4"),
                                          ("next_obs", "f4", (obs_dim,)), ("terminated", "f4")])
        self.added = 0

    def add(self, *transition):
        self.data[self.added % len(self.data)] = transition
        self.added += 1

    def sample(self, n):
        rows = self.data[self.rng.integers(min(self.added, len(self.data)), size=n)]
        return tuple(np.ascontiguousarray(rows[name]) for name in rows.dtype.names)


def linear_schedule(start, end, duration, t):
    return start + (end - start) * min(t / duration, 1.0)


class Training:
    def __init__(self, args, obs_dim, n_actions):
        random.seed(args.seed)
        torch.manual_seed(args.seed)
        self.args, self.obs_dim, self.n_actions = args, obs_dim, n_actions
        self.q_network = QNetwork(obs_dim, n_actions)
        self.target_network = QNetwork(obs_dim, n_actions)
        self.target_network.load_state_dict(self.q_network.state_dict())
        self.optimizer = optim.AdamW(self.q_network.parameters(), lr=args.learning_rate,
                                     weight_decay=args.weight_decay)
        self.rb = ReplayBuffer(args.buffer_size, obs_dim, args.seed)
        self.global_step = 0

    def get_action(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return int(torch.argmax(self.q_network(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)), dim=1))

    def update(self, obs, action, reward, next_obs, terminated):
        obs, reward, next_obs, terminated = (
            torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in (obs, reward, next_obs, terminated))
        action = torch.as_tensor(np.asarray(action), dtype=torch.int64)
        with torch.no_grad():
            td_target = torch.where(terminated.bool(), reward,
                                    reward + self.args.gamma * self.target_network(next_obs).max(dim=1).values)
        old_val = torch.take_along_dim(self.q_network(obs), action.unsqueeze(1), dim=1).squeeze(1)
        loss = nn.functional.huber_loss(old_val, td_target, delta=2.0)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q_network.parameters(), self.args.max_grad_norm)
        self.optimizer.step()

    def update_target(self):
        tau = self.args.tau
        with torch.no_grad():
            for target_param, param in zip(self.target_network.parameters(), self.q_network.parameters()):
                target_param.mul_(1 - tau).add_(param, alpha=tau)

    def learn(self, env, timesteps):
        args = self.args
        obs, _ = env.reset()
        for _ in range(timesteps):
            epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_steps, self.global_step)
            action = self.get_action(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.rb.add(obs, action, reward, next_obs, terminated)
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()
            self.global_step += 1
            if self.global_step < args.learning_starts:
                continue
            for group in self.optimizer.param_groups:
                group["lr"] = linear_schedule(args.learning_rate, args.final_learning_rate, args.total_timesteps,
                                              self.global_step)
            self.update(*self.rb.sample(args.batch_size))
            if self.global_step % args.target_network_frequency == 0:
                self.update_target()


class Adapter:
    def __init__(self, training):
        self.training = training
        self.gamma = training.args.gamma
        self.observation_size = training.obs_dim

    @torch.no_grad()
    def q_values(self, obs):
        return self.training.q_network(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.training.target_network(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.training.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.training.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.training.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.training.rb.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.training.rb.sample(n)

    def run(self, env, env_steps):
        self.training.learn(env, env_steps)


def make(seed=0):
    return Adapter(Training(Args(seed=seed), 4, 2))
