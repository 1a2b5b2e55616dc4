"""DQN with proportional prioritised replay, single file. Usage: python train.py --seed 3"""
import argparse
import random
import time
from dataclasses import dataclass, asdict

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn


@dataclass
class Args:
    seed: int = 0
    env_id: str = "LunarLander-v3"
    total_timesteps: int = 300_000
    learning_rate: float = 2.5e-4
    buffer_size: int = 65_536
    gamma: float = 0.99
    batch_size: int = 64
    learning_starts: int = 5_000
    train_frequency: int = 2
    target_frequency: int = 1_000
    start_e: float = 1.0
    end_e: float = 0.02
    exploration_steps: int = 60_000
    alpha: float = 0.6
    beta0: float = 0.4
    priority_eps: float = 1e-3
    reward_scale: float = 0.05


class SumTree:
    def __init__(self, capacity):
        assert capacity & (capacity - 1) == 0, "capacity must be a power of two"
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity)

    def set(self, i, value):
        i += self.capacity
        self.tree[i] = value
        i //= 2
        while i >= 1:
            self.tree[i] = self.tree[2 * i] + self.tree[2 * i + 1]
            i //= 2

    def total(self):
        return self.tree[1]

    def find(self, mass):
        i = 1
        while i < self.capacity:
            left = self.tree[2 * i]
            if mass < left or self.tree[2 * i + 1] == 0.0:
                i = 2 * i
            else:
                mass -= left
                i = 2 * i + 1
        return i - self.capacity


class PrioritizedBuffer:
    def __init__(self, capacity, obs_dim, alpha):
        self.data = dict(
            s=np.zeros((capacity, obs_dim), np.float32), a=np.zeros(capacity, np.int64),
            r=np.zeros(capacity, np.float32), s2=np.zeros((capacity, obs_dim), np.float32),
            term=np.zeros(capacity, np.float32))
        self.tree, self.alpha, self.capacity = SumTree(capacity), alpha, capacity
        self.head, self.filled, self.max_priority = 0, 0, 1.0

    def add(self, **kw):
        for k, v in kw.items():
            self.data[k][self.head] = v
        self.tree.set(self.head, self.max_priority ** self.alpha)
        self.head = (self.head + 1) % self.capacity
        self.filled = min(self.filled + 1, self.capacity)

    def sample(self, n, beta):
        total = self.tree.total()
        masses = (np.arange(n) + np.random.rand(n)) * total / n
        idx = np.array([self.tree.find(m) for m in masses])
        probs = self.tree.tree[idx + self.capacity] / total
        weights = (self.filled * probs) ** (-beta)
        weights /= weights.max()
        batch = {k: torch.as_tensor(v[idx]) for k, v in self.data.items()}
        return idx, batch, torch.as_tensor(weights, dtype=torch.float32)

    def reprioritise(self, idx, priorities):
        for i, p in zip(idx, priorities):
            self.tree.set(int(i), float(p) ** self.alpha)
            self.max_priority = max(self.max_priority, float(p))


def mlp(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, n_out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for key, value in asdict(Args()).items():
        parser.add_argument("--" + key.replace("_", "-"), type=type(value), default=value)
    args = Args(**vars(parser.parse_args()))
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = gym.make(args.env_id)
    env.action_space.seed(args.seed)
    dim, n_act = env.observation_space.shape[0], int(env.action_space.n)
    q, q_target = mlp(dim, n_act), mlp(dim, n_act)
    q_target.load_state_dict(q.state_dict())
    optimizer = torch.optim.Adam(q.parameters(), lr=args.learning_rate, eps=1.5e-4)
    rb = PrioritizedBuffer(args.buffer_size, dim, args.alpha)

    t0, episode_return, episode = time.time(), 0.0, 0
    obs, _ = env.reset(seed=args.seed)
    for step in range(args.total_timesteps):
        fraction = min(1.0, step / args.exploration_steps)
        epsilon = args.start_e + fraction * (args.end_e - args.start_e)
        if step < args.learning_starts or random.random() < epsilon:
            action = int(env.action_space.sample())
        else:
            with torch.no_grad():
                action = int(q(torch.as_tensor(obs)[None]).argmax(1))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(s=obs, a=action, r=reward * args.reward_scale, s2=next_obs, term=terminated)
        episode_return += reward
        obs = next_obs
        if terminated or truncated:
            episode += 1
            print(f"step={step} episode={episode} return={episode_return:.1f} eps={epsilon:.3f}")
            obs, _ = env.reset()
            episode_return = 0.0

        if step >= args.learning_starts and step % args.train_frequency == 0:
            beta = args.beta0 + (1.0 - args.beta0) * step / args.total_timesteps
            idx, b, weights = rb.sample(args.batch_size, beta)
            with torch.no_grad():
                target = b["r"] + args.gamma * (1 - b["term"]) * q_target(b["s2"]).amax(dim=1)
            value = q(b["s"]).gather(1, b["a"][:, None])[:, 0]
            td = value - target
            loss = (weights * nn.functional.smooth_l1_loss(value, target, reduction="none")).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q.parameters(), 10.0)
            optimizer.step()
            rb.reprioritise(idx, td.detach().abs().numpy() + args.priority_eps)
        if step % args.target_frequency == 0:
            q_target.load_state_dict(q.state_dict())
            if step:
                print(f"  {int(step / (time.time() - t0))} steps/s")
    torch.save(q.state_dict(), f"per_{args.env_id}_{args.seed}.pt")
