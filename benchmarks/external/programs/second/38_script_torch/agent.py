import random
from collections import deque
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

GAMMA = 0.99
LEARNING_RATE = 5e-4
MEMORY_SIZE = 10_000
LEARNING_STARTS = 20_000
BATCH_SIZE = 64
TRAIN_FREQ = 1
SYNC_FREQ = 500
EXPLORATION_STEPS = 5000
FINAL_EPS = 0.02


class QNet(nn.Module):
    def __init__(self, n_obs, n_actions):
        super().__init__()
        self.l1 = nn.Linear(n_obs, 128)
        self.l2 = nn.Linear(128, n_actions)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))


def build(seed, n_obs=4, n_actions=2):
    random.seed(seed)
    torch.manual_seed(seed)
    v = SimpleNamespace(n_obs=n_obs, n_actions=n_actions, step=0)
    v.q, v.q_hat = QNet(n_obs, n_actions), QNet(n_obs, n_actions)
    v.q_hat.load_state_dict(v.q.state_dict())
    v.opt = torch.optim.Adam(v.q.parameters(), lr=LEARNING_RATE)
    v.memory = deque(maxlen=MEMORY_SIZE)
    return v


def epsilon(step):
    return max(FINAL_EPS, 1 - (1 - FINAL_EPS) * step / EXPLORATION_STEPS)


def choose(v, obs, eps):
    if random.random() < eps:
        return random.randrange(v.n_actions)
    with torch.no_grad():
        return v.q(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).argmax().item()


def draw(v, n):
    return [np.array(column) for column in zip(*random.sample(v.memory, n))]


def gradient_step(v, obs, action, reward, next_obs, terminated):
    obs, reward, next_obs = (torch.as_tensor(x, dtype=torch.float32) for x in (obs, reward, next_obs))
    action = torch.as_tensor(action, dtype=torch.int64)
    terminated = torch.as_tensor(terminated, dtype=torch.bool)
    with torch.no_grad():
        bootstrap = v.q_hat(next_obs).amax(dim=1).masked_fill(terminated, 0.0)
    prediction = v.q(obs)[range(len(action)), action]
    loss = F.mse_loss(prediction, reward + GAMMA * bootstrap)
    v.opt.zero_grad()
    loss.backward()
    v.opt.step()
    return loss.item()


def synchronize(v):
    v.q_hat.load_state_dict(v.q.state_dict())


def train(v, env, steps):
    obs, _ = env.reset()
    for _ in range(steps):
        action = choose(v, obs, epsilon(v.step))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        v.memory.append((obs, action, float(reward), next_obs, bool(terminated)))
        v.step += 1
        obs = env.reset()[0] if terminated or truncated else next_obs
        if len(v.memory) < LEARNING_STARTS:
            continue
        if v.step % TRAIN_FREQ == 0:
            gradient_step(v, *draw(v, BATCH_SIZE))
        if v.step % SYNC_FREQ == 0:
            synchronize(v)


class Adapter:
    gamma = GAMMA

    def __init__(self, v):
        self.v = v
        self.observation_size = v.n_obs

    @torch.no_grad()
    def q_values(self, obs):
        return self.v.q(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.v.q_hat(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        synchronize(self.v)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        gradient_step(self.v, obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return choose(self.v, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.v.memory.append((obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated)))

    def sample(self, n):
        return draw(self.v, n)

    def run(self, env, env_steps):
        train(self.v, env, env_steps)


def make(seed=0):
    return Adapter(build(seed))
