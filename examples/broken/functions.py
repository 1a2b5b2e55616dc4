"""A DQN in the functional style. The target ignores episode ends and evaluates next_obs at the action taken, not the best."""

import numpy as np


def init(rng):
    return {
        "w1": rng.normal(0, 0.5, (6, 32)), "b1": np.zeros(32),
        "w2": rng.normal(0, 0.25, (32, 3)), "b2": np.zeros(3),
    }


def q(params, obs):
    return np.tanh(obs @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss_gradient(params, obs, action, target):
    rows = np.arange(len(obs))
    h = np.tanh(obs @ params["w1"] + params["b1"])
    error = np.zeros((len(obs), 3))
    error[rows, action] = (q(params, obs)[rows, action] - target) / len(obs)
    dh = error @ params["w2"].T * (1 - h**2)
    return {"w1": obs.T @ dh, "b1": dh.sum(0), "w2": h.T @ error, "b2": error.sum(0)}


def update(params, target_params, obs, action, reward, next_obs, terminated, gamma=0.99, lr=0.05):
    next_q = q(target_params, next_obs)
    target = reward + gamma * next_q[np.arange(len(obs)), action]
    gradient = loss_gradient(params, obs, action, target)
    return {name: value - lr * gradient[name] for name, value in params.items()}


class Adapter:
    gamma = 0.99
    observation_size = 6

    def __init__(self, seed):
        self.params = init(np.random.default_rng(seed))
        self.target_params = dict(self.params)

    def q_values(self, obs):
        return q(self.params, obs)

    def train_batch(self, *batch):
        self.params = update(self.params, self.target_params, *batch)


def make(seed=0):
    return Adapter(seed)
