"""Categorical Double DQN, CleanRL-like functions around an agent class."""
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 30000
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    n_atoms: int = 51
    v_min: float = -20.0
    v_max: float = 100.0
    buffer_size: int = 10000
    gamma: float = 0.98
    target_network_frequency: int = 250
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.02
    exploration_fraction: float = 0.2
    learning_starts: int = 256
    train_frequency: int = 2


class CategoricalNetwork(nn.Module):
    def __init__(self, obs_dim, n, n_atoms, v_min, v_max):
        super().__init__()
        self.n, self.n_atoms = n, n_atoms
        self.register_buffer("atoms", torch.linspace(v_min, v_max, steps=n_atoms))
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, n * n_atoms),
        )

    def logits(self, x):
        return self.network(x).view(len(x), self.n, self.n_atoms)

    def q(self, x):
        return (torch.softmax(self.logits(x), dim=2) * self.atoms).sum(2)


class Storage:
    def __init__(self, size, obs_dim):
        self.obs, self.next_obs = (np.zeros((size, obs_dim), np.float32) for _ in range(2))
        self.actions = np.zeros(size, np.int64)
        self.rewards, self.dones = (np.zeros(size, np.float32) for _ in range(2))
        self.capacity, self.added = size, 0

    def add(self, obs, action, reward, next_obs, done):
        i = self.added % self.capacity
        self.obs[i], self.actions[i], self.rewards[i], self.next_obs[i], self.dones[i] = (
            obs, action, reward, next_obs, done)
        self.added += 1

    def sample(self, n):
        i = np.random.randint(0, min(self.added, self.capacity), size=n)
        return self.obs[i], self.actions[i], self.rewards[i], self.next_obs[i], self.dones[i]


class C51:
    def __init__(self, args, obs_dim, n_actions):
        self.args, self.obs_dim, self.n_actions = args, obs_dim, n_actions
        build = lambda: CategoricalNetwork(obs_dim, n_actions, args.n_atoms, args.v_min, args.v_max)
        self.q_network, self.target_network = build(), build()
        self.sync()
        self.optimizer = optim.Adam(self.q_network.parameters(), lr=args.learning_rate, eps=0.01 / args.batch_size)
        n_updates = args.total_timesteps // args.train_frequency
        self.scheduler = optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=n_updates, eta_min=args.final_learning_rate)
        self.rb = Storage(args.buffer_size, obs_dim)

    def sync(self):
        self.target_network.load_state_dict(self.q_network.state_dict())

    def act(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return self.q_network.q(torch.as_tensor(obs, dtype=torch.float32)[None]).argmax().item()

    @torch.no_grad()
    def target_distribution(self, rewards, next_obs, dones):
        args, net = self.args, self.target_network
        best = self.q_network.q(next_obs).argmax(1)
        next_pmfs = torch.softmax(net.logits(next_obs), dim=2)[torch.arange(len(next_obs)), best]
        next_atoms = rewards[:, None] + args.gamma * net.atoms * (1 - dones[:, None])
        tz = next_atoms.clamp(args.v_min, args.v_max)
        delta_z = net.atoms[1] - net.atoms[0]
        b = ((tz - args.v_min) / delta_z).clamp(0, args.n_atoms - 1)
        # triangular kernel: the share of each target atom that goes to each atom of the support
        share = (1 - (b[:, None, :] - torch.arange(args.n_atoms)[None, :, None]).abs()).clamp(min=0)
        return (share * next_pmfs[:, None, :]).sum(2)

    def update(self, obs, actions, rewards, next_obs, dones):
        obs = torch.as_tensor(obs, dtype=torch.float32)
        actions = torch.as_tensor(actions, dtype=torch.int64)
        rewards = torch.as_tensor(rewards, dtype=torch.float32)
        next_obs = torch.as_tensor(next_obs, dtype=torch.float32)
        dones = torch.as_tensor(dones, dtype=torch.float32)

        target_pmfs = self.target_distribution(rewards, next_obs, dones)
        log_pmfs = torch.log_softmax(self.q_network.logits(obs), dim=2)[torch.arange(len(obs)), actions]
        loss = -(target_pmfs * log_pmfs).sum(-1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def train(self, env, total_timesteps):
        args = self.args
        returns, ret = [], 0.0
        obs, _ = env.reset()
        for global_step in range(total_timesteps):
            frac = min(1.0, global_step / (args.exploration_fraction * args.total_timesteps))
            epsilon = args.start_e + frac * (args.end_e - args.start_e)
            action = self.act(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.rb.add(obs, action, reward, next_obs, terminated)
            obs = next_obs
            ret += reward
            if terminated or truncated:
                returns.append(ret)
                ret = 0.0
                obs, _ = env.reset()
            if global_step >= args.learning_starts:
                if global_step % args.train_frequency == 0:
                    self.update(*self.rb.sample(args.batch_size))
                    self.scheduler.step()
                if global_step % args.target_network_frequency == 0:
                    self.sync()
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.args.gamma
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.q_network.q(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target_network.q(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.rb.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.rb.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    args = Args(seed=seed)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    return Adapter(C51(args, 4, 2))
