import collections
import copy

import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    """Dueling network with a configurable layers."""

    def __init__(self, num_inputs, num_actions, hidden=(64, 32)):
        super().__init__()
        self.layers = nn.ModuleList()
        for width in hidden:
            self.layers.append(nn.Linear(num_inputs, width))
            num_inputs = width
        self.value = nn.Linear(num_inputs, 1)
        self.advantage = nn.Linear(num_inputs, num_actions)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(dim=1, keepdim=True)


class ReplayMemory:
    def __init__(self, capacity, seed):
        self.buffer = collections.deque(maxlen=capacity)
        self.rng = np.random.default_rng(seed)

    def push(self, *transition):
        self.buffer.append(transition)

    def sample(self, batch_size):
        indices = self.rng.integers(len(self.buffer), size=batch_size)
        obs, action, reward, next_obs, done = zip(*[self.buffer[i] for i in indices])
        return (np.stack(obs).astype(np.float32), np.array(action), np.array(reward, dtype=np.float32),
                np.stack(next_obs).astype(np.float32), np.array(done, dtype=np.float32))

    def __len__(self):
        return len(self.buffer)


class DQN:
    def __init__(self, num_inputs, num_actions, lr=5e-4, gamma=0.99, capacity=30000, seed=0):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.num_inputs, self.num_actions = num_inputs, num_actions
        self.gamma = gamma
        self.online_network = Network(num_inputs, num_actions)
        self.target_network = copy.deepcopy(self.online_network)
        self.target_network.requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.online_network.parameters(), lr=lr)
        self.criterion = nn.SmoothL1Loss()
        self.memory = ReplayMemory(capacity, seed)

    def select_action(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.num_actions))
        with torch.no_grad():
            q = self.online_network(torch.tensor(obs, dtype=torch.float32)[None])
        return int(q.argmax(dim=1))

    def optimize(self, obs, action, reward, next_obs, done):
        obs, next_obs = torch.Tensor(obs), torch.Tensor(next_obs)
        action = torch.as_tensor(action, dtype=torch.int64)
        reward, done = torch.Tensor(reward), torch.Tensor(done)
        q = self.online_network(obs)[torch.arange(len(action)), action]
        with torch.no_grad():
            best = self.online_network(next_obs).argmax(dim=1, keepdim=True)
            next_q = self.target_network(next_obs).gather(1, best).squeeze(1)
            expected = reward + (1.0 - done) * self.gamma * next_q
        loss = self.criterion(q, expected)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online_network.parameters(), 10.0)
        self.optimizer.step()

    def sync(self):
        self.online_network.load_state_dict(self.target_network.state_dict())


def train(agent, env, num_steps, batch_size=64, sync_interval=100, warmup=100, eps_decay=3000):
    episode_rewards = [0.0]
    obs, _ = env.reset()
    for step in range(1, num_steps + 1):
        epsilon = max(0.03, 1 - step / eps_decay)
        action = agent.select_action(obs, epsilon)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.memory.push(obs, action, reward, next_obs, terminated)
        episode_rewards[-1] += reward
        if terminated or truncated:
            obs, _ = env.reset()
            episode_rewards.append(0.0)
        else:
            obs = next_obs
        if len(agent.memory) >= warmup:
            agent.optimize(*agent.memory.sample(batch_size))
        if step % sync_interval == 0:
            agent.sync()
    return episode_rewards


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.num_inputs

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.online_network(torch.Tensor(obs)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.target_network(torch.Tensor(obs)).numpy()

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.optimize(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample(n)

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    return Adapter(DQN(4, 2, seed=seed))
