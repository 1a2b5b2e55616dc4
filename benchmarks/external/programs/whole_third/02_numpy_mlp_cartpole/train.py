import random
import pickle

import numpy as np
import gymnasium as gym
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

np.random.seed(3)
random.seed(3)


class MLP:
    """4 -> 64 -> 64 -> 2 network, everything by hand."""

    def __init__(self, n_in, n_hidden, n_out):
        self.W1 = np.random.randn(n_in, n_hidden) * np.sqrt(2.0 / n_in)
        self.b1 = np.zeros(n_hidden)
        self.W2 = np.random.randn(n_hidden, n_hidden) * np.sqrt(2.0 / n_hidden)
        self.b2 = np.zeros(n_hidden)
        self.W3 = np.random.randn(n_hidden, n_out) * np.sqrt(1.0 / n_hidden)
        self.b3 = np.zeros(n_out)

    @property
    def params(self):
        return [self.W1, self.b1, self.W2, self.b2, self.W3, self.b3]

    def forward(self, x):
        self.x = x
        self.z1 = x @ self.W1 + self.b1
        self.a1 = np.maximum(self.z1, 0.0)
        self.z2 = self.a1 @ self.W2 + self.b2
        self.a2 = np.maximum(self.z2, 0.0)
        return self.a2 @ self.W3 + self.b3

    def backward(self, dout):
        dW3 = self.a2.T @ dout
        db3 = dout.sum(axis=0)
        dz2 = (dout @ self.W3.T) * (self.z2 > 0)
        dW2 = self.a1.T @ dz2
        db2 = dz2.sum(axis=0)
        dz1 = (dz2 @ self.W2.T) * (self.z2 > 0)
        dW1 = self.x.T @ dz1
        db1 = dz1.sum(axis=0)
        return [dW1, db1, dW2, db2, dW3, db3]

    def copy_from(self, other):
        for mine, theirs in zip(self.params, other.params):
            mine[...] = theirs


class Adam:
    def __init__(self, params, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
        self.params = params
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.m = [np.zeros_like(p) for p in params]
        self.v = [np.zeros_like(p) for p in params]
        self.t = 0

    def step(self, grads):
        self.t += 1
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m *= self.b1
            m += (1 - self.b1) * g
            v *= self.b2
            v += (1 - self.b2) * g * g
            mhat = m / (1 - self.b1 ** self.t)
            vhat = v / (1 - self.b2 ** self.t)
            p -= self.lr * mhat / (np.sqrt(vhat) + self.eps)


class Memory:
    def __init__(self, size):
        self.size = size
        self.items = []
        self.pos = 0

    def add(self, item):
        if len(self.items) < self.size:
            self.items.append(item)
        else:
            self.items[self.pos] = item
        self.pos = (self.pos + 1) % self.size

    def sample(self, n):
        batch = random.sample(self.items, n)
        s, a, r, s2, d = zip(*batch)
        return np.array(s), np.array(a), np.array(r), np.array(s2), np.array(d, dtype=float)

    def __len__(self):
        return len(self.items)


class DQN:
    GAMMA = 0.99
    BATCH = 64
    SYNC = 250

    def __init__(self, env):
        n_obs = env.observation_space.shape[0]
        self.n_act = env.action_space.n
        self.q = MLP(n_obs, 64, self.n_act)
        self.q_target = MLP(n_obs, 64, self.n_act)
        self.q_target.copy_from(self.q)
        self.opt = Adam(self.q.params, lr=1e-3)
        self.memory = Memory(20000)
        self.updates = 0
        self.epsilon = 1.0

    def choose(self, s):
        if np.random.rand() < self.epsilon:
            return np.random.randint(self.n_act)
        return int(np.argmax(self.q.forward(s[None, :])[0]))

    def train_step(self):
        s, a, r, s2, d = self.memory.sample(self.BATCH)
        y = r + self.GAMMA * (1.0 - d) * self.q_target.forward(s2).max(axis=1)
        q = self.q.forward(s)
        rows = np.arange(self.BATCH)
        err = q[rows, a] - y
        dout = np.zeros_like(q)
        dout[rows, a] = np.clip(err, -1.0, 1.0) / self.BATCH
        self.opt.step(self.q.backward(dout))
        self.updates += 1
        if self.updates % self.SYNC == 0:
            self.q_target.copy_from(self.q)
        return np.mean(err ** 2)


env = gym.make("CartPole-v1")
agent = DQN(env)
returns = []

for episode in range(500):
    s, _ = env.reset(seed=3 if episode == 0 else None)
    done = False
    ret = 0
    while not done:
        a = agent.choose(s)
        s2, r, terminated, truncated, _ = env.step(a)
        agent.memory.add((s, a, r, s2, terminated))
        s = s2
        ret += r
        done = terminated or truncated
        if len(agent.memory) >= 1000:
            agent.train_step()
    agent.epsilon = max(0.02, agent.epsilon * 0.985)
    returns.append(ret)
    if (episode + 1) % 10 == 0:
        print("ep %d  return %.0f  mean20 %.1f  eps %.3f" % (
            episode + 1, ret, np.mean(returns[-20:]), agent.epsilon))

with open("weights.pkl", "wb") as f:
    pickle.dump(agent.q.params, f)

plt.plot(returns, alpha=0.4)
plt.plot(np.convolve(returns, np.ones(20) / 20, mode="valid"))
plt.title("CartPole-v1, NumPy DQN")
plt.savefig("numpy_dqn.png")
