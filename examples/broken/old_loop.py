"""A correct update in a faulty training loop: epsilon is inverted, and the replay buffer is used incorrectly."""

from collections import deque

import numpy as np


class Learner:
    def __init__(self, n_obs, n_actions, seed):
        self.rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        self.weights = self.rng.normal(0, 0.3, (n_obs, n_actions))
        self.old_weights = self.weights.copy()
        self.memory = deque(maxlen=5_000)

    def values(self, obs):
        return obs @ self.weights

    def act(self, obs, epsilon):
        if self.rng.random() > epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.values(obs).argmax())

    def learn(self, obs, action, reward, next_obs, done):
        target = reward + 0.97 * (1 - done) * (next_obs @ self.old_weights).max(axis=1)
        rows = np.arange(len(obs))
        error = np.zeros((len(obs), self.n_actions))
        error[rows, action] = np.clip(self.values(obs)[rows, action] - target, -1, 1) / len(obs)
        self.weights -= 0.02 * obs.T @ error

    def train(self, env, steps):
        state = env.reset()[0]
        for step in range(steps):
            action = self.act(state, max(0.1, 1 - 2 * step / steps))
            next_state, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            if done:
                next_state = env.reset()[0]
            self.memory.append((state, action, reward, next_state, done))
            state = next_state
            if step > 100:
                self.learn(*self.sample(16))
            if step % 50 == 0:
                self.old_weights = self.weights.copy()

    def sample(self, n):
        newest = list(self.memory)[-n:]
        return [np.array(column) for column in zip(*newest)]


class Adapter:
    gamma = 0.97
    observation_size = 4

    def __init__(self, seed):
        self.learner = Learner(4, 3, seed)
        self.act, self.run, self.sample = self.learner.act, self.learner.train, self.learner.sample

    def q_values(self, obs):
        return self.learner.values(obs)

    def target_q_values(self, obs):
        return obs @ self.learner.old_weights

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.learn(obs, action, reward, next_obs, terminated)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.memory.append((obs, action, reward, next_obs, terminated))


def make(seed=0):
    return Adapter(seed)
