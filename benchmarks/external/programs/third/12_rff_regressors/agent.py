"""One linear regressor per action on random Fourier features, fitted from replayed transitions."""
import copy
from collections import deque

import numpy as np


class RBFSampler:
    def __init__(self, scale, gamma=1.0, n_components=300, random_state=0):
        self.scale, self.gamma, self.n_components, self.random_state = np.asarray(scale), gamma, n_components, random_state

    def fit(self, n_features):
        rng = np.random.default_rng(self.random_state)
        self.weights_ = rng.normal(0, np.sqrt(2 * self.gamma), (n_features, self.n_components))
        self.offset_ = rng.uniform(0, 2 * np.pi, self.n_components)
        return self

    def transform(self, X):
        return np.cos(X / self.scale @ self.weights_ + self.offset_) * np.sqrt(2 / self.n_components)


class SGDRegressor:
    def __init__(self, n_features, eta0=0.5):
        self.coef_ = np.zeros(n_features)
        self.intercept_ = 0.0
        self.eta0 = eta0

    def predict(self, X):
        return X @ self.coef_ + self.intercept_

    def partial_fit(self, X, y):
        residual = y - self.predict(X)
        self.coef_ += self.eta0 * X.T @ residual / len(y)
        self.intercept_ += 0.1 * self.eta0 * residual.mean()
        return self


class FunctionApproximator:
    def __init__(self, n_features, n_actions, seed):
        self.featurizer = RBFSampler(np.resize([2.4, 2.0, 0.21, 2.0], n_features), random_state=seed).fit(n_features)
        self.models = [SGDRegressor(self.featurizer.n_components) for _ in range(n_actions)]

    def predict(self, X):
        features = self.featurizer.transform(np.atleast_2d(X))
        return np.stack([m.predict(features) for m in self.models], axis=1)

    def partial_fit(self, X, actions, y):
        features = self.featurizer.transform(X)
        for a, model in enumerate(self.models):
            mask = actions == a
            if mask.any():
                model.partial_fit(features[mask], y[mask])


class QAgent:
    def __init__(self, n_features, n_actions, seed=0, discount=0.95):
        self.n_features, self.n_actions, self.discount = n_features, n_actions, discount
        self.rng = np.random.default_rng(seed)
        self.estimator = FunctionApproximator(n_features, n_actions, seed)
        self.frozen = copy.deepcopy(self.estimator)
        self.replay = deque(maxlen=20_000)
        self.n_fits = 0

    def policy(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.estimator.predict(obs)[0].argmax())

    def remember(self, *transition):
        self.replay.append(transition)

    def sample(self, n):
        picks = self.rng.integers(len(self.replay), size=n)
        return [np.array(c) for c in zip(*[self.replay[i] for i in picks])]

    def fit_batch(self, obs, action, reward, next_obs, terminated):
        future = self.frozen.predict(next_obs).max(axis=1)
        future[terminated] = 0.0
        self.estimator.partial_fit(obs, action, reward + self.discount * future)
        self.n_fits += 1
        if self.n_fits % 100 == 0:
            self.freeze()

    def freeze(self):
        self.frozen = copy.deepcopy(self.estimator)

    def run(self, env, steps, batch_size=64):
        scores, score, epsilon = [], 0.0, 1.0
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.policy(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            score += reward
            obs = next_obs
            self.remember(obs, action, reward, next_obs, terminated)
            if len(self.replay) >= batch_size:
                self.fit_batch(*self.sample(batch_size))
            epsilon = max(0.05, epsilon * 0.9993)
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.discount, agent.n_features

    def q_values(self, obs):
        return self.agent.estimator.predict(obs)

    def target_q_values(self, obs):
        return self.agent.frozen.predict(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.fit_batch(obs, action, reward, next_obs, np.asarray(terminated, dtype=bool))

    def sync_target(self):
        self.agent.freeze()

    def act(self, obs, epsilon):
        return self.agent.policy(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(QAgent(4, 2, seed))
