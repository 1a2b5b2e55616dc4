# double DQN, single file
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    exp_name: str = "ddqn"
    seed: int = 1
    torch_deterministic: bool = True
    env_id: str = "CartPole-v1"
    total_timesteps: int = 50000
    learning_rate: float = 2.5e-4
    buffer_size: int = 10000
    gamma: float = 0.99
    tau: float = 1.0
    target_network_frequency: int = 500
    batch_size: int = 128
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 1000
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
        self.size = size
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros((size, 1), dtype=np.float32)
        self.dones = np.zeros((size, 1), dtype=np.float32)
        self.pos = 0
        self.full = False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        self.pos += 1
        if self.pos == self.size:
            self.full = True
            self.pos = 0

    def sample(self, batch_size):
        upper = self.size if self.full else self.pos
        idx = np.random.randint(0, upper, size=batch_size)
        columns = (self.observations, self.actions, self.rewards, self.next_observations, self.dones)
        return tuple(torch.as_tensor(c[idx]) for c in columns)


def linear_schedule(start_e: float, end_e: float, duration: float, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


class DoubleDQN:
    def __init__(self, args, obs_dim, n_actions):
        self.args = args
        self.obs_dim = obs_dim
        self.n_actions = n_actions
        self.q_network = QNetwork(obs_dim, n_actions)
        self.optimizer = optim.Adam(self.q_network.parameters(), lr=args.learning_rate)
        self.target_network = QNetwork(obs_dim, n_actions)
        self.target_network.load_state_dict(self.q_network.state_dict())
        self.rb = ReplayBuffer(args.buffer_size, obs_dim)

    def select(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randint(0, self.n_actions - 1)
        q_values = self.q_network(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0))
        return torch.argmax(q_values, dim=1).item()

    def update(self, observations, actions, rewards, next_observations, dones):
        with torch.no_grad():
            best_actions = self.q_network(observations).argmax(dim=1, keepdim=True)
            next_values = self.target_network(next_observations).gather(1, best_actions).squeeze(1)
            td_target = rewards.flatten() + self.args.gamma * next_values * (1 - dones.flatten())
        old_val = self.q_network(observations).gather(1, actions).squeeze(1)
        loss = F.mse_loss(td_target, old_val)

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def update_target(self):
        for target_param, q_param in zip(self.target_network.parameters(), self.q_network.parameters()):
            target_param.data.copy_(self.args.tau * q_param.data + (1.0 - self.args.tau) * target_param.data)

    def train(self, env, total_timesteps):
        args = self.args
        start_time = time.time()
        obs, _ = env.reset()
        for global_step in range(total_timesteps):
            epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction, global_step)
            action = self.select(obs, epsilon)
            next_obs, reward, termination, truncation, info = env.step(action)
            self.rb.add(obs, next_obs, action, reward, termination)
            obs = next_obs
            if termination or truncation:
                obs, _ = env.reset()

            if global_step > args.learning_starts:
                if global_step % args.train_frequency == 0:
                    self.update(*self.rb.sample(args.batch_size))
                if global_step % args.target_network_frequency == 0:
                    self.update_target()
        return int(total_timesteps / (time.time() - start_time + 1e-9))


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.args.gamma
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.q_network(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target_network(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(
            torch.as_tensor(obs, dtype=torch.float32),
            torch.as_tensor(action, dtype=torch.int64).reshape(-1, 1),
            torch.as_tensor(reward, dtype=torch.float32).reshape(-1, 1),
            torch.as_tensor(next_obs, dtype=torch.float32),
            torch.as_tensor(terminated, dtype=torch.float32).reshape(-1, 1),
        )

    def act(self, obs, epsilon):
        return self.agent.select(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.rb.add(obs, next_obs, action, reward, terminated)

    def sample(self, n):
        o, a, r, no, d = (c.numpy() for c in self.agent.rb.sample(n))
        return o, a[:, 0], r[:, 0], no, d[:, 0]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    args = Args(seed=seed)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    return Adapter(DoubleDQN(args, 4, 2))
