"""Clipped double Q-learning (the minimum of two networks) with rank-based prioritized replay."""
import itertools
import random

import numpy as np
import torch
import torch.nn as nn


# buffer.py
class RankBuffer:
    """Transition i is sampled with a probability proportional to 1 / rank(i)**alpha."""

    def __init__(self, capacity, n_obs, alpha=0.7, beta=0.5):
        self.capacity, self.alpha, self.beta = capacity, alpha, beta
        self.dtype = np.dtype(
            [("s", "f4", (n_obs,)), ("a", "i8"), ("r", "f4"), ("s2", "f4", (n_obs,)), ("d", "?"), ("p", "f8")]
        )
        self.rows = np.zeros(capacity, dtype=self.dtype)
        self.n = 0
        self.resort_every = 50
        self.calls = 0
        self.order = None

    def __len__(self):
        return min(self.n, self.capacity)

    def add(self, s, a, r, s2, d):
        self.rows[self.n % self.capacity] = (s, a, r, s2, d, np.inf)
        self.n += 1

    def sample(self, n):
        if self.order is None or self.calls % self.resort_every == 0 or len(self.order) < len(self) // 2:
            self.order = np.argsort(-self.rows["p"][: len(self)], kind="stable")
        self.calls += 1
        p = 1.0 / np.arange(1, len(self.order) + 1) ** self.alpha
        p /= p.sum()
        rank = np.random.choice(len(p), n, p=p)
        w = (len(p) * p[rank]) ** -self.beta
        idx = self.order[rank]
        rows = self.rows[idx]
        columns = tuple(rows[k].copy() for k in ("s", "a", "r", "s2", "d"))
        return columns, (w / w.max()).astype("f4"), idx

    def set_errors(self, idx, errors):
        self.rows["p"][idx] = np.abs(errors)


# agent.py
def mlp(n_obs, n_actions):
    return nn.Sequential(
        nn.Linear(n_obs, 64), nn.LeakyReLU(), nn.Linear(64, 64), nn.LeakyReLU(), nn.Linear(64, n_actions)
    )


class TwinAgent:
    def __init__(self, n_obs, n_actions, gamma=0.98, lr=7e-4, tau=0.01):
        self.n_obs, self.n_actions, self.gamma, self.tau = n_obs, n_actions, gamma, tau
        self.twins = nn.ModuleList([mlp(n_obs, n_actions) for _ in range(2)])
        self.slow_twins = nn.ModuleList([mlp(n_obs, n_actions) for _ in range(2)])
        self.slow_twins.load_state_dict(self.twins.state_dict())
        self.opt = torch.optim.NAdam(self.twins.parameters(), lr=lr)
        self.buffer = RankBuffer(10_000, n_obs)
        self.t = 0

    def q(self, s):
        return (self.twins[0](s) + self.twins[1](s)) / 2

    def slow_q(self, s):
        return torch.minimum(self.slow_twins[0](s), self.slow_twins[1](s))

    def act(self, s, eps):
        if random.random() < eps:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return self.q(torch.as_tensor(s, dtype=torch.float32)[None]).argmax(1).item()

    def learn(self, batch, weight):
        s, a, r, s2, d = batch
        with torch.no_grad():
            y = r + self.gamma * (1 - d) * self.slow_q(s2).max(1).values
        errors = [net(s).gather(1, a[:, None]).squeeze(1) - y for net in self.twins]
        loss = sum((weight * e**2).mean() for e in errors)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        self.opt.step()
        self.blend()
        return (errors[0].abs() + errors[1].abs()).detach().numpy() / 2

    @torch.no_grad()
    def blend(self):
        for p, t in zip(self.twins.parameters(), self.slow_twins.parameters()):
            t += self.tau * (p - t)


def to_tensors(s, a, r, s2, d):
    f = torch.float32
    return (
        torch.as_tensor(np.asarray(s), dtype=f), torch.as_tensor(np.asarray(a), dtype=torch.int64),
        torch.as_tensor(np.asarray(r), dtype=f), torch.as_tensor(np.asarray(s2), dtype=f),
        torch.as_tensor(np.asarray(d), dtype=f),
    )


# main.py
def train(agent, env, steps):
    episode_over, s = True, None
    for t in itertools.islice(itertools.count(), steps):
        if episode_over:
            s, _ = env.reset()
        a = agent.act(s, max(0.04, 1 - agent.t / 3000))
        s2, r, terminated, truncated, _ = env.step(a)
        agent.buffer.add(s, a, r, s2, terminated)
        agent.t += 1
        if len(agent.buffer) >= 80:
            batch, weight, idx = agent.buffer.sample(48)
            agent.buffer.set_errors(idx, agent.learn(to_tensors(*batch), torch.as_tensor(weight)))
        episode_over, s = terminated or truncated, s2


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma, self.observation_size = agent.gamma, agent.n_obs

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.q(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.slow_q(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.blend()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(to_tensors(obs, action, reward, next_obs, terminated), torch.ones(len(action)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.add(obs, int(action), float(reward), next_obs, bool(terminated))

    def sample(self, n):
        return self.agent.buffer.sample(n)[0]

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(TwinAgent(4, 2))
