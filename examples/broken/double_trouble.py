"""Double DQN with momentum, vectorized. The roles of the networks are swapped, and so are the factors of Polyak averaging."""

import numpy as np


class QNetwork:
    def __init__(self, rng, n_obs=6, units=40, n_actions=3):
        self.params = {
            "hidden": rng.normal(0, np.sqrt(2 / n_obs), (n_obs, units)),
            "hidden_bias": np.zeros(units),
            "head": rng.normal(0, np.sqrt(2 / units), (units, n_actions)),
            "head_bias": np.zeros(n_actions),
        }

    def __call__(self, obs):
        p = self.params
        self.hidden = np.maximum(obs @ p["hidden"] + p["hidden_bias"], 0)
        return self.hidden @ p["head"] + p["head_bias"]

    def gradient(self, obs, d_q):
        d_hidden = d_q @ self.params["head"].T * (self.hidden > 0)
        return {
            "hidden": obs.T @ d_hidden,
            "hidden_bias": d_hidden.sum(axis=0),
            "head": self.hidden.T @ d_q,
            "head_bias": d_q.sum(axis=0),
        }


class DoubleDQN:
    def __init__(self, seed, gamma=0.98, tau=0.01, lr=0.01, momentum=0.9):
        rng = np.random.default_rng(seed)
        self.online, self.target = QNetwork(rng), QNetwork(rng)
        for name, array in self.online.params.items():
            self.target.params[name] = array.copy()
        self.velocity = {name: np.zeros_like(array) for name, array in self.online.params.items()}
        self.gamma, self.tau, self.lr, self.momentum = gamma, tau, lr, momentum

    def learn(self, obs, action, reward, next_obs, terminated):
        rows = np.arange(len(obs))
        choice = self.target(next_obs).argmax(axis=1)
        target = reward + self.gamma * ~terminated * self.online(next_obs)[rows, choice]
        d_q = np.zeros((len(obs), 3))
        d_q[rows, action] = (self.online(obs)[rows, action] - target) / len(obs)
        for name, gradient in self.online.gradient(obs, d_q).items():
            self.velocity[name] = self.momentum * self.velocity[name] + gradient
            self.online.params[name] -= self.lr * self.velocity[name]

    def soft_update(self):
        for name, array in self.online.params.items():
            self.target.params[name] = self.tau * self.target.params[name] + (1 - self.tau) * array


class Adapter:
    observation_size = 6

    def __init__(self, seed):
        self.agent = DoubleDQN(seed)
        self.gamma = self.agent.gamma
        self.q_values, self.target_q_values = self.agent.online, self.agent.target
        self.train_batch, self.sync_target = self.agent.learn, self.agent.soft_update


def make(seed=0):
    return Adapter(seed)
