"""Online Q-learning with a Fourier basis and per-feature step sizes (Konidaris et al., 2011)."""
from itertools import product

import numpy as np


class FourierBasis:
    def __init__(self, low, high, order=3, max_nonzero=2):
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        all_c = np.array(list(product(range(order + 1), repeat=len(low))))
        self.c = all_c[(all_c > 0).sum(axis=1) <= max_nonzero]
        norms = np.linalg.norm(self.c, axis=1)
        self.step_scale = 1.0 / np.where(norms == 0, 1.0, norms)

    def __len__(self):
        return len(self.c)

    def __call__(self, obs):
        unit = np.clip((obs - self.low) / (self.high - self.low), 0.0, 1.0)
        return np.cos(np.pi * unit @ self.c.T)


class FourierQ:
    def __init__(self, basis, n_actions, gamma=0.98, alpha=0.005, optimism=5.0, seed=0):
        self.basis, self.n_actions = basis, n_actions
        self.gamma, self.alpha = gamma, alpha
        self.w = np.zeros((len(basis), n_actions))
        self.w[0] = optimism
        self.rng = np.random.default_rng(seed)

    def q(self, obs):
        return self.basis(obs) @ self.w

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.q(obs)))

    def update(self, obs, action, reward, next_obs, terminated):
        x = self.basis(obs)
        bootstrap = 0.0 if terminated else self.gamma * np.max(self.q(next_obs))
        delta = reward + bootstrap - x @ self.w[:, action]
        self.w[:, action] += self.alpha * self.basis.step_scale * delta * x

    def run(self, env, steps):
        scores, score, t = [], 0.0, 0
        while t < steps:
            obs, _ = env.reset()
            done = False
            while not done and t < steps:
                action = self.act(obs, max(0.01, 0.2 * (1 - t / 15000)))
                next_obs, reward, terminated, truncated, _ = env.step(action)
                self.update(obs, action, reward, next_obs, terminated)
                obs = next_obs
                score += reward
                t += 1
                done = terminated or truncated
            if done:
                scores.append(score)
                score = 0.0
        return scores


class Adapter:
    online = True

    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = len(agent.basis.low)

    def q_values(self, obs):
        return self.agent.q(np.asarray(obs))

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for o, a, r, o2, end in zip(obs, action, reward, next_obs, terminated):
            self.agent.update(o, a, r, o2, end)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    basis = FourierBasis([-2.4, -3.0, -0.21, -3.0], [2.4, 3.0, 0.21, 3.0])
    return Adapter(FourierQ(basis, 2, seed=seed))
