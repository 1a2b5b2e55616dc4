"""DQN with prioritized experience replay (proportional variant, sum tree)."""
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class SumTree:
    def __init__(self, capacity):
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity - 1)
        self.data = np.zeros(capacity, dtype=object)
        self.write = 0
        self.n_entries = 0

    def _propagate(self, idx, change):
        while idx != 0:
            idx = (idx - 1) // 2
            self.tree[idx] += change

    def _retrieve(self, s):
        idx = 0
        while 2 * idx + 1 < len(self.tree):
            left = 2 * idx + 1
            if s <= self.tree[left]:
                idx = left
            else:
                s -= self.tree[left]
                idx = left + 1
        return idx

    def total(self):
        return self.tree[0]

    def add(self, p, data):
        idx = self.write + self.capacity - 1
        self.data[self.write] = data
        self.update(idx, p)
        self.write = (self.write + 1) % self.capacity
        self.n_entries = min(self.n_entries + 1, self.capacity)

    def update(self, idx, p):
        change = p - self.tree[idx]
        self.tree[idx] = p
        self._propagate(idx, change)

    def get(self, s):
        idx = self._retrieve(s)
        data_idx = min(idx - self.capacity + 1, self.n_entries - 1)
        idx = data_idx + self.capacity - 1
        return idx, self.tree[idx], self.data[data_idx]


class PrioritizedMemory:
    eps = 0.01
    alpha = 0.6
    beta_increment = 1e-4

    def __init__(self, capacity):
        self.tree = SumTree(capacity)
        self.capacity = capacity
        self.beta = 0.4
        self.max_priority = 1.0

    def __len__(self):
        return self.tree.n_entries

    def add(self, transition):
        self.tree.add(self.max_priority, transition)

    def sample(self, n):
        self.beta = min(1.0, self.beta + self.beta_increment)
        segment = self.tree.total() / n
        batch, idxs, priorities = [], [], []
        for i in range(n):
            s = random.uniform(segment * i, segment * (i + 1))
            idx, p, data = self.tree.get(s)
            batch.append(data)
            idxs.append(idx)
            priorities.append(p)
        probs = np.array(priorities) / self.tree.total()
        weights = (len(self) * probs) ** (-self.beta)
        weights /= weights.max()
        return batch, idxs, weights.astype(np.float32)

    def update(self, idxs, errors):
        for idx, error in zip(idxs, errors):
            p = max(error, self.eps) ** self.alpha
            self.max_priority = max(self.max_priority, p)
            self.tree.update(idx, p)


class QNet(nn.Module):
    def __init__(self, state_size, action_size):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(state_size, 64), nn.ReLU(),
            nn.Linear(64, 64), nn.ReLU(),
            nn.Linear(64, action_size),
        )

    def forward(self, x):
        return self.fc(x)


class DQNAgent:
    def __init__(self, state_size, action_size):
        self.state_size = state_size
        self.action_size = action_size
        self.discount_factor = 0.99
        self.learning_rate = 1e-3
        self.memory_size = 8192
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.explore_step = 4000
        self.epsilon_decay = (self.epsilon - self.epsilon_min) / self.explore_step
        self.batch_size = 64
        self.train_start = 200
        self.target_period = 200

        self.memory = PrioritizedMemory(self.memory_size)
        self.model = QNet(state_size, action_size)
        self.target_model = QNet(state_size, action_size)
        self.optimizer = optim.Adam(self.model.parameters(), lr=self.learning_rate)
        self.update_target_model()

    def update_target_model(self):
        self.target_model.load_state_dict(self.model.state_dict())

    def get_action(self, state, epsilon):
        if np.random.rand() <= epsilon:
            return random.randrange(self.action_size)
        with torch.no_grad():
            q = self.model(torch.as_tensor(state, dtype=torch.float32).unsqueeze(0))
        return int(q.argmax(dim=1).item())

    def append_sample(self, state, action, reward, next_state, done):
        self.memory.add((state, action, reward, next_state, done))

    def train_model(self):
        batch, idxs, weights = self.memory.sample(self.batch_size)
        states, actions, rewards, next_states, dones = (np.array(c) for c in zip(*batch))
        errors = self.fit(states, actions, rewards, next_states, dones, weights)
        self.memory.update(idxs, errors)

    def fit(self, states, actions, rewards, next_states, dones, weights):
        states = torch.as_tensor(states, dtype=torch.float32)
        actions = torch.as_tensor(actions, dtype=torch.int64).unsqueeze(1)
        rewards = torch.as_tensor(rewards, dtype=torch.float32)
        next_states = torch.as_tensor(next_states, dtype=torch.float32)
        dones = torch.as_tensor(dones, dtype=torch.float32)
        weights = torch.as_tensor(weights, dtype=torch.float32)

        pred = self.model(states).gather(1, actions).squeeze(1)
        with torch.no_grad():
            next_q = self.target_model(next_states).max(1)[0]
            target = rewards + (1 - dones) * self.discount_factor * next_q

        errors = (target - pred).detach().numpy()

        self.optimizer.zero_grad()
        loss = (weights * F.mse_loss(pred, target)).mean()
        loss.backward()
        self.optimizer.step()
        return errors

    def run(self, env, total_steps):
        state, _ = env.reset()
        for step in range(1, total_steps + 1):
            action = self.get_action(state, self.epsilon)
            self.epsilon = max(self.epsilon_min, self.epsilon - self.epsilon_decay)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.append_sample(state, action, reward, next_state, terminated)
            state = next_state
            if len(self.memory) >= self.train_start:
                self.train_model()
            if step % self.target_period == 0:
                self.update_target_model()
            if terminated or truncated:
                state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.discount_factor
        self.observation_size = agent.state_size

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.model(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target_model(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.update_target_model()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.fit(obs, action, reward, next_obs, terminated, np.ones(len(obs), dtype=np.float32))

    def act(self, obs, epsilon):
        return self.agent.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.append_sample(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        batch, _, _ = self.agent.memory.sample(n)
        return tuple(np.array(c) for c in zip(*batch))

    def run(self, env, env_steps):
        self.agent.run(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DQNAgent(4, 2))
