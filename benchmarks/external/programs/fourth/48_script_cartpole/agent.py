# DQN, everything in one script; train() is what used to be below `env = gym.make(...)`
import random
from collections import deque

import numpy as np
import torch
from torch import nn

N_OBS, N_ACT = 4, 2
GAMMA = 0.99
LR = 1e-3
MEMORY_SIZE = 10_000
BATCH_SIZE = 64
MIN_MEMORY = 200
SYNC_STEPS = 200
EPS_MIN, EPS_DECAY = 0.05, 0.999
MAX_GRAD_NORM = 1.0


def make_net():
    return nn.Sequential(nn.Linear(N_OBS, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, N_ACT))


class State:
    """All that the script had as globals."""


def setup(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    g = State()
    g.net = make_net()
    g.target = make_net()
    g.target.load_state_dict(g.net.state_dict())
    g.opt = torch.optim.Adam(g.net.parameters(), lr=LR)
    g.memory = deque(maxlen=MEMORY_SIZE)
    g.eps = 1.0
    return g


def pick_action(g, obs, eps):
    if np.random.rand() < eps:
        return int(np.random.randint(0, N_ACT - 1))
    with torch.no_grad():
        return int(g.net(torch.tensor(obs, dtype=torch.float32)).argmax())


def optimize(g, batch):
    obs, act, rew, nxt, term = batch
    obs = torch.tensor(obs, dtype=torch.float32)
    act = torch.tensor(act, dtype=torch.int64)
    rew = torch.tensor(rew, dtype=torch.float32)
    nxt = torch.tensor(nxt, dtype=torch.float32)
    term = torch.tensor(term, dtype=torch.bool)

    q = g.net(obs)[torch.arange(len(act)), act]
    with torch.no_grad():
        nq = g.target(nxt).max(1).values
        nq = nq.masked_fill(term, 0.0)
    loss = nn.functional.mse_loss(q, rew + GAMMA * nq)

    g.opt.zero_grad()
    nn.utils.clip_grad_norm_(g.net.parameters(), MAX_GRAD_NORM)
    loss.backward()
    g.opt.step()


def draw(g, n):
    rows = random.sample(g.memory, n)
    return [np.array(col) for col in zip(*rows)]


def train(g, env, total_steps):
    lengths, length = [], 0
    obs, _ = env.reset()
    for step in range(1, total_steps + 1):
        act = pick_action(g, obs, g.eps)
        nxt, rew, term, trunc, _ = env.step(act)
        g.memory.append((obs, act, rew, nxt, term))
        length += 1

        if len(g.memory) >= MIN_MEMORY:
            optimize(g, draw(g, BATCH_SIZE))
            g.eps = max(EPS_MIN, g.eps * EPS_DECAY)
        if step % SYNC_STEPS == 0:
            g.target.load_state_dict(g.net.state_dict())

        if term or trunc:
            env.reset()
            lengths.append(length)
            length = 0
        obs = nxt
    return lengths


class Adapter:
    gamma = GAMMA
    observation_size = N_OBS

    def __init__(self, g):
        self.g = g

    def q_values(self, obs):
        with torch.no_grad():
            return self.g.net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.g.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.g.target.load_state_dict(self.g.net.state_dict())

    def train_batch(self, obs, action, reward, next_obs, terminated):
        optimize(self.g, (obs, action, reward, next_obs, terminated))

    def act(self, obs, epsilon):
        return pick_action(self.g, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.g.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return tuple(draw(self.g, n))

    def run(self, env, env_steps):
        train(self.g, env, env_steps)


def make(seed=0):
    return Adapter(setup(seed))
