# single-file DQN
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    learning_rate: float = 2.5e-4
    buffer_size: int = 10000
    gamma: float = 0.99
    target_network_frequency: int = 500
    batch_size: int = 128
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_steps: int = 5000
    learning_starts: int = 128
    train_frequency: int = 4


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, n_actions),
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.size, self.pos, self.full = size, 0, False
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, n):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=n)
        return self.obs[idx], self.actions[idx], self.rewards[idx], self.next_obs[idx], self.dones[idx]


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


class Run:
    def __init__(self, args, obs_dim, n_actions):
        random.seed(args.seed)
        np.random.seed(args.seed)
        torch.manual_seed(args.seed)
        self.args, self.n_actions = args, n_actions
        self.q_network = QNetwork(obs_dim, n_actions)
        self.optimizer = optim.Adam(self.q_network.parameters(), lr=args.learning_rate)
        self.target_network = QNetwork(obs_dim, n_actions)
        self.target_network.load_state_dict(self.q_network.state_dict())
        self.rb = ReplayBuffer(args.buffer_size, obs_dim)
        self.global_step = 0

    def get_action(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randint(0, self.n_actions - 1)
        q_values = self.q_network(torch.Tensor(obs).unsqueeze(0))
        return int(torch.argmax(q_values, dim=1).item())

    def update(self, obs, actions, rewards, next_obs, dones):
        with torch.no_grad():
            target_max, _ = self.target_network(torch.as_tensor(next_obs, dtype=torch.float32)).max(dim=1)
            td_target = torch.as_tensor(rewards, dtype=torch.float32) + self.args.gamma * target_max * (
                1 - torch.as_tensor(dones, dtype=torch.float32))
        old_val = self.q_network(torch.as_tensor(obs, dtype=torch.float32)).gather(
            1, torch.as_tensor(actions, dtype=torch.int64).view(-1, 1)).squeeze(1)
        loss = F.mse_loss(td_target, old_val)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def sync(self):
        self.target_network.load_state_dict(self.q_network.state_dict())

    def main(self, env, total_timesteps):
        args = self.args
        obs, _ = env.reset(seed=args.seed)
        for _ in range(total_timesteps):
            epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_steps, self.global_step)
            action = self.get_action(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            self.rb.add(obs, next_obs, action, reward, done)
            obs = next_obs
            if done:
                obs, _ = env.reset()

            if self.global_step > args.learning_starts:
                if self.global_step % args.train_frequency == 0:
                    self.update(*self.rb.sample(args.batch_size))
                elif self.global_step % args.target_network_frequency == 0:
                    self.sync()
            self.global_step += 1


class Adapter:
    def __init__(self, run, obs_dim):
        self.script = run
        self.gamma = run.args.gamma
        self.observation_size = obs_dim

    def q_values(self, obs):
        return self.script.q_network(torch.Tensor(np.asarray(obs))).detach().numpy()

    def target_q_values(self, obs):
        return self.script.target_network(torch.Tensor(np.asarray(obs))).detach().numpy()

    def sync_target(self):
        self.script.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.script.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.script.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.script.rb.add(obs, next_obs, action, reward, terminated or truncated)

    def sample(self, n):
        return self.script.rb.sample(n)

    def run(self, env, env_steps):
        self.script.main(env, env_steps)


def make(seed=0):
    return Adapter(Run(Args(seed=seed), 4, 2), 4)
