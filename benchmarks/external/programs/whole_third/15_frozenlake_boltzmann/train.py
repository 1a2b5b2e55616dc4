"""
FrozenLake-v1 (slippery), embedding network, softmax exploration.

The agent plays a whole episode and then trains as many minibatches as the
episode had steps. The target is a frozen copy of the net, renewed every few episodes.
"""
import copy
import random
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from torch import nn


@dataclass
class Config:
    episodes: int = 2000
    gamma: float = 0.99
    lr: float = 2e-3
    batch: int = 64
    capacity: int = 20_000
    warmup: int = 1_000
    freeze_every: int = 10
    temp_start: float = 1.0
    temp_end: float = 0.01
    temp_episodes: int = 1200
    seed: int = 4


class EmbedQ(nn.Module):
    def __init__(self, n_states, n_actions, dim=32):
        super().__init__()
        self.emb = nn.Embedding(n_states, dim)
        self.head = nn.Sequential(nn.Linear(dim, 64), nn.ELU(), nn.Linear(64, n_actions))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)

    def forward(self, s):
        return self.head(self.emb(s))


def boltzmann(q, temperature, rng):
    z = (q - q.max()) / temperature
    p = np.exp(z)
    p /= p.sum()
    return int(rng.choice(len(p), p=p))


def play(env, net, temperature, rng, seed=None):
    """One episode; returns list of transitions."""
    path = []
    s, _ = env.reset(seed=seed)
    over = False
    while not over:
        with torch.no_grad():
            q = net(torch.tensor(s)).numpy().astype(np.float64)
        a = boltzmann(q, temperature, rng)
        s2, r, terminated, truncated, _ = env.step(a)
        path.append((int(s), a, float(r), int(s2), bool(terminated)))
        s, over = s2, terminated or truncated
    return path


def fit(net, frozen, memory, opt, cfg, n_batches):
    for _ in range(n_batches):
        s, a, r, s2, end = map(torch.tensor, zip(*random.choices(memory, k=cfg.batch)))
        with torch.no_grad():
            v2 = frozen(s2).amax(dim=1)
            goal = torch.where(end, r, r + cfg.gamma * v2)
        q = net(s)[range(cfg.batch), a]
        loss = 0.5 * (goal - q).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()


def greedy_score(env, net, n=200):
    with torch.no_grad():
        table = net(torch.arange(env.observation_space.n)).argmax(1).tolist()
    wins = 0
    for k in range(n):
        s, _ = env.reset(seed=90_000 + k)
        over = False
        while not over:
            s, r, terminated, truncated, _ = env.step(table[s])
            over = terminated or truncated
            wins += r
    return wins / n


def main(cfg=Config()):
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    rng = np.random.default_rng(cfg.seed)

    env = gym.make("FrozenLake-v1", map_name="4x4", is_slippery=True)
    test_env = gym.make("FrozenLake-v1", map_name="4x4", is_slippery=True)
    net = EmbedQ(env.observation_space.n, env.action_space.n)
    frozen = copy.deepcopy(net).requires_grad_(False)
    opt = torch.optim.NAdam(net.parameters(), lr=cfg.lr)

    memory, wins = [], []
    for ep in range(cfg.episodes):
        frac = min(1.0, ep / cfg.temp_episodes)
        temperature = cfg.temp_start * (cfg.temp_end / cfg.temp_start) ** frac
        path = play(env, net, temperature, rng, seed=cfg.seed if ep == 0 else None)
        memory.extend(path)
        del memory[:-cfg.capacity]
        wins.append(path[-1][2])
        if len(memory) >= cfg.warmup:
            fit(net, frozen, memory, opt, cfg, len(path))
        if ep % cfg.freeze_every == 0:
            frozen = copy.deepcopy(net).requires_grad_(False)
        if (ep + 1) % 100 == 0:
            print(f"[{ep + 1:5d}] wins {sum(wins[-100:]):.0f}/100  temperature {temperature:.3f}  "
                  f"greedy {greedy_score(test_env, net):.2f}")

    torch.save({"net": net.state_dict(), "wins": wins}, "frozenlake.pt")
    with torch.no_grad():
        print(net(torch.arange(16)).numpy().round(2))


if __name__ == "__main__":
    main()
