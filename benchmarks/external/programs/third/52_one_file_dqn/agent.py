# Simple one-file DQN
import random
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

args = SimpleNamespace(
    learning_rate=5e-4,
    buffer_size=10_000,
    gamma=0.99,
    target_network_frequency=250,
    batch_size=64,
    start_e=1.0,
    end_e=0.05,
    exploration_steps=4_000,
    learning_starts=200,
)


class QNetwork(nn.Module):
    def __init__(self, n_obs, n_act):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(n_obs, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, n_act),
        )

    def forward(self, x):
        return self.network(x)


def epsilon_at(t):
    slope = (args.end_e - args.start_e) / args.exploration_steps
    return min(args.end_e, args.start_e + slope * t)


class ReplayBuffer:
    def __init__(self, capacity):
        self.capacity = capacity
        self.items = []
        self.head = 0

    def add(self, item):
        if len(self.items) < self.capacity:
            self.items.append(item)
        else:
            self.items[self.head] = item
        self.head = (self.head + 1) % self.capacity

    def sample(self, n):
        obs, actions, rewards, next_obs, dones = zip(*random.choices(self.items, k=n))
        return (torch.tensor(np.array(obs), dtype=torch.float32), torch.tensor(actions),
                torch.tensor(rewards, dtype=torch.float32), torch.tensor(np.array(next_obs), dtype=torch.float32),
                torch.tensor(dones, dtype=torch.float32))

    def __len__(self):
        return len(self.items)


class DQN:
    def __init__(self, n_obs, n_act):
        self.n_obs, self.n_act = n_obs, n_act
        self.q_network = QNetwork(n_obs, n_act)
        self.target_network = QNetwork(n_obs, n_act)
        self.sync_target()
        self.optimizer = optim.Adam(list(self.q_network.parameters()), lr=args.learning_rate)
        self.rb = ReplayBuffer(args.buffer_size)
        self.global_step = 0

    def sync_target(self):
        with torch.no_grad():
            for target, online in zip(self.target_network.parameters(), self.q_network.parameters()):
                target.copy_(online)

    def predict(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_act)
        with torch.no_grad():
            return int(self.q_network(torch.tensor(np.array(obs), dtype=torch.float32)).argmax())

    def optimize(self, data):
        obs, actions, rewards, next_obs, dones = data
        # clipped: the smaller of the two networks' estimates
        next_values = torch.minimum(self.q_network(next_obs), self.target_network(next_obs))
        target_max = next_values.max(dim=1).values
        td_target = rewards + args.gamma * target_max * (1 - dones)
        old_val = self.q_network(obs).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = nn.functional.mse_loss(td_target, old_val)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def train(self, env, total_timesteps):
        obs, _ = env.reset()
        for _ in range(total_timesteps):
            action = self.predict(obs, epsilon_at(self.global_step))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.rb.add((obs, action, float(reward), next_obs, float(terminated)))
            obs = next_obs
            if terminated or truncated:
                env.reset()
            self.global_step += 1
            if len(self.rb) > args.learning_starts:
                self.optimize(self.rb.sample(args.batch_size))
            if self.global_step % args.target_network_frequency == 0:
                self.sync_target()


class Adapter:
    gamma = args.gamma

    def __init__(self, dqn):
        self.dqn = dqn
        self.observation_size = dqn.n_obs

    def q_values(self, obs):
        with torch.no_grad():
            return self.dqn.q_network(torch.tensor(np.array(obs), dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.dqn.target_network(torch.tensor(np.array(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.dqn.sync_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        f = lambda x: torch.tensor(np.array(x), dtype=torch.float32)
        self.dqn.optimize((f(obs), torch.tensor(np.array(action), dtype=torch.int64), f(reward), f(next_obs),
                           f(terminated)))

    def act(self, obs, epsilon):
        return self.dqn.predict(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.rb.add((obs, int(action), float(reward), next_obs, float(terminated)))

    def sample(self, n):
        return tuple(x.numpy() for x in self.dqn.rb.sample(n))

    def run(self, env, env_steps):
        self.dqn.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DQN(4, 2))
