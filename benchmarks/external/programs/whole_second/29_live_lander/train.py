import os
import random
import sys
import time

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn

SAVE_DIR = "checkpoints"
LOG_FILE = "training_log.csv"
CAPACITY = 80_000
BATCH = 64
GAMMA = 0.99
LR = 0.05
EPS_START, EPS_END, EPS_DECAY = 1.0, 0.02, 0.994
TARGET_EVERY = 1000
EPISODES = 800

answer = input("Render the test episodes? [y/N] ").strip().lower()
render_mode = "human" if answer == "y" else None
env = gym.make("LunarLander-v3")
test_env = gym.make("LunarLander-v3", render_mode=render_mode)
os.makedirs(SAVE_DIR, exist_ok=True)


class Memory:
    def __init__(self, capacity):
        self.s = np.zeros((capacity, 8), np.float32)
        self.a = np.zeros(capacity, np.int64)
        self.r = np.zeros(capacity, np.float32)
        self.s2 = np.zeros((capacity, 8), np.float32)
        self.d = np.zeros(capacity, np.float32)
        self.capacity, self.pos, self.len = capacity, 0, 0

    def add(self, s, a, r, s2, d):
        i = self.pos
        self.s[i], self.a[i], self.r[i], self.s2[i], self.d[i] = s, a, r, s2, d
        self.pos = (i + 1) % self.capacity
        self.len = min(self.len + 1, self.capacity)

    def pick(self, column, n):
        rows = np.random.randint(0, self.len, n)
        return torch.from_numpy(column[rows])

    def batch(self, n):
        return tuple(self.pick(c, n) for c in (self.s, self.a, self.r, self.s2, self.d))


class Agent:
    def __init__(self):
        make = lambda: nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
        self.q, self.q_hat = make(), make()
        self.q_hat.load_state_dict(self.q.state_dict())
        self.opt = torch.optim.Adam(self.q.parameters(), lr=LR)
        self.mem = Memory(CAPACITY)
        self.epsilon = EPS_START
        self.steps = 0

    def act(self, s):
        if random.random() < self.epsilon:
            return random.randrange(4)
        with torch.no_grad():
            return self.q(torch.from_numpy(s)).argmax().item()

    def learn(self):
        s, a, r, s2, d = self.mem.batch(BATCH)
        with torch.no_grad():
            y = r + GAMMA * (1 - d) * self.q_hat(s2).max(1)[0]
        q = self.q(s).gather(1, a.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(q, y)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return loss.item()

    def test(self, episodes=2):
        self.epsilon = 0.0
        total = 0.0
        for _ in range(episodes):
            s, _ = test_env.reset()
            over = False
            while not over:
                s, r, term, trunc, _ = test_env.step(self.act(s))
                total += r
                over = term or trunc
        return total / episodes


agent = Agent()
plt.ion()
fig, ax = plt.subplots()
scores = []
with open(LOG_FILE, "w") as log:
    log.write("episode,score,epsilon,seconds\n")
    t0 = time.time()
    for ep in range(1, EPISODES + 1):
        s, _ = env.reset()
        score, over = 0.0, False
        while not over:
            a = agent.act(s)
            s2, r, term, trunc, _ = env.step(a)
            agent.mem.add(s, a, r, s2, term)
            s = s2
            score += r
            agent.steps += 1
            if agent.steps > 1000:
                agent.learn()
            if agent.steps % TARGET_EVERY == 0:
                agent.q_hat.load_state_dict(agent.q.state_dict())
            over = term or trunc
        agent.epsilon = max(EPS_END, agent.epsilon * EPS_DECAY) if agent.epsilon > EPS_END else agent.epsilon
        scores.append(score)
        log.write("%d,%.2f,%.3f,%.1f\n" % (ep, score, agent.epsilon, time.time() - t0))
        log.flush()
        sys.stdout.write("\rEpisode %d score %.1f" % (ep, score))
        if ep % 10 == 0:
            ax.clear()
            ax.plot(scores)
            plt.pause(0.001)
        if ep % 25 == 0:
            print("\n  test score: %.1f" % agent.test())
            torch.save(agent.q.state_dict(), os.path.join(SAVE_DIR, "ep%04d.pt" % ep))
plt.ioff()
plt.savefig("scores.png")
