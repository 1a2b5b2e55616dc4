"""Linear Q-learning on random Fourier features, with replay."""
from collections import deque

import numpy as np


class FourierFeatures:
    def __init__(self, n_obs, n_features, bandwidth, rng):
        self.omega = rng.normal(0, 1 / bandwidth, (n_features, n_obs))
        self.phase = rng.uniform(0, 2 * np.pi, n_features)
        self.norm = np.sqrt(2 / n_features)

    def __call__(self, obs):
        scaled = np.atleast_2d(obs) / np.array([2.4, 2.0, 0.2, 2.0])
        return self.norm * np.cos(scaled @ self.omega.T + self.phase)


class LinearAgent:
    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions = n_obs, n_actions
        self.gamma = 0.97
        self.lr = 1.0
        self.lr_decay = 0.99
        self.batch_size = 32
        self.phi = FourierFeatures(n_obs, 300, 0.7, self.rng)
        self.theta = np.zeros((300, n_actions))
        self.theta_target = self.theta.copy()
        self.memory = deque(maxlen=10_000)
        self.t = 0

    def q(self, obs):
        return self.phi(obs) @ self.theta

    def q_target(self, obs):
        return self.phi(obs) @ self.theta_target

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.q(obs)[0].argmax())

    def update(self, obs, actions, rewards, next_obs, terminated):
        y = rewards + self.gamma * np.where(terminated, 0.0, self.q_target(next_obs).max(axis=1))
        features = self.phi(obs)
        for a in range(self.n_actions):
            chosen = actions == a
            errors = y[chosen] - features[chosen] @ self.theta[:, a]
            self.theta[:, a] += self.lr * features[chosen].T @ errors / len(obs)
        self.lr = self.lr * self.lr_decay

    def sample(self, n):
        rows = self.rng.choice(len(self.memory), n, replace=False)
        return [np.array(c) for c in zip(*(self.memory[i] for i in rows))]

    def sync(self):
        self.theta_target[:] = self.theta

    def train(self, env, steps):
        state, _ = env.reset()
        for _ in range(steps):
            action = self.act(state, max(0.05, 1 - self.t / 4000))
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.append((state, action, float(reward), next_state, bool(terminated)))
            self.t += 1
            if len(self.memory) >= 2 * self.batch_size:
                self.update(*self.sample(self.batch_size))
            if self.t % 100 == 0:
                self.sync()
            if terminated or truncated:
                state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_obs

    def q_values(self, obs):
        return self.agent.q(obs)

    def target_q_values(self, obs):
        return self.agent.q_target(obs)

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, np.asarray(action), reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append((obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated)))

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(LinearAgent(4, 2, seed))
