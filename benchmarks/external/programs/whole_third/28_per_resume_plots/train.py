import argparse
import csv
import json
import random
import time
from pathlib import Path

import gymnasium as gym
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class SumTree:
    def __init__(self, size):
        self.size = size
        self.tree = np.zeros(2 * size, dtype=np.float64)

    def set(self, i, value):
        i += self.size
        self.tree[i] = value
        while i > 1:
            i //= 2
            self.tree[i] = self.tree[2 * i] + self.tree[2 * i + 1]

    def get(self, i):
        return self.tree[i + self.size]

    @property
    def total(self):
        return self.tree[1]

    def find(self, mass):
        i = 1
        while i < self.size:
            i *= 2
            if mass >= self.tree[i] and self.tree[i + 1] > 0:
                mass -= self.tree[i]
                i += 1
        return i - self.size


class PrioritizedMemory:
    """Proportional prioritisation (Schaul et al.); size must be a power of two."""

    def __init__(self, size, alpha, floor=1e-3):
        assert size & (size - 1) == 0
        self.size, self.alpha, self.floor = size, alpha, floor
        self.tree = SumTree(size)
        self.items = [None] * size
        self.next = 0
        self.filled = 0
        self.top = 1.0

    def push(self, item):
        self.items[self.next] = item
        self.tree.set(self.next, self.top)
        self.next = (self.next + 1) % self.size
        self.filled = min(self.filled + 1, self.size)

    def sample(self, k, beta):
        edges = np.linspace(0.0, self.tree.total, k + 1)
        idx = [self.tree.find(m) for m in np.random.uniform(edges[:-1], edges[1:])]
        p = np.array([self.tree.get(i) for i in idx]) / self.tree.total
        w = (self.filled * p) ** -beta
        return idx, [self.items[i] for i in idx], w / w.max()

    def reprioritize(self, idx, errors):
        for i, e in zip(idx, errors):
            p = (abs(e) + self.floor) ** self.alpha
            self.tree.set(i, p)
            self.top = max(self.top, p)


class Net(nn.Module):
    def __init__(self, n_obs, n_act):
        super().__init__()
        self.a = nn.Linear(n_obs, 96)
        self.b = nn.Linear(96, 96)
        self.c = nn.Linear(96, n_act)

    def forward(self, x):
        x = F.gelu(self.a(x))
        x = F.gelu(self.b(x))
        return self.c(x)


def update(net, old, opt, memory, beta, opts):
    idx, items, w = memory.sample(opts.batch, beta)
    s = torch.tensor(np.stack([i[0] for i in items]))
    a = torch.tensor([i[1] for i in items])
    r = torch.tensor([i[2] for i in items], dtype=torch.float32)
    n = torch.tensor(np.stack([i[3] for i in items]))
    t = torch.tensor([i[4] for i in items], dtype=torch.float32)
    w = torch.tensor(w, dtype=torch.float32)

    with torch.no_grad():
        choice = net(n).argmax(1, keepdim=True)
        y = r + opts.gamma * (1 - t) * old(n).gather(1, choice).squeeze(1)
    q = net(s).gather(1, a.unsqueeze(1)).squeeze(1)
    loss = (w * F.huber_loss(q, y, reduction="none")).mean()
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 10)
    opt.step()
    memory.reprioritize(idx, (y - q).detach().tolist())
    return loss.item()


def draw(path, rows):
    y = [row["score"] for row in rows]
    fig, ax = plt.subplots(figsize=(8, 4))
    ax.plot(y, lw=0.7)
    if len(y) >= 30:
        ax.plot(np.arange(29, len(y)), np.convolve(y, np.ones(30) / 30, "valid"))
    ax.set(xlabel="episode", ylabel="score")
    fig.savefig(path)
    plt.close(fig)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", default="per_run")
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--steps", type=int, default=60_000)
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--gamma", type=float, default=0.99)
    ap.add_argument("--lr", type=float, default=5e-4)
    ap.add_argument("--warmup", type=int, default=1_000)
    ap.add_argument("--sync", type=int, default=500)
    ap.add_argument("--alpha", type=float, default=0.6)
    ap.add_argument("--beta0", type=float, default=0.4)
    ap.add_argument("--seed", type=int, default=1)
    opts = ap.parse_args()

    out = Path(opts.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "options.json").write_text(json.dumps(vars(opts), indent=2))
    random.seed(opts.seed)
    np.random.seed(opts.seed)
    torch.manual_seed(opts.seed)

    env = gym.make("CartPole-v1")
    n_act = int(env.action_space.n)
    net, old = Net(4, n_act), Net(4, n_act)
    opt = torch.optim.NAdam(net.parameters(), lr=opts.lr)
    step, rows = 0, []
    ckpt = out / "checkpoint.pt"
    if opts.resume and ckpt.exists():
        state = torch.load(ckpt, weights_only=False)
        net.load_state_dict(state["net"])
        opt.load_state_dict(state["opt"])
        step, rows = state["step"], state["rows"]
        print("resumed at step", step)
    old.load_state_dict(net.state_dict())
    memory = PrioritizedMemory(2 ** 15, opts.alpha)

    table = open(out / "scores.csv", "a", newline="")
    writer = csv.DictWriter(table, ["step", "score", "seconds"])
    if table.tell() == 0:
        writer.writeheader()
    begin = time.time()

    s, _ = env.reset(seed=opts.seed + step)
    score = 0.0
    while step < opts.steps:
        eps = max(0.02, 1.0 - step / (0.2 * opts.steps))
        beta = min(1.0, opts.beta0 + (1.0 - opts.beta0) * step / opts.steps)
        if random.random() < eps:
            a = random.randrange(n_act)
        else:
            with torch.no_grad():
                a = net(torch.tensor(s)).argmax().item()
        n, r, terminated, truncated, _ = env.step(a)
        memory.push((s, a, r, n, terminated))
        s = n
        score += r
        step += 1

        if memory.filled >= opts.warmup:
            update(net, old, opt, memory, beta, opts)
        if step % opts.sync == 0:
            old.load_state_dict(net.state_dict())

        if terminated or truncated:
            rows.append({"step": step, "score": score, "seconds": round(time.time() - begin, 1)})
            writer.writerow(rows[-1])
            table.flush()
            if len(rows) % 25 == 0:
                print("step %6d  episodes %4d  mean25 %6.1f  eps %.2f  beta %.2f" % (
                    step, len(rows), np.mean([x["score"] for x in rows[-25:]]), eps, beta))
                draw(out / "scores.png", rows)
                torch.save({"net": net.state_dict(), "opt": opt.state_dict(), "step": step, "rows": rows}, ckpt)
            s, _ = env.reset()
            score = 0.0

    table.close()
    env.close()


if __name__ == "__main__":
    main()
