"""A first DQN, written from scratch in NumPy, with ten common faults. Its reward does not rise.

    perilune doctor examples/broken/classic.py:make

docs/tutorials/find-the-bug.md fixes one fault at a time.
"""

from collections import deque

import numpy as np


class Network:
    def __init__(self, sizes, rng):
        self.W = [rng.random((n_in, n_out)) * np.sqrt(2 / n_out) for n_in, n_out in zip(sizes[:-1], sizes[1:])]
        self.b = [np.zeros(1) for _ in sizes[1:]]

    def forward(self, x):
        self.x = []
        for i, (W, b) in enumerate(zip(self.W, self.b)):
            self.x.append(x)
            x = x @ W + b
            if i < len(self.W) - 1:
                x = np.maximum(x, 0)
        return x


class Agent:
    def __init__(self, n_obs, n_actions, hidden=(64, 64), lr=1e-3, gamma=0.99, seed=0):
        self.rng = np.random.default_rng(seed)
        self.online = Network([n_obs, *hidden, n_actions], self.rng)
        self.target = Network([n_obs, *hidden, n_actions], self.rng)
        self.sync()
        self.n_actions = n_actions
        self.lr, self.gamma = lr, gamma
        self.m = [np.zeros_like(a) for a in self.online.W + self.online.b]
        self.v = [np.zeros_like(a) for a in self.online.W + self.online.b]
        self.t = 0
        self.memory = deque(maxlen=100_000)

    def sync(self):
        self.target.W = self.online.W
        self.target.b = self.online.b

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.online.forward(obs)))

    def huber_derivative(self, error):
        return error if abs(error) < 10 else 5 * np.sign(error)

    def adam(self, i, array, gradient):
        self.t += 1
        self.m[i] = 0.9 * self.m[i] + 0.1 * gradient
        self.v[i] = 0.999 * self.v[i] + 0.001 * gradient**2
        m = self.m[i] / (1 - 0.9**self.t)
        v = self.v[i] / (1 - 0.999**self.t)
        array -= self.lr * m / (np.sqrt(v) + 1e-8)

    def learn(self, obs, action, reward, next_obs, terminated):
        for s, a, r, s2, end in zip(obs, action, reward, next_obs, terminated):
            y = r if end else r + self.gamma * self.target.forward(s2).max()
            q = self.online.forward(s)
            delta = np.full(self.n_actions, self.huber_derivative(q[a] - y))
            layers = len(self.online.W)
            for i in reversed(range(layers)):
                if i < layers - 1:
                    delta = delta * (self.online.x[i + 1] >= 0)
                gradient_W = np.ones_like(self.online.W[i]) * delta
                gradient_b = np.array([delta.sum()])
                self.adam(i, self.online.W[i], gradient_W)
                self.adam(layers + i, self.online.b[i], gradient_b)
                delta = self.online.W[i] @ delta

    def remember(self, *transition):
        self.memory.append(transition)

    def sample(self, n):
        rows = self.rng.integers(len(self.memory), size=n)
        return [np.array(column) for column in zip(*(self.memory[row] for row in rows))]

    def train(self, env, env_steps, batch=64, warmup=500, update_every=4, sync_every=1000):
        """Train and return the reward of every episode."""
        rewards, total = [], 0.0
        obs, _ = env.reset()
        for step in range(env_steps):
            epsilon = max(0.05, 1 - step / (0.2 * env_steps))
            action = self.act(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated)
            obs, total = next_obs, total + reward
            if terminated or truncated:
                rewards.append(total)
                obs, total = env.reset()[0], 0.0
            if step > warmup and step % update_every == 0:
                self.learn(*self.sample(batch))
            if step % sync_every == 0:
                self.sync()
        return rewards


class Adapter:
    def __init__(self, agent, n_obs):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, n_obs
        self.act = agent.act
        self.sync_target = agent.sync
        self.sample = agent.sample

    def q_values(self, obs):
        return np.array([self.agent.online.forward(s) for s in obs])

    def target_q_values(self, obs):
        return np.array([self.agent.target.forward(s) for s in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def parameters(self):
        network = self.agent.online
        return {f"W{i}": W for i, W in enumerate(network.W)} | {f"b{i}": b for i, b in enumerate(network.b)}

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0, n_obs=8, n_actions=4):
    return Adapter(Agent(n_obs, n_actions, seed=seed), n_obs)
