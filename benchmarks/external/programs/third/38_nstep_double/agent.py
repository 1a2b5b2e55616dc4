"""N-step Double DQN."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class NStepBuffer:
    def __init__(self, capacity, n_step, gamma):
        self.storage = deque(maxlen=capacity)
        self.n_step, self.gamma = n_step, gamma
        self.window = deque()

    def _emit(self):
        ret = 0.0
        for transition in reversed(self.window):
            ret = transition[2] + self.gamma * ret
        obs, action = self.window[0][:2]
        next_obs, done = self.window[-1][3:]
        self.storage.append((obs, action, ret, next_obs, done))
        self.window.popleft()

    def add(self, obs, action, reward, next_obs, terminated, truncated):
        self.window.append((obs, action, reward, next_obs, terminated))
        if terminated:
            while self.window:
                self._emit()
        elif len(self.window) == self.n_step:
            self._emit()
        if truncated:
            self.window.clear()

    def sample(self, batch_size):
        obs, action, ret, next_obs, done = zip(*random.sample(self.storage, batch_size))
        return (np.asarray(obs, np.float32), np.asarray(action), np.asarray(ret, np.float32),
                np.asarray(next_obs, np.float32), np.asarray(done, np.float32))

    def __len__(self):
        return len(self.storage)


class Net(nn.Module):
    def __init__(self, obs_dim, act_dim):
        super().__init__()
        self.l1 = nn.Linear(obs_dim, 128)
        self.l2 = nn.Linear(128, 128)
        self.out = nn.Linear(128, act_dim)

    def forward(self, x):
        return self.out(F.relu(self.l2(F.relu(self.l1(x)))))


class NStepDoubleDQN:
    def __init__(self, obs_dim, act_dim, n_step=3, gamma=0.9, lr=5e-4, tau=0.01):
        self.obs_dim, self.act_dim = obs_dim, act_dim
        self.n_step, self.gamma, self.tau = n_step, gamma, tau
        self.q = Net(obs_dim, act_dim)
        self.q_target = Net(obs_dim, act_dim)
        self.q_target.load_state_dict(self.q.state_dict())
        self.optim = torch.optim.Adam(self.q.parameters(), lr=lr)
        self.buffer = NStepBuffer(20000, n_step, gamma)
        self.total_steps = 0

    def select_action(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.act_dim)
        with torch.no_grad():
            return int(self.q(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)).argmax(1).item())

    def update(self, obs, action, reward, next_obs, done):
        obs = torch.as_tensor(obs, dtype=torch.float32)
        action = torch.as_tensor(action, dtype=torch.int64)
        reward = torch.as_tensor(reward, dtype=torch.float32)
        next_obs = torch.as_tensor(next_obs, dtype=torch.float32)
        done = torch.as_tensor(done, dtype=torch.float32)

        with torch.no_grad():
            next_action = self.q_target(next_obs).argmax(dim=1, keepdim=True)
            next_value = self.q(next_obs).gather(1, next_action).squeeze(1)
            target = reward + self.gamma * (1.0 - done) * next_value
        value = self.q(obs).gather(1, action.unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(value, target)
        self.optim.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q.parameters(), 10)
        self.optim.step()
        return loss.item()

    def soft_update(self):
        with torch.no_grad():
            for p, tp in zip(self.q.parameters(), self.q_target.parameters()):
                tp.lerp_(p, self.tau)

    def train(self, env, steps, batch_size=64):
        obs, _ = env.reset()
        for _ in range(steps):
            self.total_steps += 1
            eps = max(0.05, 1.0 - self.total_steps / 4000)
            action = self.select_action(obs, eps)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.buffer.add(obs, action, reward, next_obs, terminated, truncated)
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()
            if len(self.buffer) > 200:
                self.update(*self.buffer.sample(batch_size))
                self.soft_update()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.n_step = agent.n_step
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        return self.agent.q(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).detach().numpy()

    def target_q_values(self, obs):
        return self.agent.q_target(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).detach().numpy()

    def sync_target(self):
        self.agent.soft_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(NStepDoubleDQN(4, 2))
