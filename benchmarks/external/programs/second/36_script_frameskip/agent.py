import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn

N_OBS, N_ACTIONS = 4, 2
FRAME_SKIP = 2
GAMMA = 0.98
LR = 1e-3
BATCH_SIZE = 32
EPS_STEPS = 2500
TARGET_UPDATE = 150


class State:
    pass


def init(seed):
    s = State()
    torch.manual_seed(seed)
    s.rng = random.Random(seed)
    s.policy = nn.Sequential(nn.Linear(N_OBS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, N_ACTIONS))
    s.target = nn.Sequential(nn.Linear(N_OBS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, N_ACTIONS))
    s.target.load_state_dict(s.policy.state_dict())
    s.optimizer = torch.optim.Adam(s.policy.parameters(), lr=LR)
    s.memory = deque(maxlen=10_000)
    s.decisions = 0
    return s


def select_action(s, obs, eps):
    if s.rng.random() < eps:
        return s.rng.randrange(N_ACTIONS)
    with torch.no_grad():
        return s.policy(torch.tensor(obs, dtype=torch.float32)).argmax().item()


def optimize(s, obs, action, reward, next_obs, terminated):
    obs = torch.as_tensor(obs, dtype=torch.float32)
    action = torch.as_tensor(action, dtype=torch.long)
    reward = torch.as_tensor(reward, dtype=torch.float32)
    next_obs = torch.as_tensor(next_obs, dtype=torch.float32)
    alive = 1.0 - torch.as_tensor(terminated, dtype=torch.float32)
    value = s.policy(obs).gather(1, action.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        expected = reward + GAMMA * alive * s.target(next_obs).max(dim=1).values
    loss = nn.functional.smooth_l1_loss(value, expected)
    s.optimizer.zero_grad()
    loss.backward()
    for p in s.policy.parameters():
        p.grad.clamp_(-1, 1)
    s.optimizer.step()


def minibatch(s, n):
    return [np.array(c) for c in zip(*s.rng.sample(s.memory, n))]


def sync(s):
    s.target.load_state_dict(s.policy.state_dict())


def main(s, env, num_frames):
    frames = 0
    obs, _ = env.reset()
    while frames < num_frames:
        eps = max(0.05, 1 - s.decisions / EPS_STEPS)
        action = select_action(s, obs, eps)
        for _ in range(FRAME_SKIP):
            next_obs, reward, terminated, truncated, _ = env.step(action)
            frames += 1
            if terminated or truncated or frames == num_frames:
                break
        s.memory.append((obs, action, float(reward), next_obs, bool(terminated)))
        s.decisions += 1
        if len(s.memory) >= 64:
            optimize(s, *minibatch(s, BATCH_SIZE))
        if s.decisions % TARGET_UPDATE == 0:
            sync(s)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()


class Adapter:
    gamma = GAMMA
    observation_size = N_OBS

    def __init__(self, s):
        self.s = s

    @torch.no_grad()
    def q_values(self, obs):
        return self.s.policy(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.s.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        sync(self.s)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        optimize(self.s, obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return select_action(self.s, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.s.memory.append((obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated)))

    def sample(self, n):
        return minibatch(self.s, n)

    def run(self, env, env_steps):
        main(self.s, env, env_steps)


def make(seed=0):
    return Adapter(init(seed))
