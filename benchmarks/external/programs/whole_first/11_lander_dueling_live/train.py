import os
import csv
import time
import random
import collections

import numpy as np
import torch
from torch import nn
import gymnasium as gym
import matplotlib.pyplot as plt
from tqdm import tqdm

CKPT = "checkpoints"
LOG = "training_log.csv"
SHOW = os.environ.get("SHOW", "0") == "1"


class Dueling(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.value = nn.Linear(128, 1)
        self.advantage = nn.Linear(128, n_out)

    def forward(self, x):
        h = self.body(x)
        adv = self.advantage(h)
        return self.value(h) + adv - adv.mean(dim=-1, keepdim=True)


def polyak(src, dst, tau):
    with torch.no_grad():
        for a, b in zip(src.parameters(), dst.parameters()):
            b.lerp_(a, tau)


class LivePlot:
    def __init__(self):
        plt.ion()
        self.fig, self.ax = plt.subplots()

    def draw(self, ys):
        self.ax.clear()
        self.ax.plot(ys, lw=0.5)
        if len(ys) >= 20:
            self.ax.plot(range(19, len(ys)), np.convolve(ys, np.ones(20) / 20, "valid"))
        self.fig.canvas.draw_idle()
        plt.pause(0.001)

    def close(self):
        plt.ioff()
        self.fig.savefig("returns.png")


def train_step(net, slow, opt, memory, gamma, batch_size):
    batch = random.sample(memory, batch_size)
    s, a, r, s2, alive = (np.asarray(x) for x in zip(*batch))
    s = torch.from_numpy(s).float()
    s2 = torch.from_numpy(s2).float()
    a = torch.from_numpy(a).long()
    r = torch.from_numpy(r).float()
    alive = torch.from_numpy(alive).float()
    with torch.no_grad():
        pick = net(s2).argmax(-1)
        bootstrap = slow(s2)[torch.arange(batch_size), pick]
        goal = r + gamma * alive * bootstrap
    pred = net(s)[torch.arange(batch_size), a]
    loss = torch.nn.functional.huber_loss(pred, goal)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    opt.step()
    polyak(net, slow, 0.002)
    return float(loss)


def main():
    os.makedirs(CKPT, exist_ok=True)
    env = gym.make("LunarLander-v3", render_mode="human" if SHOW else None)
    net, slow = Dueling(8, 4), Dueling(8, 4)
    slow.load_state_dict(net.state_dict())
    for p in slow.parameters():
        p.requires_grad_(False)
    opt = torch.optim.AdamW(net.parameters(), lr=4e-4, weight_decay=1e-5)

    start_ep = 0
    last = os.path.join(CKPT, "last.pt")
    if os.path.exists(last) and input("Resume from checkpoint? [y/N] ").lower() == "y":
        data = torch.load(last)
        net.load_state_dict(data["net"])
        slow.load_state_dict(data["slow"])
        opt.load_state_dict(data["opt"])
        start_ep = data["episode"] + 1

    memory = collections.deque(maxlen=100_000)
    live = LivePlot()
    returns, steps, best = [], 0, -1e9
    logfile = open(LOG, "a", newline="")
    writer = csv.writer(logfile)

    bar = tqdm(range(start_ep, 800), desc="training")
    for ep in bar:
        eps = max(0.02, 1.0 - ep / 250)
        s, _ = env.reset()
        total, loss, t0 = 0.0, 0.0, time.time()
        while True:
            if random.random() < eps:
                a = env.action_space.sample()
            else:
                with torch.no_grad():
                    a = int(net(torch.from_numpy(s).float()).argmax())
            s2, r, terminated, truncated, _ = env.step(a)
            # rewards are scaled so that the values stay in a handy range
            memory.append((s, a, r / 20.0, s2, not terminated))
            total += r
            steps += 1
            s = s2
            if len(memory) > 3000 and steps % 2 == 0:
                loss = train_step(net, slow, opt, memory, 0.99, 64)
            if terminated or truncated:
                break
        returns.append(total)
        mean = float(np.mean(returns[-50:]))
        writer.writerow([ep, total, mean, eps, loss, time.time() - t0])
        logfile.flush()
        bar.set_postfix(mean=mean, eps=eps)
        if ep % 10 == 0:
            live.draw(returns)
            torch.save({"net": net.state_dict(), "slow": slow.state_dict(), "opt": opt.state_dict(), "episode": ep}, last)
        if len(returns) >= 50 and mean > best:
            best = mean
            torch.save(net.state_dict(), os.path.join(CKPT, "best.pt"))
    logfile.close()
    live.close()
    env.close()


if __name__ == "__main__":
    main()
