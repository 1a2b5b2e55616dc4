"""Categorical DQN (C51) on small control tasks."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class CategoricalNet(nn.Module):
    def __init__(self, num_inputs, num_actions, num_atoms, v_min, v_max):
        super().__init__()
        self.num_actions, self.num_atoms = num_actions, num_atoms
        self.register_buffer("support", torch.linspace(v_min, v_max, num_atoms))
        self.features = nn.Sequential(nn.Linear(num_inputs, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.head = nn.Linear(128, num_actions * num_atoms)

    def logits(self, x):
        return self.head(self.features(x)).view(-1, self.num_actions, self.num_atoms)

    def dist(self, x):
        return F.softmax(self.logits(x), dim=2)

    def forward(self, x):
        return (self.dist(x) * self.support).sum(2)


class C51Agent:
    def __init__(self, num_inputs, num_actions, num_atoms=51, v_min=-25.0, v_max=25.0, gamma=0.95, lr=1e-3):
        self.num_inputs, self.num_actions = num_inputs, num_actions
        self.num_atoms, self.v_min, self.v_max = num_atoms, v_min, v_max
        self.delta_z = (v_max - v_min) / (num_atoms - 1)
        self.gamma = gamma
        self.current_model = CategoricalNet(num_inputs, num_actions, num_atoms, v_min, v_max)
        self.target_model = CategoricalNet(num_inputs, num_actions, num_atoms, v_min, v_max)
        self.update_target()
        self.optimizer = torch.optim.Adam(self.current_model.parameters(), lr=lr)
        self.replay_buffer = deque(maxlen=10000)
        self.frame_idx = 0

    def update_target(self):
        self.target_model.load_state_dict(self.current_model.state_dict())

    def act(self, state, epsilon):
        if random.random() > epsilon:
            with torch.no_grad():
                return self.current_model(torch.as_tensor(state, dtype=torch.float32).unsqueeze(0)).max(1)[1].item()
        return random.randrange(self.num_actions)

    @torch.no_grad()
    def projection_distribution(self, next_state, rewards, dones):
        batch_size = next_state.size(0)
        support = self.target_model.support
        next_dist = self.target_model.dist(next_state)
        next_action = (next_dist * support).sum(2).max(1)[1]
        next_dist = next_dist[torch.arange(batch_size), next_action]

        rewards = rewards.unsqueeze(1).expand_as(next_dist)
        dones = dones.unsqueeze(1).expand_as(next_dist)
        Tz = rewards + (1 - dones) * self.gamma * support
        Tz = Tz.clamp(min=self.v_min, max=self.v_max)
        b = (Tz - self.v_min) / self.delta_z
        l = b.floor().long()
        u = b.ceil().long()

        offset = (torch.arange(batch_size) * self.num_atoms).unsqueeze(1).expand(batch_size, self.num_atoms)
        proj_dist = torch.zeros(next_dist.size())
        proj_dist.view(-1).index_add_(0, (l + offset).view(-1), (next_dist * (u.float() - b)).view(-1))
        proj_dist.view(-1).index_add_(0, (u + offset).view(-1), (next_dist * (b - l.float())).view(-1))
        return proj_dist

    def compute_td_loss(self, state, action, reward, next_state, done):
        state = torch.as_tensor(np.asarray(state), dtype=torch.float32)
        next_state = torch.as_tensor(np.asarray(next_state), dtype=torch.float32)
        action = torch.as_tensor(np.asarray(action), dtype=torch.long)
        reward = torch.as_tensor(np.asarray(reward), dtype=torch.float32)
        done = torch.as_tensor(np.asarray(done), dtype=torch.float32)

        proj_dist = self.projection_distribution(next_state, reward, done)
        log_p = F.log_softmax(self.current_model.logits(state), dim=2)[torch.arange(len(action)), action]
        loss = -(proj_dist * log_p).sum(1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def push(self, state, action, reward, next_state, done):
        self.replay_buffer.append((np.asarray(state, np.float32), action, reward, np.asarray(next_state, np.float32), done))

    def sample(self, batch_size):
        return tuple(np.array(x) for x in zip(*random.sample(self.replay_buffer, batch_size)))

    def train(self, env, num_frames, batch_size=64):
        state, _ = env.reset()
        for _ in range(num_frames):
            self.frame_idx += 1
            action = self.act(state, 0.02 + 0.98 * np.exp(-self.frame_idx / 1500))
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.push(state, action, reward, next_state, terminated)
            state = next_state
            if terminated or truncated:
                state, _ = env.reset()
            if len(self.replay_buffer) > 200:
                self.compute_td_loss(*self.sample(batch_size))
            if self.frame_idx % 200 == 0:
                self.update_target()


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.num_inputs

    def q_values(self, obs):
        return self.agent.current_model(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).detach().numpy()

    def target_q_values(self, obs):
        return self.agent.target_model(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).detach().numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.compute_td_loss(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return int(self.agent.act(obs, epsilon))

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(C51Agent(4, 2))
