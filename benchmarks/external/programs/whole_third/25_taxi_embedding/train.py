#!/usr/bin/env python3
"""Taxi with an embedding network. Only legal actions (info["action_mask"]) are ever considered,
when acting as well as in the bootstrap. Learning takes place between the episodes."""
import argparse
import json
import random
from dataclasses import dataclass, field
from typing import List

import gymnasium as gym
import numpy as np
import torch
from torch import nn


@dataclass
class Memory:
    limit: int
    items: List[tuple] = field(default_factory=list)
    cursor: int = 0

    def add(self, item):
        if len(self.items) < self.limit:
            self.items.append(item)
        else:
            self.items[self.cursor] = item
        self.cursor = (self.cursor + 1) % self.limit

    def batch(self, k):
        cols = list(zip(*random.choices(self.items, k=k)))
        s = torch.tensor(cols[0])
        a = torch.tensor(cols[1])
        r = torch.tensor(cols[2], dtype=torch.float32)
        s2 = torch.tensor(cols[3])
        legal2 = torch.from_numpy(np.stack(cols[4]).astype(bool))
        term = torch.tensor(cols[5], dtype=torch.bool)
        return s, a, r, s2, legal2, term


class TaxiNet(nn.Module):
    def __init__(self, n_states, n_actions, width=50):
        super().__init__()
        self.embed = nn.Embedding(n_states, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, n_actions))

    def forward(self, s):
        return self.body(self.embed(s))


def pick(net, s, legal, eps):
    allowed = np.flatnonzero(legal)
    if random.random() < eps:
        return int(random.choice(allowed))
    with torch.no_grad():
        q = net(torch.tensor([s]))[0].numpy()
    return int(allowed[np.argmax(q[allowed])])


def improve(net, old, opt, memory, rounds, batch, gamma):
    losses = []
    for _ in range(rounds):
        s, a, r, s2, legal2, term = memory.batch(batch)
        with torch.no_grad():
            q2 = old(s2).masked_fill(~legal2, float("-inf")).amax(dim=1)
            y = torch.where(term, r, r + gamma * q2)
        q = net(s).gather(1, a[:, None])[:, 0]
        loss = nn.functional.smooth_l1_loss(q, y, beta=0.5)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def greedy_score(env, net, runs=20):
    scores = []
    for _ in range(runs):
        s, info = env.reset()
        total, stop = 0, False
        while not stop:
            s, r, term, trunc, info = env.step(pick(net, s, info["action_mask"], 0.0))
            total += r
            stop = term or trunc
        scores.append(total)
    return float(np.mean(scores))


def main(argv=None):
    ap = argparse.ArgumentParser()
    ap.add_argument("--episodes", type=int, default=1500)
    ap.add_argument("--batch", type=int, default=128)
    ap.add_argument("--gamma", type=float, default=0.98)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--first", type=int, default=2000, help="transitions before learning")
    ap.add_argument("--copy", type=int, default=10, help="episodes between copies of the network")
    ap.add_argument("--seed", type=int, default=5)
    ap.add_argument("--log", default="taxi_log.json")
    args = ap.parse_args(argv)

    random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = gym.make("Taxi-v4")
    ns, na = int(env.observation_space.n), int(env.action_space.n)

    net, old = TaxiNet(ns, na), TaxiNet(ns, na)
    old.load_state_dict(net.state_dict())
    opt = torch.optim.Adam(net.parameters(), lr=args.lr)
    memory = Memory(50_000)
    log = []

    for ep in range(args.episodes):
        s, info = env.reset(seed=args.seed if ep == 0 else None)
        legal = info["action_mask"]
        eps = max(0.03, 0.997 ** ep)
        total, length, stop = 0, 0, False
        while not stop:
            a = pick(net, s, legal, eps)
            s2, r, term, trunc, info = env.step(a)
            legal2 = info["action_mask"]
            memory.add((s, a, r / 20.0, s2, legal2, term))
            s, legal = s2, legal2
            total += r
            length += 1
            stop = term or trunc

        loss = None
        if len(memory.items) >= args.first:
            loss = improve(net, old, opt, memory, max(1, length // 4), args.batch, args.gamma)
        if (ep + 1) % args.copy == 0:
            old.load_state_dict(net.state_dict())

        log.append({"episode": ep, "return": float(total), "length": length, "loss": loss})
        if (ep + 1) % 50 == 0:
            recent = [row["return"] for row in log[-50:]]
            print(f"{ep + 1:5d}  mean return {np.mean(recent):8.2f}  eps {eps:.3f}  loss {loss}")

    print("greedy:", greedy_score(env, net))
    with open(args.log, "w") as f:
        json.dump(log, f)
    torch.save(net.state_dict(), "taxi_net.pt")


if __name__ == "__main__":
    main()
