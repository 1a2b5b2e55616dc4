"""A tiny neural network library and a Double DQN with soft target updates on top of it."""
import copy

import numpy as np


class Param:
    def __init__(self, value):
        self.value = value
        self.grad = np.zeros_like(value)


class Dense:
    def __init__(self, n_in, n_out, rng):
        self.weight = Param(rng.normal(0, 1 / np.sqrt(n_in), (n_in, n_out)))
        self.bias = Param(np.zeros(n_out))

    def forward(self, x):
        self.x = x
        return x @ self.weight.value + self.bias.value

    def backward(self, grad):
        self.weight.grad += self.x.T @ grad
        self.bias.grad += grad.sum(axis=0)
        return grad @ self.weight.value.T

    def params(self):
        return [self.weight, self.bias]


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, grad):
        return grad * (1 - self.y ** 2)

    def params(self):
        return []


class Sequential:
    def __init__(self, *layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad):
        for layer in reversed(self.layers):
            grad = layer.backward(grad)

    def params(self):
        return [p for layer in self.layers for p in layer.params()]

    def zero_grad(self):
        for p in self.params():
            p.grad[...] = 0


class AdamW:
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4):
        self.params, self.lr, self.betas, self.eps, self.wd = params, lr, betas, eps, weight_decay
        self.m = [np.zeros_like(p.value) for p in params]
        self.v = [np.zeros_like(p.value) for p in params]
        self.t = 0

    def step(self):
        self.t += 1
        b1, b2 = self.betas
        for p, m, v in zip(self.params, self.m, self.v):
            m *= b1
            m += (1 - b1) * p.grad
            v *= b2
            v += (1 - b2) * p.grad ** 2
            update = (m / (1 - b1 ** self.t)) / (np.sqrt(v / (1 - b2 ** self.t)) + self.eps)
            p.value -= self.lr * (update + self.wd * p.value)


class ReplayBuffer:
    def __init__(self, capacity, n_obs, rng):
        self.capacity, self.rng = capacity, rng
        self.s = np.zeros((capacity, n_obs))
        self.a = np.zeros(capacity, dtype=np.int64)
        self.r = np.zeros(capacity)
        self.s2 = np.zeros((capacity, n_obs))
        self.done = np.zeros(capacity)
        self.i = self.size = 0

    def add(self, s, a, r, s2, done):
        i = self.i
        self.s[i], self.a[i], self.r[i], self.s2[i], self.done[i] = s, a, r, s2, done
        self.i = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n):
        k = self.rng.integers(self.size, size=n)
        return self.s[k], self.a[k], self.r[k], self.s2[k], self.done[k]


class DoubleDQN:
    def __init__(self, n_obs, n_actions, seed=0, gamma=0.98, tau=0.01):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions, self.gamma, self.tau = n_obs, n_actions, gamma, tau
        self.net = Sequential(
            Dense(n_obs, 64, self.rng), Tanh(), Dense(64, 64, self.rng), Tanh(), Dense(64, n_actions, self.rng)
        )
        self.target = copy.deepcopy(self.net)
        self.opt = AdamW(self.net.params(), lr=1e-3)
        self.buffer = ReplayBuffer(20_000, n_obs, self.rng)

    def act(self, obs, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(self.net.forward(obs[None]).argmax())

    def soft_update(self, tau):
        for p, tp in zip(self.net.params(), self.target.params()):
            tp.value += tau * (p.value - tp.value)

    def update(self, s, a, r, s2, done):
        rows = np.arange(len(a))
        best = self.net.forward(s2).argmax(axis=1)
        y = r + self.gamma * (1 - done) * self.target.forward(s2)[rows, best]
        q = self.net.forward(s)
        diff = q[rows, a] - y
        grad = np.zeros_like(q)
        grad[rows, a] = np.where(np.abs(diff) <= 1, diff, np.sign(diff)) / len(a)
        self.net.zero_grad()
        self.net.backward(grad)
        self.opt.step()
        self.soft_update(self.tau)

    def fit(self, env, steps, batch_size=64, warmup=200):
        returns, ret = [], 0.0
        obs, _ = env.reset()
        for t in range(steps):
            action = self.act(obs, max(0.05, 1 - t / 4000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.buffer.add(obs, action, reward, next_obs, terminated)
            obs = next_obs
            ret += reward
            if terminated or truncated:
                returns.append(ret)
                ret = 0.0
                obs, _ = env.reset()
            if self.buffer.size >= min(warmup, steps // 4):
                self.update(*self.buffer.sample(batch_size))
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.n_obs

    def q_values(self, obs):
        return self.agent.net.forward(obs)

    def target_q_values(self, obs):
        return self.agent.target.forward(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def sync_target(self):
        self.agent.soft_update(self.agent.tau)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.buffer.sample(n)

    def run(self, env, env_steps):
        return self.agent.fit(env, env_steps)


def make(seed=0):
    return Adapter(DoubleDQN(4, 2, seed))
