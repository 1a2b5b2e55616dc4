import random

import numpy as np


class Adam:
    def __init__(self, shapes, lr):
        self.lr = lr
        self.m = [np.zeros(s) for s in shapes]
        self.v = [np.zeros(s) for s in shapes]
        self.k = 0

    def update(self, params, grads):
        self.k += 1
        for p, g, m, v in zip(params, grads, self.m, self.v):
            m[...] = 0.9 * m + 0.1 * g
            v[...] = 0.999 * v + 0.001 * g ** 2
            p -= self.lr * (m / (1 - 0.9 ** self.k)) / (np.sqrt(v / (1 - 0.999 ** self.k)) + 1e-8)


class QLearner:
    """Two tanh layers, target network by Polyak averaging."""

    def __init__(self, n_obs, n_act, seed=0, gamma=0.9, tau=0.02, lr=2e-3, units=48):
        self.np_random = np.random.RandomState(seed)
        self.random = random.Random(seed)
        self.n_obs, self.n_act = n_obs, n_act
        self.gamma, self.tau = gamma, tau
        dims = [n_obs, units, units, n_act]
        self.theta = []
        for i, o in zip(dims, dims[1:]):
            self.theta.append(self.np_random.randn(i, o) / np.sqrt(i))
            self.theta.append(np.zeros(o))
        self.theta_minus = [p.copy() for p in self.theta]
        self.opt = Adam([p.shape for p in self.theta], lr)
        self.experience = []
        self.max_experience = 10_000
        self.eps = 1.0

    def evaluate(self, obs, theta):
        W1, b1, W2, b2, W3, b3 = theta
        h1 = np.tanh(obs @ W1 + b1)
        h2 = np.tanh(h1 @ W2 + b2)
        return h1, h2, h2 @ W3 + b3

    def q(self, obs):
        return self.evaluate(obs, self.theta)[2]

    def q_target(self, obs):
        return self.evaluate(obs, self.theta_minus)[2]

    def pick(self, obs, eps):
        if self.random.random() < eps:
            return self.random.randint(0, self.n_act - 1)
        return int(self.q(np.reshape(obs, (1, -1))).argmax())

    def add(self, *step):
        if len(self.experience) >= self.max_experience:
            self.experience.pop(0)
        self.experience.append(step)

    def minibatch(self, n):
        rows = self.random.choices(self.experience, k=n)
        return [np.asarray(c) for c in zip(*rows)]

    def fit(self, s, a, r, s_next, terminal):
        alive = 1.0 - terminal.astype(float)
        target = self.gamma * (r + alive * self.q_target(s_next).max(axis=1))
        h1, h2, q = self.evaluate(s, self.theta)
        W1, b1, W2, b2, W3, b3 = self.theta
        rows = np.arange(len(a))
        dq = np.zeros_like(q)
        dq[rows, a] = (q[rows, a] - target) / len(a)
        dz2 = dq @ W3.T * (1 - h2 ** 2)
        dz1 = dz2 @ W2.T * (1 - h1 ** 2)
        grads = [s.T @ dz1, dz1.sum(0), h1.T @ dz2, dz2.sum(0), h2.T @ dq, dq.sum(0)]
        self.opt.update(self.theta, grads)
        self.track()

    def track(self):
        self.theta_minus = [(1 - self.tau) * t + self.tau * p for t, p in zip(self.theta_minus, self.theta)]

    def loop(self, env, total, batch=32):
        lengths, length = [], 0
        s, _ = env.reset()
        for _ in range(total):
            a = self.pick(s, self.eps)
            s_next, r, terminated, truncated, _ = env.step(a)
            self.add(s, a, r, s_next, terminated)
            length += 1
            s = s_next
            if terminated or truncated:
                lengths.append(length)
                length = 0
                s, _ = env.reset()
            if len(self.experience) > 4 * batch:
                self.fit(*self.minibatch(batch))
                self.eps = max(0.05, self.eps - 2e-4)
        return lengths


class Adapter:
    def __init__(self, learner):
        self.learner = learner
        self.gamma = learner.gamma
        self.observation_size = learner.n_obs

    def q_values(self, obs):
        return self.learner.q(obs)

    def target_q_values(self, obs):
        return self.learner.q_target(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.fit(obs, action, reward, next_obs, np.asarray(terminated))

    def sync_target(self):
        self.learner.track()

    def act(self, obs, epsilon):
        return self.learner.pick(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.learner.minibatch(n)

    def run(self, env, env_steps):
        return self.learner.loop(env, env_steps)


def make(seed=0):
    return Adapter(QLearner(4, 2, seed=seed))
