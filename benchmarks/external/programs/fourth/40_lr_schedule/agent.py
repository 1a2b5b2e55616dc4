"""DQN with a learning-rate schedule."""
import argparse
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ExponentialLR


def get_config(argv=()):
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--lr-decay", type=float, default=0.99)
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--buffer-size", type=int, default=50000)
    parser.add_argument("--min-buffer", type=int, default=500)
    parser.add_argument("--eps-start", type=float, default=0.5)
    parser.add_argument("--eps-end", type=float, default=0.01)
    parser.add_argument("--eps-decay-steps", type=int, default=5000)
    parser.add_argument("--target-update", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(argv))


def mlp(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        if i < len(sizes) - 2:
            layers.append(nn.Tanh())
    return nn.Sequential(*layers)


class Learner:
    def __init__(self, obs_dim, act_dim, cfg):
        self.cfg = cfg
        self.obs_dim = obs_dim
        self.act_dim = act_dim
        self.net = mlp([obs_dim, cfg.hidden, cfg.hidden, act_dim])
        self.target = mlp([obs_dim, cfg.hidden, cfg.hidden, act_dim])
        self.target.load_state_dict(self.net.state_dict())
        self.opt = torch.optim.Adam(self.net.parameters(), lr=cfg.lr)
        self.scheduler = ExponentialLR(self.opt, gamma=cfg.lr_decay)
        self.loss_fn = nn.HuberLoss()
        self.buffer = deque(maxlen=cfg.buffer_size)
        self.updates = 0

    def epsilon(self, step):
        frac = min(1.0, step / self.cfg.eps_decay_steps)
        return self.cfg.eps_start + frac * (self.cfg.eps_end - self.cfg.eps_start)

    @torch.no_grad()
    def act(self, obs, eps):
        if random.random() < eps:
            return random.randrange(self.act_dim)
        return self.net(torch.as_tensor(obs, dtype=torch.float32)).argmax().item()

    def sample(self, n):
        return [np.asarray(c) for c in zip(*random.sample(self.buffer, n))]

    def update(self, obs, act, rew, next_obs, done):
        obs = torch.as_tensor(obs, dtype=torch.float32)
        act = torch.as_tensor(act, dtype=torch.long).view(-1, 1)
        rew = torch.as_tensor(rew, dtype=torch.float32).view(-1, 1)
        next_obs = torch.as_tensor(next_obs, dtype=torch.float32)
        done = torch.as_tensor(done, dtype=torch.float32).view(-1, 1)

        q = self.net(obs).gather(1, act)
        with torch.no_grad():
            next_q = self.target(next_obs).max(dim=1, keepdim=True).values
            target = rew + self.cfg.gamma * next_q * (1.0 - done)
        loss = self.loss_fn(q, target)

        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        self.scheduler.step()

        self.updates += 1
        if self.updates % self.cfg.target_update == 0:
            self.sync()
        return loss.item()

    def sync(self):
        self.target.load_state_dict(self.net.state_dict())


def train(learner, env, max_steps=None):
    cfg = learner.cfg
    step = 0
    history = []
    for episode in range(cfg.episodes if max_steps is None else 10**9):
        obs, _ = env.reset()
        done = False
        ret = 0.0
        while not done:
            action = learner.act(obs, learner.epsilon(step))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            learner.buffer.append((obs, action, reward, next_obs, terminated))
            obs = next_obs
            ret += reward
            done = terminated or truncated
            step += 1
            if len(learner.buffer) >= cfg.min_buffer:
                learner.update(*learner.sample(cfg.batch_size))
            if max_steps is not None and step >= max_steps:
                return history
        history.append(ret)
        if episode % 20 == 0 and max_steps is None:
            lr = learner.scheduler.get_last_lr()[0]
            print(f"episode {episode} return {np.mean(history[-20:]):.1f} lr {lr:.2e}")
    return history


class Adapter:
    def __init__(self, learner):
        self.learner = learner
        self.gamma = learner.cfg.gamma
        self.observation_size = learner.obs_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.learner.net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.learner.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.learner.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.learner.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.buffer.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return tuple(self.learner.sample(n))

    def run(self, env, env_steps):
        train(self.learner, env, max_steps=env_steps)


def make(seed=0):
    cfg = get_config(["--seed", str(seed)])
    random.seed(cfg.seed)
    np.random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    return Adapter(Learner(4, 2, cfg))
