"""Deep Q-learning with a plain NumPy MLP (weights kept in lists)."""
import random
from collections import deque

import numpy as np


class QNetwork:
    def __init__(self, sizes, lr=5e-4, seed=0):
        rng = np.random.default_rng(seed)
        self.lr = lr
        self.W = [rng.normal(0.0, np.sqrt(2.0 / m), (m, n)) for m, n in zip(sizes[:-1], sizes[1:])]
        self.b = [np.zeros(n) for n in sizes[1:]]
        self.W[-1] *= 0.1
        self.W_target, self.b_target = self.W[:], self.b[:]
        # Adam state
        self.t = 0
        self.mW = [np.zeros_like(w) for w in self.W]
        self.vW = [np.zeros_like(w) for w in self.W]
        self.mb = [np.zeros_like(b) for b in self.b]
        self.vb = [np.zeros_like(b) for b in self.b]

    def _run(self, x, W, b):
        activations = [x]
        for i, (w, bias) in enumerate(zip(W, b)):
            x = x @ w + bias
            if i < len(W) - 1:
                x = np.maximum(x, 0.0)
            activations.append(x)
        return activations

    def predict(self, x):
        return self._run(x, self.W, self.b)[-1]

    def predict_target(self, x):
        return self._run(x, self.W_target, self.b_target)[-1]

    def update_target(self):
        self.W_target = self.W[:]
        self.b_target = self.b[:]

    def _adam(self, p, g, m, v, beta1=0.9, beta2=0.999, eps=1e-8):
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        m_hat = m / (1 - beta1 ** self.t)
        v_hat = v / (1 - beta2 ** self.t)
        p -= self.lr * m_hat / (np.sqrt(v_hat) + eps)

    def train(self, x, actions, targets):
        acts = self._run(x, self.W, self.b)
        n = len(x)
        rows = np.arange(n)
        delta = np.zeros_like(acts[-1])
        delta[rows, actions] = 2.0 * (acts[-1][rows, actions] - targets) / n
        gW, gb = [], []
        for i in reversed(range(len(self.W))):
            gW.insert(0, acts[i].T @ delta)
            gb.insert(0, delta.sum(axis=0))
            if i > 0:
                delta = (delta @ self.W[i].T) * (acts[i] > 0)
        self.t += 1
        for i in range(len(self.W)):
            self._adam(self.W[i], gW[i], self.mW[i], self.vW[i])
            self._adam(self.b[i], gb[i], self.mb[i], self.vb[i])


class DQNAgent:
    def __init__(self, n_obs, n_actions, seed=0):
        self.gamma = 0.99
        self.n_actions = n_actions
        self.batch_size = 64
        self.epsilon, self.epsilon_min, self.epsilon_decay = 1.0, 0.02, 0.9995
        self.sync_every = 500
        self.memory = deque(maxlen=50_000)
        self.random = random.Random(seed)
        self.net = QNetwork([n_obs, 64, 64, n_actions], seed=seed)
        self.updates = 0

    def act(self, state, epsilon):
        if self.random.random() < epsilon:
            return self.random.randrange(self.n_actions)
        return int(np.argmax(self.net.predict(state[None])[0]))

    def remember(self, *transition):
        self.memory.append(transition)

    def sample(self, n):
        batch = self.random.sample(self.memory, n)
        s, a, r, s2, d = zip(*batch)
        return np.array(s), np.array(a), np.array(r, dtype=float), np.array(s2), np.array(d, dtype=float)

    def learn(self, s, a, r, s2, d):
        target = r + self.gamma * (1.0 - d) * self.net.predict_target(s2).max(axis=1)
        self.net.train(s, a, target)
        self.updates += 1
        if self.updates % self.sync_every == 0:
            self.net.update_target()

    def train(self, env, steps):
        returns, total = [], 0.0
        state, _ = env.reset()
        for step in range(steps):
            action = self.act(state, self.epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.remember(state, action, reward, next_state, terminated)
            state = next_state
            total += reward
            if terminated or truncated:
                state, _ = env.reset()
                returns.append(total)
                total = 0.0
            if len(self.memory) >= self.batch_size:
                self.learn(*self.sample(self.batch_size))
            self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)
        return returns


class Adapter:
    def __init__(self, seed, n_obs=4, n_actions=2):
        self.agent = DQNAgent(n_obs, n_actions, seed)
        self.gamma = self.agent.gamma
        self.observation_size = n_obs

    def q_values(self, obs):
        return self.agent.net.predict(obs)

    def target_q_values(self, obs):
        return self.agent.net.predict_target(obs)

    def sync_target(self):
        self.agent.net.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(seed)
