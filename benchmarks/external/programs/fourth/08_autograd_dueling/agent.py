"""Dueling DQN on a micro autograd engine."""
import random

import numpy as np


class Tensor:
    def __init__(self, data, parents=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = None
        self.parents = parents
        self._backward = lambda: None

    def _accumulate(self, g):
        while g.ndim > self.data.ndim:
            g = g.sum(axis=0)
        for axis, n in enumerate(self.data.shape):
            if n == 1 and g.shape[axis] != 1:
                g = g.sum(axis=axis, keepdims=True)
        self.grad = g if self.grad is None else self.grad + g

    def __add__(self, other):
        other = other if isinstance(other, Tensor) else Tensor(other)
        out = Tensor(self.data + other.data, (self, other))

        def backward():
            self._accumulate(out.grad)
            other._accumulate(out.grad)
        out._backward = backward
        return out

    def __mul__(self, other):
        other = other if isinstance(other, Tensor) else Tensor(other)
        out = Tensor(self.data * other.data, (self, other))

        def backward():
            self._accumulate(out.grad * other.data)
            other._accumulate(out.grad * self.data)
        out._backward = backward
        return out

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + (-other if isinstance(other, Tensor) else Tensor(-np.asarray(other)))

    def __matmul__(self, other):
        out = Tensor(self.data @ other.data, (self, other))

        def backward():
            self.grad = out.grad @ other.data.T
            other.grad = self.data.T @ out.grad
        out._backward = backward
        return out

    def relu(self):
        out = Tensor(np.maximum(self.data, 0), (self,))

        def backward():
            self._accumulate(out.grad * (self.data > 0))
        out._backward = backward
        return out

    def mean(self, axis=None, keepdims=False):
        out = Tensor(self.data.mean(axis=axis, keepdims=keepdims), (self,))
        count = self.data.size / out.data.size

        def backward():
            g = out.grad
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            self._accumulate(np.broadcast_to(g, self.data.shape) / count)
        out._backward = backward
        return out

    def pick(self, index):
        rows = np.arange(len(index))
        out = Tensor(self.data[rows, index], (self,))

        def backward():
            g = np.zeros_like(self.data)
            g[rows, index] = out.grad
            self._accumulate(g)
        out._backward = backward
        return out

    def backward(self):
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent in node.parents:
                    visit(parent)
                order.append(node)
        visit(self)
        self.grad = np.ones_like(self.data)
        for node in reversed(order):
            node._backward()


class DuelingNet:
    def __init__(self, n_in, n_actions, hidden=64, seed=0):
        rng = np.random.default_rng(seed)
        self.p = {}
        for name, m, n in (("body", n_in, hidden), ("body2", hidden, hidden), ("value", hidden, 1),
                           ("adv", hidden, n_actions)):
            self.p[name + ".w"] = Tensor(rng.normal(0, np.sqrt(2 / m), (m, n)))
            self.p[name + ".b"] = Tensor(np.zeros(n))

    def layer(self, x, name):
        return x @ self.p[name + ".w"] + self.p[name + ".b"]

    def __call__(self, x):
        h = self.layer(Tensor(x), "body").relu()
        h = self.layer(h, "body2").relu()
        value, adv = self.layer(h, "value"), self.layer(h, "adv")
        return value + (adv - adv.mean(axis=1, keepdims=True))


class Adam:
    def __init__(self, params, lr):
        self.params, self.lr, self.t = params, lr, 0
        self.state = [(np.zeros_like(p.data), np.zeros_like(p.data)) for p in params]

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def step(self):
        self.t += 1
        correction = np.sqrt(1 - 0.999 ** self.t) / (1 - 0.9 ** self.t)
        for p, (m, v) in zip(self.params, self.state):
            m[...] = 0.9 * m + 0.1 * p.grad
            v[...] = 0.999 * v + 0.001 * p.grad ** 2
            p.data = p.data - self.lr * correction * m / (np.sqrt(v) + 1e-8)


class DQN:
    def __init__(self, n_in, n_actions, seed=0):
        self.gamma, self.batch_size, self.n_actions = 0.99, 32, n_actions
        self.online = DuelingNet(n_in, n_actions, seed=seed)
        self.target = DuelingNet(n_in, n_actions, seed=seed + 1)
        self.sync()
        self.optimizer = Adam(list(self.online.p.values()), lr=5e-4)
        self.memory, self.capacity, self.cursor = [], 20000, 0
        self.random = random.Random(seed)

    def sync(self):
        for name, p in self.online.p.items():
            self.target.p[name].data = p.data.copy()

    def push(self, *transition):
        if len(self.memory) < self.capacity:
            self.memory.append(transition)
        else:
            self.memory[self.cursor] = transition
        self.cursor = (self.cursor + 1) % self.capacity

    def sample(self, n):
        return [np.array(x) for x in zip(*self.random.sample(self.memory, n))]

    def act(self, s, eps):
        if self.random.random() < eps:
            return self.random.randrange(self.n_actions)
        return int(self.online(s[None]).data.argmax())

    def update(self, s, a, r, s2, done):
        y = r + self.gamma * (1 - done.astype(float)) * self.target(s2).data.max(axis=1)
        diff = self.online(s).pick(a) - y
        loss = (diff * diff).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.data)

    def run(self, env, steps):
        s, _ = env.reset()
        ret, rets = 0.0, []
        for t in range(steps):
            a = self.act(s, max(0.03, 1 - t / 2500))
            s2, r, terminated, truncated, _ = env.step(a)
            self.push(s, a, r, s2, terminated)
            ret += r
            s = s2
            if terminated or truncated:
                rets.append(ret)
                ret = 0.0
                s, _ = env.reset()
            if t >= 100:
                self.update(*self.sample(self.batch_size))
            if t % 300 == 0:
                self.sync()
        return rets


class Adapter:
    def __init__(self, seed):
        self.dqn = DQN(4, 2, seed)
        self.gamma, self.observation_size = self.dqn.gamma, 4

    def q_values(self, obs):
        return self.dqn.online(obs).data

    def target_q_values(self, obs):
        return self.dqn.target(obs).data

    def sync_target(self):
        self.dqn.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.update(obs, action, reward, next_obs, np.asarray(terminated))

    def act(self, obs, epsilon):
        return self.dqn.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.dqn.sample(n)

    def run(self, env, env_steps):
        return self.dqn.run(env, env_steps)

    def parameters(self):
        return {name: p.data for name, p in self.dqn.online.p.items()}

    def target_parameters(self):
        return {name: p.data for name, p in self.dqn.target.p.items()}


def make(seed=0):
    return Adapter(seed)
