"""Double Q-learning (van Hasselt, 2010) with two tile-coded estimates, updated at random."""
import numpy as np


class Tilings:
    """Asymmetric tilings over a box; observations outside the box belong to its border tiles."""

    def __init__(self, low, high, n_tilings, n_tiles):
        self.low = np.asarray(low, dtype=float)
        self.width = (np.asarray(high, dtype=float) - self.low) / n_tiles
        self.n_tilings, self.n_tiles = n_tilings, n_tiles
        d = len(self.low)
        steps = np.arange(1, 2 * d, 2)
        self.shift = np.array([(t * steps % n_tilings) / n_tilings for t in range(n_tilings)])
        self.strides = (n_tiles + 1) ** np.arange(d)
        self.block = (n_tiles + 1) ** d
        self.n_features = n_tilings * self.block

    def active(self, obs):
        position = np.clip((obs - self.low) / self.width, 0, self.n_tiles - 1e-6)
        cells = (position + self.shift).astype(int)
        return cells @ self.strides + self.block * np.arange(self.n_tilings)


class DoubleQ:
    def __init__(self, low, high, n_actions, gamma=0.98, step_size=0.4, n_tilings=8, n_tiles=5, seed=0):
        self.tilings = Tilings(low, high, n_tilings, n_tiles)
        self.n_actions, self.gamma = n_actions, gamma
        self.alpha = step_size / n_tilings
        self.wa = np.zeros((n_actions, self.tilings.n_features))
        self.wb = np.zeros((n_actions, self.tilings.n_features))
        self.rng = np.random.default_rng(seed)

    def estimate(self, w, obs):
        return w[:, self.tilings.active(obs)].sum(axis=1)

    def q(self, obs):
        return 0.5 * (self.estimate(self.wa, obs) + self.estimate(self.wb, obs))

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        q = self.q(obs)
        best = np.flatnonzero(q >= q.max() - 1e-12)
        return int(best[0]) if len(best) == 1 else int(self.rng.choice(best))

    def step(self, obs, action, reward, next_obs, terminated):
        first, second = (self.wa, self.wb) if self.rng.random() < 0.5 else (self.wb, self.wa)
        target = float(reward)
        if not terminated:
            best = int(np.argmax(self.estimate(first, next_obs)))
            target += self.gamma * self.estimate(second, next_obs)[best]
        tiles = self.tilings.active(obs)
        first[action, tiles] += self.alpha * (target - first[action, tiles].sum())

    def run(self, env, n_steps, epsilon=0.2):
        totals, total = [], 0.0
        obs, _ = env.reset()
        for _ in range(n_steps):
            action = self.act(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.step(obs, action, reward, next_obs, terminated)
            total += reward
            obs = next_obs
            if terminated or truncated:
                totals.append(total)
                total = 0.0
                epsilon = max(0.01, 0.99 * epsilon)
                obs, _ = env.reset()
        return totals


class Adapter:
    online = True

    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = len(agent.tilings.low)

    def q_values(self, obs):
        return np.array([self.agent.q(o) for o in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for i in range(len(action)):
            self.agent.step(obs[i], int(action[i]), reward[i], next_obs[i], bool(terminated[i]))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(DoubleQ([-2.4, -3.0, -0.21, -3.0], [2.4, 3.0, 0.21, 3.0], 2, seed=seed))
