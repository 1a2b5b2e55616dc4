"""Online Q-learning with tile coding (Sutton and Barto, chapter 9.5.4)."""
import numpy as np


class TileCoder:
    def __init__(self, low, high, tilings=8, bins=6):
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        self.tilings, self.bins, self.dims = tilings, bins, len(low)
        self.per_tiling = (bins + 1) ** self.dims
        self.size = tilings * self.per_tiling
        displacement = 2 * np.arange(self.dims) + 1
        self.offsets = (np.arange(tilings)[:, None] * displacement[None, :] % tilings) / tilings
        self.radix = (bins + 1) ** np.arange(self.dims)

    def __call__(self, obs):
        scaled = np.clip((obs - self.low) / (self.high - self.low), 0, 1 - 1e-9) * self.bins
        cells = np.floor(scaled[None, :] + self.offsets).astype(int)
        return cells @ self.radix + np.arange(self.tilings) * self.per_tiling


class TileQLearner:
    def __init__(self, low, high, n_actions, alpha=0.2, gamma=0.99, epsilon=0.1, seed=0):
        self.coder = TileCoder(low, high)
        self.n_actions = n_actions
        self.alpha = alpha / self.coder.tilings
        self.gamma = gamma
        self.epsilon = epsilon
        self.rng = np.random.default_rng(seed)
        self.weights = np.zeros((self.coder.size, n_actions))

    def values(self, obs):
        return self.weights[self.coder(obs)].sum(axis=0)

    def choose(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        q = self.values(obs)
        return int(self.rng.choice(np.flatnonzero(q == q.max())))

    def learn(self, obs, action, reward, next_obs, terminated):
        tiles = self.coder(obs)
        q = self.weights[tiles, action].sum()
        target = reward
        if not terminated:
            target += self.gamma * self.values(next_obs)[action]
        self.weights[tiles, action] += self.alpha * (target - q)
        return target - q

    def run(self, env, steps):
        lengths, t = [], 0
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.choose(obs, self.epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.learn(obs, action, reward, next_obs, terminated)
            obs = next_obs
            t += 1
            if terminated or truncated:
                lengths.append(t)
                t = 0
                self.epsilon = max(0.01, self.epsilon * 0.995)
                obs, _ = env.reset()
        return lengths


class Adapter:
    online = True

    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.coder.dims

    def q_values(self, obs):
        return np.array([self.agent.values(o) for o in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for transition in zip(obs, action, reward, next_obs, terminated):
            self.agent.learn(*transition)

    def act(self, obs, epsilon):
        return self.agent.choose(obs, epsilon)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    low, high = [-2.4, -3.0, -0.21, -3.0], [2.4, 3.0, 0.21, 3.0]
    return Adapter(TileQLearner(low, high, 2, seed=seed))
