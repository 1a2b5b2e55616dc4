"""Tabular-style double Q-learning on grid tiles: two tables, replay, a coin decides which table learns."""
import numpy as np


class Grid:
    def __init__(self, width, tilings, rng):
        self.width = np.asarray(width)
        self.offsets = np.stack([(k / tilings + 0.137 * np.arange(len(width)) * k) % 1.0 for k in range(tilings)])
        self.ids = {}

    def __call__(self, obs):
        cells = np.floor(np.asarray(obs) / self.width + self.offsets).astype(int)
        return [self.ids.setdefault((k, *cell), len(self.ids)) for k, cell in enumerate(cells.tolist())]


class Table:
    def __init__(self, n_actions):
        self.n_actions = n_actions
        self.w = np.zeros((1024, n_actions))

    def rows(self, tiles):
        while max(tiles) >= len(self.w):
            self.w = np.concatenate([self.w, np.zeros_like(self.w)])
        return self.w[tiles]

    def value(self, tiles):
        return self.rows(tiles).sum(axis=0)

    def nudge(self, tiles, action, amount):
        self.rows(tiles)
        self.w[tiles, action] += amount / len(tiles)


class DoubleTiles:
    def __init__(self, n_actions, seed=0, gamma=0.98, alpha=0.2):
        self.rng = np.random.default_rng(seed)
        self.gamma, self.alpha, self.n_actions = gamma, alpha, n_actions
        self.grid = Grid([0.8, 0.6, 0.05, 0.6], 10, self.rng)
        self.tables = Table(n_actions), Table(n_actions)
        self.memory, self.limit, self.n = [], 15_000, 0

    def q(self, obs):
        tiles = self.grid(obs)
        return (self.tables[0].value(tiles) + self.tables[1].value(tiles)) / 2

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        q = self.q(obs)
        return int(self.rng.choice(np.flatnonzero(q >= q.max() - 1e-12)))

    def learn_one(self, obs, action, reward, next_obs, terminated):
        a, b = self.tables if self.rng.random() < 0.5 else self.tables[::-1]
        y = reward
        if not terminated:
            next_tiles = self.grid(next_obs)
            y = reward + self.gamma * b.value(next_tiles)[a.value(next_tiles).argmax()]
        tiles = self.grid(obs)
        a.nudge(tiles, action, self.alpha * (y - a.value(tiles)[action]))

    def learn(self, obs, action, reward, next_obs, terminated):
        for transition in zip(obs, action, reward, next_obs, terminated):
            self.learn_one(*transition)

    def remember(self, *transition):
        if len(self.memory) < self.limit:
            self.memory.append(transition)
        else:
            self.memory[self.n % self.limit] = transition
        self.n += 1

    def sample(self, k):
        return [np.array(c) for c in zip(*(self.memory[i] for i in self.rng.integers(len(self.memory), size=k)))]

    def train(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.act(obs, max(0.02, 1 - self.n / 2500))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, float(reward), next_obs, bool(terminated))
            # once from the stream, then from the memory
            self.learn_one(obs, action, float(reward), next_obs, terminated)
            if self.n > 32:
                self.learn(*self.sample(12))
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()


class Adapter:
    observation_size = 4

    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma

    def q_values(self, obs):
        return np.array([self.agent.q(o) for o in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated))

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DoubleTiles(2, seed))
