"""Q-learning with tile coding and experience replay."""
import random
from collections import deque

import numpy as np

LIMITS = np.array([2.4, 2.5, 0.25, 2.5])


class TileCoder:
    """Maps an observation to one active tile per tiling."""

    def __init__(self, limits, bins=6, tilings=8):
        self.limits = limits
        self.bins = bins
        self.tilings = tilings
        self.tiles_per_tiling = (bins + 1) ** len(limits)
        self.size = tilings * self.tiles_per_tiling
        # displacement vector (1, 3, 5, 7, ...), as Miller and Glanz recommend
        self.shift = (2 * np.arange(len(limits)) + 1) / tilings

    def active(self, obs):
        unit = (np.clip(obs, -self.limits, self.limits) + self.limits) / (2 * self.limits)
        tiles = np.empty(self.tilings, dtype=np.int64)
        for t in range(self.tilings):
            coords = np.floor(unit * self.bins + (t * self.shift) % 1.0).astype(int)
            coords = np.minimum(coords, self.bins)
            index = 0
            for c in coords:
                index += c * (self.bins + 1)
            tiles[t] = t * self.tiles_per_tiling + index
        return tiles


class TileAgent:
    def __init__(self, n_actions, gamma=0.98, alpha=0.3, batch_size=16, seed=0):
        self.random = random.Random(seed)
        self.coder = TileCoder(LIMITS)
        self.n_actions = n_actions
        self.gamma = gamma
        self.alpha = alpha / self.coder.tilings
        self.batch_size = batch_size
        self.w = np.zeros((self.coder.size, n_actions))
        self.w_target = self.w.copy()
        self.memory = deque(maxlen=20_000)
        self.steps = 0

    def q(self, obs, w=None):
        w = self.w if w is None else w
        return w[self.coder.active(obs)].sum(axis=0)

    def act(self, obs, epsilon):
        if self.random.random() < epsilon:
            return self.random.randrange(self.n_actions)
        q = self.q(obs)
        return self.random.choice(np.flatnonzero(q == q.max()).tolist())

    def remember(self, obs, action, reward, next_obs, terminated):
        self.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return self.random.sample(self.memory, n)

    def learn(self, batch):
        for obs, action, reward, next_obs, terminated in batch:
            y = reward
            if not terminated:
                y += self.gamma * self.q(next_obs, self.w_target).max()
            tiles = self.coder.active(obs)
            delta = y - self.w[tiles, action].sum()
            self.w[tiles, action] += self.alpha * delta

    def sync(self):
        self.w_target = self.w.copy()

    def train(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.act(obs, max(0.02, 1 - self.steps / 3000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated)
            self.steps += 1
            if len(self.memory) >= 50:
                self.learn(self.sample(self.batch_size))
            if self.steps % 100 == 0:
                self.sync()
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = len(LIMITS)

    def q_values(self, obs):
        return np.array([self.agent.q(o) for o in obs])

    def target_q_values(self, obs):
        return np.array([self.agent.q(o, self.agent.w_target) for o in obs])

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(list(zip(obs, action, reward, next_obs, terminated)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated))

    def sample(self, n):
        return [np.array(c) for c in zip(*self.agent.sample(n))]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(TileAgent(2, seed=seed))
