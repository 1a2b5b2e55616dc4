"""Double DQN in plain NumPy. Layers know how to run forward and backward."""
import copy
import random
from collections import deque

import numpy as np


class Dense:
    def __init__(self, n_in, n_out, rng):
        self.W = rng.standard_normal((n_in, n_out)) * np.sqrt(2.0 / n_in)
        self.b = np.zeros(n_out)
        self.zero_grad()

    def zero_grad(self):
        self.dW = np.zeros_like(self.W)
        self.db = np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, grad):
        self.dW += np.outer(self.x, grad)
        self.db += grad
        return self.W @ grad

    def step(self, lr):
        self.W -= lr * self.dW
        self.b -= lr * self.db


class ReLU:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, grad):
        return grad * self.mask

    def zero_grad(self):
        pass

    def step(self, lr):
        pass


class Network:
    def __init__(self, sizes, rng):
        self.layers = []
        for i in range(len(sizes) - 1):
            self.layers.append(Dense(sizes[i], sizes[i + 1], rng))
            if i < len(sizes) - 2:
                self.layers.append(ReLU())

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad):
        for layer in reversed(self.layers):
            grad = layer.backward(grad)

    def zero_grad(self):
        for layer in self.layers:
            layer.zero_grad()

    def step(self, lr):
        for layer in self.layers:
            layer.step(lr)


class DoubleDQN:
    def __init__(self, n_obs=4, n_actions=2, hidden=48, lr=0.02, gamma=0.98, seed=0):
        self.rng = np.random.default_rng(seed)
        self.pyrng = random.Random(seed)
        self.n_actions = n_actions
        self.lr = lr
        self.gamma = gamma
        self.online = Network([n_obs, hidden, hidden, n_actions], self.rng)
        self.target = copy.deepcopy(self.online)
        self.memory = deque(maxlen=20000)
        self.batch_size = 24
        self.sync_every = 200
        self.steps = 0

    def act(self, obs, epsilon):
        if self.pyrng.random() < epsilon:
            return self.pyrng.randrange(self.n_actions)
        return int(np.argmax(self.online.forward(obs)))

    def update(self, batch):
        self.online.zero_grad()
        for obs, action, reward, next_obs, terminated in batch:
            q = self.online.forward(obs)
            y = reward
            if not terminated:
                best = int(np.argmax(self.online.forward(next_obs)))
                y += self.gamma * self.target.forward(next_obs)[best]
            grad = np.zeros(self.n_actions)
            grad[action] = np.clip(q[action] - y, -1.0, 1.0) / len(batch)
            self.online.backward(grad)
        self.online.step(self.lr)

    def sync(self):
        self.target = copy.deepcopy(self.online)

    def train(self, env, total_steps):
        obs, _ = env.reset()
        for _ in range(total_steps):
            epsilon = max(0.05, 1.0 - self.steps / 4000)
            action = self.act(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.append((np.array(obs), action, float(reward), np.array(next_obs), bool(terminated)))
            self.steps += 1
            if len(self.memory) >= 100:
                self.update(self.pyrng.sample(self.memory, self.batch_size))
            if self.steps % self.sync_every == 0:
                self.sync()
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()


class Adapter:
    def __init__(self, agent, n_obs):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = n_obs

    def q_values(self, obs):
        return np.array([self.agent.online.forward(o) for o in obs])

    def target_q_values(self, obs):
        return np.array([self.agent.target.forward(o) for o in obs])

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(list(zip(obs, action, reward, next_obs, terminated)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append((np.array(obs), action, float(reward), np.array(next_obs), bool(terminated)))

    def sample(self, n):
        return tuple(np.array(c) for c in zip(*self.agent.pyrng.sample(self.agent.memory, n)))

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DoubleDQN(seed=seed), 4)
