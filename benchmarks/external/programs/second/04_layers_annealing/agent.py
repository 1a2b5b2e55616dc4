import random
from collections import deque

import numpy as np


class Dense:
    def __init__(self, n_in, n_out, rng):
        self.W = rng.normal(0.0, (2.0 / n_in) ** 0.5, (n_in, n_out))
        self.b = np.zeros(n_out)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, grad, lr):
        dx = self.W @ grad
        self.W -= lr * np.outer(self.x, grad)
        self.b -= lr * grad
        return dx

    def load(self, other):
        self.W, self.b = other.W.copy(), other.b.copy()


class ReLU:
    def forward(self, x):
        self.active = x > 0
        return np.where(self.active, x, 0.0)

    def backward(self, grad, lr):
        return grad * self.active

    def load(self, other):
        pass


class DQN:
    """Deep Q-learning. Every sampled transition is one SGD step."""

    def __init__(self, obs_dim, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.random = random.Random(seed)
        self.n_actions = n_actions
        self.gamma = 0.98
        self.lr = 0.001
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.999
        self.batch_size = 32
        self.warmup = 100
        self.sync_period = 300
        self.layers = self._stack(obs_dim)
        self.target_layers = self._stack(obs_dim)
        self.sync()
        self.memory = deque(maxlen=10000)
        self.frames = 0

    def _stack(self, obs_dim):
        return [
            Dense(obs_dim, 32, self.rng),
            ReLU(),
            Dense(32, 32, self.rng),
            ReLU(),
            Dense(32, self.n_actions, self.rng),
        ]

    def sync(self):
        for t, q in zip(self.target_layers, self.layers):
            t.load(q)

    def forward(self, layers, x):
        for layer in layers:
            x = layer.forward(x)
        return x

    def act(self, obs, epsilon=None):
        epsilon = self.epsilon if epsilon is None else epsilon
        if self.random.random() < epsilon:
            return self.random.randrange(self.n_actions)
        return int(np.argmax(self.forward(self.layers, obs)))

    def replay(self, batch):
        for obs, action, reward, next_obs, terminated in batch:
            y = reward
            if not terminated:
                y = reward + self.gamma * self.forward(self.target_layers, next_obs).max()
            q = self.forward(self.layers, obs)
            grad = np.zeros_like(q)
            grad[action] = q[action] - y
            for layer in self.layers[::-1]:
                grad = layer.backward(grad, self.lr)
            if self.epsilon > self.epsilon_min:
                self.epsilon *= self.epsilon_decay

    def run(self, env, env_steps):
        obs, _ = env.reset()
        for _ in range(env_steps):
            action = self.act(obs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.append((obs, action, reward, next_obs, terminated))
            self.frames += 1
            if self.frames > self.warmup:
                self.replay(self.random.sample(self.memory, self.batch_size))
            if self.frames % self.sync_period == 0:
                self.sync()
            obs = env.reset()[0] if terminated or truncated else next_obs


class Adapter:
    def __init__(self, seed):
        self.dqn = DQN(4, 2, seed)
        self.gamma = self.dqn.gamma
        self.observation_size = 4

    def q_values(self, obs):
        return np.array([self.dqn.forward(self.dqn.layers, o) for o in obs])

    def target_q_values(self, obs):
        return np.array([self.dqn.forward(self.dqn.target_layers, o) for o in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.replay(list(zip(obs, action, reward, next_obs, terminated)))

    def sync_target(self):
        self.dqn.sync()

    def act(self, obs, epsilon):
        return self.dqn.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.memory.append((obs.copy(), action, reward, next_obs.copy(), terminated))

    def sample(self, n):
        return tuple(map(np.array, zip(*self.dqn.random.sample(self.dqn.memory, n))))

    def run(self, env, env_steps):
        self.dqn.run(env, env_steps)


def make(seed=0):
    return Adapter(seed)
