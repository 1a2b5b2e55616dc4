import json
import random
import time
from collections import deque

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn
from tqdm import trange


class Model(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.l1 = nn.Linear(inp, 100)
        self.l2 = nn.Linear(100, 100)
        self.l3 = nn.Linear(100, out)

    def forward(self, x):
        return self.l3(torch.relu(self.l2(torch.relu(self.l1(x)))))


class Trainer:
    def __init__(self, env_name):
        self.env = gym.make(env_name)
        n_in, n_out = self.env.observation_space.shape[0], self.env.action_space.n
        self.net = Model(n_in, n_out)
        self.net_t = Model(n_in, n_out)
        self.net_t.load_state_dict(self.net.state_dict())
        self.opt = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.mem = deque(maxlen=30000)
        self.gamma, self.bs = 0.99, 64
        self.curve = []
        self.losses = deque(maxlen=200)

    def best_action(self, s):
        with torch.no_grad():
            return self.net(torch.tensor(s, dtype=torch.float32)).argmax().item()

    def update(self):
        s, a, r, s2, d = zip(*random.sample(self.mem, self.bs))
        s = torch.tensor(np.array(s), dtype=torch.float32)
        s2 = torch.tensor(np.array(s2), dtype=torch.float32)
        a = torch.tensor(a).view(-1, 1)
        r = torch.tensor(r, dtype=torch.float32).view(-1, 1)
        d = torch.tensor(d, dtype=torch.float32).view(-1, 1)
        with torch.no_grad():
            y = r + self.gamma * (1 - d) * self.net_t(s2).max(1, keepdim=True)[0]
        loss = nn.functional.smooth_l1_loss(self.net(s).gather(1, a), y)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        self.losses.append(loss.item())

    def evaluate(self, n=3):
        totals = []
        for _ in range(n):
            s, _ = self.env.reset()
            total, over = 0.0, False
            while not over:
                s, r, term, trunc, _ = self.env.step(self.best_action(s))
                total += r
                over = term or trunc
            totals.append(total)
        return float(np.mean(totals))

    def plot(self):
        plt.clf()
        if self.curve:
            x, y = zip(*self.curve)
            plt.plot(x, y, marker=".")
        plt.xlabel("environment steps")
        plt.ylabel("evaluation return")
        plt.pause(0.001)

    def train(self, total=80000, warmup=1000, eval_every=200):
        eps = 1.0
        s, _ = self.env.reset()
        bar = trange(1, total + 1)
        for step in bar:
            eps = max(0.03, 1.0 - step / 15000)
            a = self.env.action_space.sample() if random.random() < eps else self.best_action(s)
            s2, r, term, trunc, _ = self.env.step(a)
            self.mem.append((s, int(a), r, s2, term))
            s = s2
            if term or trunc:
                s, _ = self.env.reset()
            if step > warmup:
                self.update()
            if step % 500 == 0:
                self.net_t.load_state_dict(self.net.state_dict())
            if step % eval_every == 0:
                score = self.evaluate()
                self.curve.append((step, score))
                bar.set_description(f"eval {score:.0f} eps {eps:.2f}")
                if step % 2000 == 0:
                    self.plot()
                    with open("curve.json", "w") as f:
                        json.dump(self.curve, f)
                    torch.save(self.net.state_dict(), f"net_{step}.pt")
                    time.sleep(0.05)


if __name__ == "__main__":
    plt.ion()
    t = Trainer("CartPole-v1")
    t.train()
    plt.savefig("curve.png")
    if input("Watch the trained agent? (y/n) ").strip() == "y":
        t.env = gym.make("CartPole-v1", render_mode="human")
        print(t.evaluate(5))
