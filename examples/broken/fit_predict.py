"""A DQN in the fit/predict style. The targets of the actions that were not taken are 0."""

import numpy as np


class Model:
    """Two layers, trained by plain gradient descent on the mean squared error."""

    def __init__(self, inputs, units, outputs, seed):
        rng = np.random.default_rng(seed)
        self.W1, self.b1 = rng.normal(0, np.sqrt(2 / inputs), (inputs, units)), np.zeros(units)
        self.W2, self.b2 = rng.normal(0, np.sqrt(2 / units), (units, outputs)), np.zeros(outputs)

    def predict(self, x):
        return np.maximum(x @ self.W1 + self.b1, 0) @ self.W2 + self.b2

    def fit(self, x, y, learning_rate=0.02):
        hidden = np.maximum(x @ self.W1 + self.b1, 0)
        error = (hidden @ self.W2 + self.b2 - y) / len(x)
        back = error @ self.W2.T * (hidden > 0)
        self.W2 -= learning_rate * hidden.T @ error
        self.b2 -= learning_rate * error.sum(axis=0)
        self.W1 -= learning_rate * x.T @ back
        self.b1 -= learning_rate * back.sum(axis=0)

    def get_weights(self):
        return [w.copy() for w in (self.W1, self.b1, self.W2, self.b2)]

    def set_weights(self, weights):
        self.W1, self.b1, self.W2, self.b2 = weights


class Adapter:
    gamma = 0.95
    observation_size = 4

    def __init__(self, seed):
        self.model, self.target_model = Model(4, 24, 2, seed), Model(4, 24, 2, seed)

    def q_values(self, obs):
        return self.model.predict(obs)

    def target_q_values(self, obs):
        return self.target_model.predict(obs)

    def sync_target(self):
        self.target_model.set_weights(self.model.get_weights())

    def train_batch(self, obs, action, reward, next_obs, terminated):
        targets = np.zeros((len(obs), 2))
        best = self.target_model.predict(next_obs).max(axis=1)
        targets[np.arange(len(obs)), action] = reward + self.gamma * best * ~terminated
        self.model.fit(obs, targets)


def make(seed=0):
    return Adapter(seed)
