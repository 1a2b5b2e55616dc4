"""Prioritized replay (proportional, sum tree) and a log-cosh loss."""
import numpy as np


class SumTree:
    def __init__(self, capacity):
        self.capacity = capacity
        self.nodes = np.zeros(2 * capacity)

    def set(self, leaf, value):
        i = leaf + self.capacity
        self.nodes[i] = value
        i //= 2
        while i >= 1:
            self.nodes[i] = self.nodes[2 * i] + self.nodes[2 * i + 1]
            i //= 2

    @property
    def total(self):
        return self.nodes[1]

    def find(self, mass):
        i = 1
        while i < self.capacity:
            i *= 2
            if mass > self.nodes[i]:
                mass -= self.nodes[i]
                i += 1
        return i - self.capacity


class PrioritizedMemory:
    def __init__(self, capacity, rng, alpha=0.6):
        self.capacity, self.rng, self.alpha = capacity, rng, alpha
        self.tree = SumTree(capacity)
        self.data = [None] * capacity
        self.next, self.size = 0, 0
        self.max_priority = 1.0

    def add(self, item):
        self.data[self.next] = item
        self.tree.set(self.next, self.max_priority)
        self.next = (self.next + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n, beta):
        segment = self.tree.total / n
        masses = (np.arange(n) + self.rng.random(n)) * segment
        leaves = np.array([min(self.tree.find(m), self.size - 1) for m in masses])
        p = self.tree.nodes[leaves + self.capacity] / self.tree.total
        weights = (self.size * p) ** -beta
        weights /= weights.max()
        columns = [np.array(c) for c in zip(*[self.data[i] for i in leaves])]
        return leaves, weights, columns

    def update(self, leaves, errors):
        for leaf, e in zip(leaves, (np.abs(errors) + 1e-3) ** self.alpha):
            self.tree.set(leaf, e)
            self.max_priority = max(self.max_priority, e)


class PERAgent:
    def __init__(self, n_obs, n_actions, seed=0, gamma=0.98, lr=1e-3, hidden=96):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions, self.gamma, self.lr = n_obs, n_actions, gamma, lr
        self.net = [
            self.rng.normal(0, np.sqrt(2 / n_obs), (n_obs, hidden)), np.zeros(hidden),
            self.rng.normal(0, np.sqrt(1 / hidden), (hidden, n_actions)), np.zeros(n_actions),
        ]
        self.m = [np.zeros_like(p) for p in self.net]
        self.v = [np.zeros_like(p) for p in self.net]
        self.step_count = 0
        self.memory = PrioritizedMemory(2 ** 14, self.rng)
        self.copy_to_target()

    def copy_to_target(self):
        self.target_net = [p.copy() for p in self.net]

    @staticmethod
    def q(obs, net):
        return np.maximum(obs @ net[0] + net[1], 0) @ net[2] + net[3]

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.q(obs, self.net).argmax())

    def update(self, obs, action, reward, next_obs, terminated, weights):
        y = reward + self.gamma * (1 - terminated) * self.q(next_obs, self.target_net).max(axis=1)
        W1, b1, W2, b2 = self.net
        h = np.maximum(obs @ W1 + b1, 0)
        q = h @ W2 + b2
        rows = np.arange(len(action))
        error = q[rows, action] - y
        dq = np.zeros_like(q)
        dq[rows, action] = weights * np.tanh(error) / len(action)
        dh = dq @ W2.T * (h > 0)
        self.adam([obs.T @ dh, dh.sum(0), h.T @ dq, dq.sum(0)])
        if self.step_count % 200 == 0:
            self.copy_to_target()
        return error

    def adam(self, grads):
        self.step_count += 1
        c1, c2 = 1 - 0.9 ** self.step_count, 1 - 0.999 ** self.step_count
        for p, g, m, v in zip(self.net, grads, self.m, self.v):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= self.lr * (m / c1) / (np.sqrt(v / c2) + 1e-8)

    def train(self, env, steps, batch_size=48):
        scores, score = [], 0.0
        obs, _ = env.reset()
        for t in range(steps):
            action = self.act(obs, max(0.04, 1 - t / 3000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.add((obs, action, reward, next_obs, float(terminated)))
            score += reward
            obs = next_obs
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
            if self.memory.size >= 100:
                beta = min(1.0, 0.4 + 0.6 * t / steps)
                leaves, weights, columns = self.memory.sample(batch_size, beta)
                self.memory.update(leaves, self.update(*columns, weights))
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_obs

    def q_values(self, obs):
        return self.agent.q(obs, self.agent.net)

    def target_q_values(self, obs):
        return self.agent.q(obs, self.agent.target_net)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=float), np.ones(len(action)))

    def sync_target(self):
        self.agent.copy_to_target()

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.add((obs, action, reward, next_obs, float(terminated)))

    def sample(self, n):
        return self.agent.memory.sample(n, 0.4)[2]

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(PERAgent(4, 2, seed=seed))
