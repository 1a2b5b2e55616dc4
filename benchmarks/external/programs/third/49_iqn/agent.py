"""Implicit quantile networks (Dabney et al., 2018)."""
import math
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class IQN(nn.Module):
    def __init__(self, state_size, action_size, layer_size=64, n_cos=32, k=32):
        super().__init__()
        self.state_size, self.action_size = state_size, action_size
        self.register_buffer("pis", math.pi * torch.arange(1, n_cos + 1).view(1, 1, n_cos))
        self.register_buffer("eval_taus", ((torch.arange(k) + 0.5) / k).view(1, k))
        self.head = nn.Linear(state_size, layer_size)
        self.cos_embedding = nn.Linear(n_cos, layer_size)
        self.ff_1 = nn.Linear(layer_size, layer_size)
        self.ff_2 = nn.Linear(layer_size, action_size)

    def forward(self, state, taus):
        """Quantiles of shape (batch, taus, actions)."""
        x = F.relu(self.head(state)).unsqueeze(1)
        cos_x = F.relu(self.cos_embedding(torch.cos(taus.unsqueeze(2) * self.pis)))
        x = F.relu(self.ff_1(x * cos_x))
        return self.ff_2(x)

    def get_qvals(self, state):
        return self.forward(state, self.eval_taus.expand(len(state), -1)).mean(dim=1)


class IQNAgent:
    def __init__(self, state_size, action_size, n=8, gamma=0.98, lr=1e-3, tau=5e-3, batch_size=32):
        self.n, self.gamma, self.tau, self.batch_size = n, gamma, tau, batch_size
        self.action_size = action_size
        self.qnetwork_local = IQN(state_size, action_size)
        self.qnetwork_target = IQN(state_size, action_size)
        self.qnetwork_target.load_state_dict(self.qnetwork_local.state_dict())
        self.optimizer = torch.optim.Adam(self.qnetwork_local.parameters(), lr=lr)
        self.memory = deque(maxlen=20000)
        self.t_step = 0

    def act(self, state, eps):
        if random.random() > eps:
            with torch.no_grad():
                return int(self.qnetwork_local.get_qvals(torch.as_tensor(state, dtype=torch.float32)[None]).argmax())
        return random.randrange(self.action_size)

    def add(self, state, action, reward, next_state, done):
        self.memory.append((np.array(state, dtype=np.float32), action, reward, np.array(next_state, dtype=np.float32),
                            done))

    def sample(self, n):
        return tuple(np.array(x) for x in zip(*random.sample(self.memory, k=n)))

    def learn(self, states, actions, rewards, next_states, dones):
        states = torch.as_tensor(np.asarray(states), dtype=torch.float32)
        actions = torch.as_tensor(np.asarray(actions), dtype=torch.int64)
        rewards = torch.as_tensor(np.asarray(rewards), dtype=torch.float32)
        next_states = torch.as_tensor(np.asarray(next_states), dtype=torch.float32)
        dones = torch.as_tensor(np.asarray(dones), dtype=torch.float32)
        batch = len(actions)

        with torch.no_grad():
            next_actions = self.qnetwork_target.get_qvals(next_states).argmax(dim=1)
            next_z = self.qnetwork_target(next_states, torch.rand(batch, self.n))
            next_z = next_z[torch.arange(batch), :, next_actions]
            targets = rewards[:, None] + self.gamma * next_z * (1 - dones[:, None])

        taus = torch.rand(batch, self.n)
        expected = self.qnetwork_local(states, taus)[torch.arange(batch), :, actions]

        td_error = targets[:, None, :] - expected[:, :, None]
        huber_l = F.huber_loss(expected[:, :, None].expand_as(td_error), targets[:, None, :].expand_as(td_error),
                               reduction="none")
        quantile_l = (taus[:, :, None] - (td_error.detach() < 0).float()).abs() * huber_l
        loss = quantile_l.sum(dim=1).mean(dim=1).mean()

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def soft_update(self):
        for target_param, local_param in zip(self.qnetwork_target.parameters(), self.qnetwork_local.parameters()):
            target_param.data.copy_(self.tau * local_param.data + (1.0 - self.tau) * target_param.data)

    def train(self, env, frames):
        state, _ = env.reset()
        for _ in range(frames):
            action = self.act(state, max(0.02, 1 - self.t_step / 2500))
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.add(state, action, reward, next_state, terminated)
            self.t_step += 1
            if len(self.memory) > 5 * self.batch_size:
                self.learn(*self.sample(self.batch_size))
                self.soft_update()
            state = next_state
            if terminated or truncated:
                state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.qnetwork_local.state_size

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.qnetwork_local.get_qvals(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.qnetwork_target.get_qvals(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.soft_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(IQNAgent(4, 2))
