"""A tiny Keras look-alike and a Double DQN on top of it."""
import random
from collections import deque

import numpy as np


class Dense:
    def __init__(self, units, activation="linear"):
        self.units, self.activation = units, activation

    def build(self, n_in, rng):
        self.kernel = rng.uniform(-1, 1, (n_in, self.units)) * np.sqrt(6 / (n_in + self.units))
        self.bias = np.zeros(self.units)

    def call(self, x):
        z = x @ self.kernel + self.bias
        if self.activation == "swish":
            s = 1 / (1 + np.exp(-np.clip(z, -50, 50)))
            return z * s, (x, z, s)
        return z, (x, z, None)

    def gradient(self, grad, cache):
        x, z, s = cache
        if self.activation == "swish":
            grad = grad * (s + z * s * (1 - s))
        return grad @ self.kernel.T, x.T @ grad, grad.sum(axis=0)


class Model:
    def __init__(self, layers, n_in, seed=0):
        rng = np.random.default_rng(seed)
        self.layers = layers
        for layer in layers:
            layer.build(n_in, rng)
            n_in = layer.units

    def compile(self, lr, rho=0.95, momentum=0.9, epsilon=1e-3):
        self.lr, self.rho, self.momentum, self.epsilon = lr, rho, momentum, epsilon
        self.square = [np.zeros_like(w) for w in self.get_weights()]
        self.mean = [np.zeros_like(w) for w in self.get_weights()]
        self.velocity = [np.zeros_like(w) for w in self.get_weights()]

    def get_weights(self):
        return [w for layer in self.layers for w in (layer.kernel, layer.bias)]

    def set_weights(self, weights):
        for layer, kernel, bias in zip(self.layers, weights[::2], weights[1::2]):
            layer.kernel, layer.bias = kernel.copy(), bias.copy()

    def predict(self, x):
        for layer in self.layers:
            x, _ = layer.call(x)
        return x

    def fit(self, x, y):
        """One step of centered RMSProp with momentum on the log-cosh loss, summed over outputs."""
        caches = []
        for layer in self.layers:
            x, cache = layer.call(x)
            caches.append(cache)
        grad = np.tanh(x - y) / len(x)
        grads = []
        for layer, cache in zip(reversed(self.layers), reversed(caches)):
            grad, d_kernel, d_bias = layer.gradient(grad, cache)
            grads = [d_kernel, d_bias] + grads
        for i, (w, g) in enumerate(zip(self.get_weights(), grads)):
            self.square[i] = self.rho * self.square[i] + (1 - self.rho) * g ** 2
            self.mean[i] = self.rho * self.mean[i] + (1 - self.rho) * g
            variance = np.maximum(self.square[i] - self.mean[i] ** 2, 0)
            self.velocity[i] = self.momentum * self.velocity[i] + self.lr * g / np.sqrt(variance + self.epsilon ** 2)
            w -= self.velocity[i]


class DoubleDQN:
    def __init__(self, state_size, action_size, seed=0):
        self.action_size = action_size
        self.gamma = 0.97
        self.epsilon = 1.0
        self.rng = random.Random(seed)
        self.memory = deque(maxlen=10000)
        self.batch_size = 32
        self.model = self.build(state_size, seed)
        self.target_model = self.build(state_size, seed + 1)
        self.update_target_model()
        self.fits = 0

    def build(self, state_size, seed):
        model = Model([Dense(48, "swish"), Dense(48, "swish"), Dense(self.action_size)], state_size, seed)
        model.compile(lr=1e-4)
        return model

    def update_target_model(self):
        self.target_model.set_weights(self.model.get_weights())

    def act(self, state, epsilon=None):
        epsilon = self.epsilon if epsilon is None else epsilon
        if self.rng.random() < epsilon:
            return self.rng.randrange(self.action_size)
        return int(np.argmax(self.model.predict(state[None])[0]))

    def minibatch(self, n):
        columns = zip(*self.rng.sample(self.memory, n))
        return tuple(np.array(column) for column in columns)

    def fit(self, state, action, reward, next_state, done):
        rows = np.arange(len(action))
        best = self.model.predict(next_state).argmax(axis=1)
        future = self.target_model.predict(next_state)[rows, best]
        y = self.model.predict(state)
        y[rows, action] = reward + np.where(done, 0.0, self.gamma * future)
        self.model.fit(state, y)
        self.fits += 1
        if self.fits % 200 == 0:
            self.update_target_model()

    def train(self, env, steps):
        scores, score = [], 0
        state, _ = env.reset()
        for _ in range(steps):
            action = self.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.append((state, action, reward, next_state, terminated))
            score += reward
            state = next_state
            if terminated or truncated:
                scores.append(score)
                score = 0
                state, _ = env.reset()
            if len(self.memory) > 100:
                self.fit(*self.minibatch(self.batch_size))
                self.epsilon = max(0.03, self.epsilon * 0.9992)
        return scores


class Adapter:
    observation_size = 4

    def __init__(self, seed):
        self.dqn = DoubleDQN(4, 2, seed)
        self.gamma = self.dqn.gamma

    def q_values(self, obs):
        return self.dqn.model.predict(obs)

    def target_q_values(self, obs):
        return self.dqn.target_model.predict(obs)

    def sync_target(self):
        self.dqn.update_target_model()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.fit(obs, action, reward, next_obs, np.asarray(terminated).astype(bool))

    def act(self, obs, epsilon):
        return self.dqn.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return self.dqn.minibatch(n)

    def run(self, env, env_steps):
        self.dqn.train(env, env_steps)


def make(seed=0):
    return Adapter(seed)
