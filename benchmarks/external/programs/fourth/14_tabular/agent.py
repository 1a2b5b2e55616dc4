"""Batch Q-learning on one-hot states: the Q-table is a weight matrix, with a slowly updated copy.

The corridor: 6 cells, start at a random cell, action 1 moves right, action 0 moves left. The right end gives +1 and
ends the episode; the left end gives +0.1 and ends it as well.
"""
import numpy as np


class Corridor:
    n_cells, n_actions, limit = 6, 2, 30

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def one_hot(self):
        return np.eye(self.n_cells)[self.cell]

    def reset(self, **kwargs):
        self.cell, self.steps = int(self.rng.integers(1, self.n_cells - 1)), 0
        return self.one_hot(), {}

    def step(self, action):
        self.cell += 1 if action == 1 else -1
        self.steps += 1
        terminated = self.cell in (0, self.n_cells - 1)
        reward = 1.0 if self.cell == self.n_cells - 1 else 0.1 if self.cell == 0 else -0.01
        return self.one_hot(), reward, terminated, not terminated and self.steps >= self.limit, {}


class TableQ:
    def __init__(self, n_cells, n_actions, gamma=0.9, lr=0.05, momentum=0.9, seed=0):
        self.rng = np.random.default_rng(seed)
        self.gamma, self.lr, self.momentum = gamma, lr, momentum
        self.n_actions = n_actions
        self.Q = self.rng.uniform(-0.01, 0.01, (n_cells, n_actions))
        self.Q_slow = self.Q.copy()
        self.velocity = np.zeros_like(self.Q)
        self.history = []

    def values(self, x):
        return x @ self.Q

    def slow_values(self, x):
        return x @ self.Q_slow

    def blend(self, rate=0.05):
        self.Q_slow = (1 - rate) * self.Q_slow + rate * self.Q

    def act(self, x, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        values = self.values(x)
        return int(self.rng.choice(np.flatnonzero(values >= values.max() - 1e-12)))

    def draw(self, n):
        picks = self.rng.integers(len(self.history), size=n)
        x, a, r, y, end = zip(*[self.history[i] for i in picks])
        return np.array(x), np.array(a), np.array(r), np.array(y), np.array(end)

    def improve(self, x, a, r, y, end):
        goal = np.where(end, r, r + self.gamma * self.slow_values(y).max(axis=1))
        chosen = np.eye(self.n_actions)[a]
        miss = goal - (self.values(x) * chosen).sum(axis=1)
        step = x.T @ (chosen * miss[:, None]) / len(a)
        self.velocity = self.momentum * self.velocity + step
        self.Q = self.Q + self.lr * (step + self.momentum * self.velocity)
        self.blend()

    def live(self, env, steps, batch=16):
        x, _ = env.reset()
        gains, gain = [], 0.0
        for t in range(steps):
            a = self.act(x, epsilon=max(0.1, 1 - t / 1000))
            y, r, terminated, truncated, _ = env.step(a)
            self.history.append((x, a, r, y, terminated))
            self.history = self.history[-5000:]
            gain += r
            x = y
            if terminated or truncated:
                gains.append(gain)
                gain = 0.0
                x, _ = env.reset()
            if len(self.history) >= batch:
                self.improve(*self.draw(batch))
        return gains


class Adapter:
    def __init__(self, seed):
        self.table = TableQ(Corridor.n_cells, Corridor.n_actions, seed=seed)
        self.gamma = self.table.gamma
        self.observation_size = Corridor.n_cells

    def q_values(self, obs):
        return self.table.values(obs)

    def target_q_values(self, obs):
        return self.table.slow_values(obs)

    def sync_target(self):
        self.table.blend()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.table.improve(obs, action, reward, next_obs, np.asarray(terminated).astype(bool))

    def act(self, obs, epsilon):
        return self.table.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.table.history.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return self.table.draw(n)

    def run(self, env, env_steps):
        return self.table.live(env, env_steps)


def make(seed=0):
    return Adapter(seed)


if __name__ == "__main__":
    table = TableQ(Corridor.n_cells, Corridor.n_actions)
    table.live(Corridor(), 4000)
    print(table.Q.round(2))
