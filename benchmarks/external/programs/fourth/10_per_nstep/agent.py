"""Prioritized 3-step Double DQN with Polyak averaging."""
from collections import deque

import numpy as np


class NStepCollector:
    """Turns a stream of one-step transitions into n-step transitions."""

    def __init__(self, n, gamma):
        self.n, self.gamma = n, gamma
        self.window = deque()

    def push(self, obs, action, reward, next_obs, terminated, truncated):
        self.window.append((obs, action, reward))
        ready = []
        if terminated:
            while self.window:
                ready.append(self._pop(next_obs, True))
        else:
            if len(self.window) == self.n:
                ready.append(self._pop(next_obs, False))
            if truncated:
                self.window.clear()
        return ready

    def _pop(self, next_obs, terminated):
        total = sum(self.gamma ** k * reward for k, (_, _, reward) in enumerate(self.window))
        obs, action, _ = self.window.popleft()
        return obs, action, total, next_obs, terminated


class RankedMemory:
    def __init__(self, capacity, n_obs, seed, alpha=0.5):
        self.capacity, self.alpha, self.rng = capacity, alpha, np.random.default_rng(seed)
        self.obs, self.next_obs = np.zeros((capacity, n_obs)), np.zeros((capacity, n_obs))
        self.action = np.zeros(capacity, dtype=int)
        self.reward, self.terminated, self.priority = np.zeros(capacity), np.zeros(capacity), np.zeros(capacity)
        self.count = 0

    def __len__(self):
        return min(self.count, self.capacity)

    def append(self, obs, action, reward, next_obs, terminated):
        i = self.count % self.capacity
        self.obs[i], self.action[i], self.reward[i] = obs, action, reward
        self.next_obs[i], self.terminated[i] = next_obs, terminated
        self.priority[i] = self.priority[:len(self)].max() if self.count else 1.0
        self.count += 1

    def sample(self, n, beta):
        scaled = self.priority[:len(self)] ** self.alpha
        p = scaled / scaled.sum()
        i = np.searchsorted(np.cumsum(p), self.rng.random(n)).clip(max=len(self) - 1)
        w = (len(self) * p[i]) ** -beta
        return i, w / w.max()

    def rows(self, i):
        return self.obs[i], self.action[i], self.reward[i], self.next_obs[i], self.terminated[i]


class Agent:
    n_step, gamma, tau, lr, batch_size = 3, 0.99, 0.01, 5e-4, 32

    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        sizes = [n_obs, 64, 64, n_actions]
        self.theta = []
        for m, n in zip(sizes, sizes[1:]):
            self.theta += [self.rng.normal(0, np.sqrt(2 / m), (m, n)), np.zeros(n)]
        self.theta_bar = [p.copy() for p in self.theta]
        self.adam = [[np.zeros_like(p), np.zeros_like(p)] for p in self.theta]
        self.t = 0
        self.memory = RankedMemory(10_000, n_obs, seed + 1)
        self.collector = NStepCollector(self.n_step, self.gamma)

    def forward(self, x, theta):
        hs = [x]
        for k in range(0, len(theta), 2):
            x = x @ theta[k] + theta[k + 1]
            if k + 2 < len(theta):
                x = np.maximum(x, 0)
            hs.append(x)
        return hs

    def q(self, obs, theta=None):
        return self.forward(obs, self.theta if theta is None else theta)[-1]

    def polyak(self, tau):
        for p_bar, p in zip(self.theta_bar, self.theta):
            p_bar += tau * (p - p_bar)

    def update(self, obs, action, reward, next_obs, terminated, weight=1.0):
        rows = np.arange(len(action))
        greedy = self.q(next_obs).argmax(axis=1)
        bootstrap = self.q(next_obs, self.theta_bar)[rows, greedy]
        y = reward + self.gamma ** self.n_step * (1 - terminated) * bootstrap
        hs = self.forward(obs, self.theta)
        delta = hs[-1][rows, action] - y
        d = np.zeros_like(hs[-1])
        d[rows, action] = weight * delta / np.maximum(1.0, np.abs(delta)) / len(action)
        grads = []
        for k in range(len(self.theta) - 2, -1, -2):
            grads += [d.sum(axis=0), hs[k // 2].T @ d]
            d = (d @ self.theta[k].T) * (hs[k // 2] > 0)
        self.t += 1
        for p, g, mv in zip(self.theta, reversed(grads), self.adam):
            mv[0] += 0.1 * (g - mv[0])
            mv[1] += 0.001 * (g * g - mv[1])
            p -= self.lr * (mv[0] / (1 - 0.9 ** self.t)) / (np.sqrt(mv[1] / (1 - 0.999 ** self.t)) + 1e-8)
        self.polyak(self.tau)
        return np.abs(delta)

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.q(obs[None])[0].argmax())

    def run(self, env, steps):
        obs, _ = env.reset()
        score, scores = 0.0, []
        for step in range(steps):
            action = self.act(obs, max(0.02, 1 - step / 2000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            for item in self.collector.push(obs, action, reward, next_obs, terminated, truncated):
                self.memory.append(*item)
            obs, score = next_obs, score + reward
            if terminated or truncated:
                obs, _ = env.reset()
                scores.append(score)
                score = 0.0
            if len(self.memory) >= 2 * self.batch_size:
                i, w = self.memory.sample(self.batch_size, beta=min(1.0, 0.4 + 0.6 * step / steps))
                self.memory.priority[i] = self.update(*self.memory.rows(i), weight=w) + 1e-3
        return scores


class Adapter:
    def __init__(self, agent, n_obs):
        self.agent, self.gamma, self.n_step, self.observation_size = agent, agent.gamma, agent.n_step, n_obs

    def q_values(self, obs):
        return self.agent.q(obs)

    def target_q_values(self, obs):
        return self.agent.q(obs, self.agent.theta_bar)

    def sync_target(self):
        self.agent.polyak(self.agent.tau)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated, float))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed), 4)
