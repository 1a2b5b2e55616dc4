"""Deep Q-Network agent with experience replay."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


class QNetwork(nn.Module):
    def __init__(self, state_size, action_size, hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(state_size, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, action_size)

    def forward(self, state):
        x = torch.relu(self.fc1(state))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


class DQNAgent:
    def __init__(self, state_size, action_size, seed=0):
        self.state_size = state_size
        self.action_size = action_size
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

        self.memory = deque(maxlen=20000)
        self.gamma = 0.99
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.995
        self.learning_rate = 5e-4
        self.batch_size = 64
        self.train_start = 200
        self.update_target_every = 200
        self.steps = 0

        self.model = QNetwork(state_size, action_size)
        self.target_model = QNetwork(state_size, action_size)
        self.update_target_model()
        self.optimizer = optim.Adam(self.model.parameters(), lr=self.learning_rate)
        self.loss_fn = nn.MSELoss()

    def update_target_model(self):
        self.target_model.load_state_dict(self.model.state_dict())

    def remember(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state, epsilon=None):
        epsilon = self.epsilon if epsilon is None else epsilon
        if np.random.rand() <= epsilon:
            return random.randrange(self.action_size)
        with torch.no_grad():
            q = self.model(torch.as_tensor(state, dtype=torch.float32).unsqueeze(0))
        return int(q.argmax(dim=1).item())

    def sample_memory(self, n):
        batch = random.sample(self.memory, n)
        states, actions, rewards, next_states, dones = zip(*batch)
        return (np.array(states, dtype=np.float32), np.array(actions), np.array(rewards, dtype=np.float32),
                np.array(next_states, dtype=np.float32), np.array(dones, dtype=np.float32))

    def learn(self, states, actions, rewards, next_states, dones):
        states = torch.as_tensor(states, dtype=torch.float32)
        actions = torch.as_tensor(actions, dtype=torch.int64).unsqueeze(1)
        rewards = torch.as_tensor(rewards, dtype=torch.float32)
        next_states = torch.as_tensor(next_states, dtype=torch.float32)
        dones = torch.as_tensor(dones, dtype=torch.float32)

        q = self.model(states).gather(1, actions).squeeze(1)
        with torch.no_grad():
            q_next = self.target_model(next_states).max(1)[0]
            target = rewards + self.gamma * q_next * (1 - dones)
        loss = self.loss_fn(q, target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def replay(self):
        if len(self.memory) < self.train_start:
            return None
        return self.learn(*self.sample_memory(self.batch_size))

    def train(self, env, max_steps):
        state, _ = env.reset()
        for _ in range(max_steps):
            action = self.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            state = next_state
            self.remember(state, action, reward, next_state, terminated)
            self.replay()
            self.steps += 1
            if self.steps % self.update_target_every == 0:
                self.update_target_model()
            if done:
                state, _ = env.reset()
                self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_size

    def _q(self, net, obs):
        with torch.no_grad():
            return net(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def q_values(self, obs):
        return self._q(self.agent.model, obs)

    def target_q_values(self, obs):
        return self._q(self.agent.target_model, obs)

    def sync_target(self):
        self.agent.update_target_model()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample_memory(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DQNAgent(state_size=4, action_size=2, seed=seed))
