import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn


class QRNet(nn.Module):
    def __init__(self, num_inputs, num_actions, num_quants):
        super(QRNet, self).__init__()
        self.num_inputs = num_inputs
        self.num_actions = num_actions
        self.num_quants = num_quants
        self.features = nn.Sequential(
            nn.Linear(num_inputs, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, self.num_actions * self.num_quants)
        )

    def forward(self, x):
        x = self.features(x)
        return x.view(x.size(0), self.num_actions, self.num_quants)

    def q_values(self, x):
        return self.forward(x).mean(2)

    def act(self, state, epsilon):
        if random.random() > epsilon:
            state = torch.as_tensor(np.array(state), dtype=torch.float32).unsqueeze(0)
            with torch.no_grad():
                action = self.q_values(state).max(1)[1].item()
        else:
            action = random.randrange(self.num_actions)
        return action


class ReplayBuffer:
    def __init__(self, capacity):
        self.buffer = deque(maxlen=capacity)

    def push(self, state, action, reward, next_state, done):
        self.buffer.append((np.asarray(state), action, reward, np.asarray(next_state), done))

    def sample(self, batch_size):
        state, action, reward, next_state, done = zip(*random.sample(self.buffer, batch_size))
        return np.stack(state), np.array(action), np.array(reward), np.stack(next_state), np.array(done)

    def __len__(self):
        return len(self.buffer)


class QRDQNLearner:
    def __init__(self, num_inputs, num_actions, num_quant=21, gamma=0.95, lr=1e-3):
        self.gamma = gamma
        self.num_quant = num_quant
        self.current_model = QRNet(num_inputs, num_actions, num_quant)
        self.target_model = QRNet(num_inputs, num_actions, num_quant)
        self.optimizer = torch.optim.Adam(self.current_model.parameters(), lr=lr)
        self.replay_buffer = ReplayBuffer(10000)
        self.tau = (2 * torch.arange(num_quant, dtype=torch.float32) + 1) / (2.0 * num_quant)
        self.frame_idx = 0
        self.update_target()

    def update_target(self):
        self.target_model.load_state_dict(self.current_model.state_dict())

    def huber(self, x, k=1.0):
        return torch.where(x.abs() < k, 0.5 * x.pow(2), k * (x.abs() - 0.5 * k))

    def compute_td_loss(self, state, action, reward, next_state, done):
        state = torch.as_tensor(np.float32(state))
        next_state = torch.as_tensor(np.float32(next_state))
        action = torch.as_tensor(np.int64(action))
        reward = torch.as_tensor(np.float32(reward)).unsqueeze(1)
        done = torch.as_tensor(np.float32(done)).unsqueeze(1)
        index = torch.arange(state.size(0))

        theta = self.current_model(state)[index, action]
        with torch.no_grad():
            znext = self.target_model(next_state)
            anext = znext.mean(2).max(1)[1]
            ttheta = reward + self.gamma * (1 - done) * znext[index, anext]

        # (batch, current quantile, target quantile)
        diff = ttheta.unsqueeze(1) - theta.unsqueeze(2)
        loss = self.huber(diff) * (self.tau - (diff.detach() < 0).float()).abs()
        loss = loss.mean(2).sum(1).mean()

        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.current_model.parameters(), 10)
        self.optimizer.step()
        return loss.item()

    def train(self, env, num_frames, batch_size=32):
        state, _ = env.reset()
        for _ in range(num_frames):
            self.frame_idx += 1
            epsilon = 0.01 + 0.99 * np.exp(-self.frame_idx / 1000.0)
            action = self.current_model.act(state, epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.replay_buffer.push(state, action, reward, next_state, terminated)
            state = next_state
            if terminated or truncated:
                state, _ = env.reset()
            if len(self.replay_buffer) > 5 * batch_size:
                self.compute_td_loss(*self.replay_buffer.sample(batch_size))
            if self.frame_idx % 200 == 0:
                self.update_target()


class Adapter:
    def __init__(self, learner):
        self.learner = learner
        self.gamma = learner.gamma
        self.observation_size = learner.current_model.num_inputs

    def q_values(self, obs):
        return self.learner.current_model.q_values(torch.as_tensor(np.float32(obs))).detach().numpy()

    def target_q_values(self, obs):
        return self.learner.target_model.q_values(torch.as_tensor(np.float32(obs))).detach().numpy()

    def sync_target(self):
        self.learner.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.compute_td_loss(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.learner.current_model.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.replay_buffer.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.learner.replay_buffer.sample(n)

    def run(self, env, env_steps):
        self.learner.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(QRDQNLearner(4, 2))
