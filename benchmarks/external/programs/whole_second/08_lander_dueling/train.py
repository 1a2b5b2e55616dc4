import copy
import random
from collections import deque, namedtuple

import gymnasium as gym
import numpy as np
import torch
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Experience = namedtuple("Experience", "state action reward next_state terminal")


class DuelingNet(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 128), nn.LayerNorm(128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.value = nn.Linear(128, 1)
        self.adv = nn.Linear(128, n_out)

    def forward(self, x):
        z = self.body(x)
        a = self.adv(z)
        return self.value(z) + a - a.mean(dim=-1, keepdim=True)


class Agent:
    def __init__(self, n_in, n_out):
        self.n_out = n_out
        self.online = DuelingNet(n_in, n_out).to(device)
        self.slow = copy.deepcopy(self.online).requires_grad_(False)
        self.opt = torch.optim.Adam(self.online.parameters(), lr=5e-4, eps=1e-5)
        self.crit = nn.SmoothL1Loss()
        self.memory = deque(maxlen=100_000)
        self.gamma, self.tau, self.batch = 0.99, 5e-3, 64
        self.eps, self.calls = 1.0, 0

    @torch.no_grad()
    def act(self, state, greedy=False):
        if not greedy and random.random() < self.eps:
            return random.randint(0, self.n_out - 1)
        return int(self.online(torch.from_numpy(state).to(device)).argmax())

    def remember(self, *args):
        self.memory.append(Experience(*args))

    def replay(self):
        self.calls += 1
        if len(self.memory) < 2000 or self.calls % 2:
            return
        b = Experience(*zip(*random.sample(self.memory, self.batch)))
        s = torch.from_numpy(np.stack(b.state)).to(device)
        s2 = torch.from_numpy(np.stack(b.next_state)).to(device)
        a = torch.tensor(b.action, device=device)
        r = torch.tensor(b.reward, dtype=torch.float32, device=device) * 0.1
        live = ~torch.tensor(b.terminal, device=device)
        with torch.no_grad():
            pick = self.online(s2).argmax(1, keepdim=True)
            y = r + self.gamma * live * self.slow(s2).gather(1, pick).squeeze(1)
        loss = self.crit(self.online(s)[torch.arange(self.batch, device=device), a], y)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_value_(self.online.parameters(), 1.0)
        self.opt.step()
        with torch.no_grad():
            for p_slow, p in zip(self.slow.parameters(), self.online.parameters()):
                p_slow.lerp_(p, self.tau)


def evaluate(agent, n=3):
    env = gym.make("LunarLander-v3")
    out = []
    for _ in range(n):
        s, _ = env.reset()
        tot, stop = 0.0, False
        while not stop:
            s, r, te, tr, _ = env.step(agent.act(s, greedy=True))
            tot += r
            stop = te or tr
        out.append(tot)
    env.close()
    return float(np.mean(out))


if __name__ == "__main__":
    env = gym.make("LunarLander-v3")
    agent = Agent(8, 4)
    scores = deque(maxlen=100)
    for episode in range(1, 801):
        s, _ = env.reset()
        tot = 0.0
        for t in range(1000):
            a = agent.act(s)
            s2, r, terminated, truncated, _ = env.step(a)
            agent.remember(s, a, r, s2, terminated)
            agent.replay()
            s = s2
            tot += r
            if terminated or truncated:
                break
        agent.eps = max(0.01, agent.eps * 0.99)
        scores.append(tot)
        if episode % 50 == 0:
            print(episode, "avg100 %.1f" % np.mean(scores), "greedy %.1f" % evaluate(agent))
