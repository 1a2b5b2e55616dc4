import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class MLP(nn.Module):
    def __init__(self, state_dim, action_dim, hidden_dim=128):
        super().__init__()
        self.fc_in = nn.Linear(state_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, action_dim)

    def forward(self, x):
        x = F.relu(self.fc_in(x))
        x = F.relu(self.fc2(x))
        return self.out(x)


class DeepQ:
    def __init__(self, state_dim, action_dim, seed=0):
        random.seed(seed)
        torch.manual_seed(seed)
        self.state_dim = state_dim
        self.action_dim = action_dim
        self.memory = deque(maxlen=20000)
        self.gamma = 0.99
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.98
        self.batch_size = 64
        self.update_target_every = 300
        self.model = MLP(state_dim, action_dim)
        self.target_model = MLP(state_dim, action_dim)
        self.optimizer = optim.Adam(self.model.parameters(), lr=5e-4)
        self.steps = 0
        self.update_target_model()

    def update_target_model(self):
        self.target_model.load_state_dict(self.model.state_dict())

    def remember(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        if random.random() < self.epsilon:
            return random.randrange(self.action_dim)
        state = torch.as_tensor(np.asarray(state), dtype=torch.float32).unsqueeze(0)
        with torch.no_grad():
            q_values = self.model(state)
        return q_values.argmax(dim=1).item()

    def sample(self, batch_size):
        batch = random.choices(self.memory, k=batch_size)
        states, actions, rewards, next_states, dones = map(np.array, zip(*batch))
        return states, actions, rewards, next_states, dones

    def learn(self, states, actions, rewards, next_states, dones):
        states = torch.as_tensor(states, dtype=torch.float32)
        actions = torch.as_tensor(actions, dtype=torch.int64).unsqueeze(1)
        rewards = torch.as_tensor(rewards, dtype=torch.float32).unsqueeze(1)
        next_states = torch.as_tensor(next_states, dtype=torch.float32)
        dones = torch.as_tensor(dones, dtype=torch.float32).unsqueeze(1)

        with torch.no_grad():
            q_values = self.model(states).gather(1, actions)
            next_q_values = self.target_model(next_states).max(1, keepdim=True)[0]
            targets = rewards + self.gamma * next_q_values * (1 - dones)
        loss = F.smooth_l1_loss(q_values, targets)

        self.optimizer.zero_grad()
        loss.requires_grad_(True)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def replay(self):
        if len(self.memory) < self.batch_size:
            return
        self.learn(*self.sample(self.batch_size))
        self.steps += 1
        if self.steps % self.update_target_every == 0:
            self.update_target_model()

    def train(self, env, max_steps):
        scores = []
        state, _ = env.reset()
        score = 0
        for _ in range(max_steps):
            action = self.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.remember(state, action, reward, next_state, terminated)
            self.replay()
            score += reward
            state = next_state
            if terminated or truncated:
                scores.append(score)
                score = 0
                self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)
                state, _ = env.reset()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.model(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target_model(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.update_target_model()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        self.agent.epsilon = epsilon
        return self.agent.act(obs)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DeepQ(4, 2, seed=seed))
