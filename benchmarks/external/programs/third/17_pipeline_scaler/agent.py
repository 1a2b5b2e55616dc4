"""Q-learning with a pipeline of a running StandardScaler and an MLP; rewards are scaled."""
import copy

import numpy as np


class StandardScaler:
    """Running mean and variance (Welford), clipped output."""

    def __init__(self, n_features):
        self.mean_ = np.zeros(n_features)
        self.m2_ = np.zeros(n_features)
        self.n_samples_seen_ = 0

    def partial_fit(self, X):
        for x in np.atleast_2d(X):
            self.n_samples_seen_ += 1
            delta = x - self.mean_
            self.mean_ = self.mean_ + delta / self.n_samples_seen_
            self.m2_ = self.m2_ + delta * (x - self.mean_)
        return self

    def transform(self, X):
        if self.n_samples_seen_ < 2:
            return X
        std = np.sqrt(self.m2_ / self.n_samples_seen_ + 1e-4)
        return np.clip((X - self.mean_) / std, -5, 5)


class MLPRegressor:
    def __init__(self, n_in, n_out, hidden=(64, 64), learning_rate_init=1e-3, random_state=0):
        rng = np.random.default_rng(random_state)
        sizes = [n_in, *hidden, n_out]
        self.coefs_ = [rng.normal(0, np.sqrt(2 / a), (a, b)) for a, b in zip(sizes, sizes[1:])]
        self.intercepts_ = [np.zeros(b) for b in sizes[1:]]
        self.learning_rate_init = learning_rate_init
        self.t_ = 0
        self.ms_ = [np.zeros_like(p) for p in self.coefs_ + self.intercepts_]
        self.us_ = [np.zeros_like(p) for p in self.coefs_ + self.intercepts_]

    def _forward(self, X):
        layers = [X]
        for W, b in zip(self.coefs_[:-1], self.intercepts_[:-1]):
            layers.append(np.maximum(layers[-1] @ W + b, 0))
        return layers, layers[-1] @ self.coefs_[-1] + self.intercepts_[-1]

    def predict(self, X):
        return self._forward(X)[1]

    def partial_fit(self, X, y):
        layers, out = self._forward(X)
        d = (out - y) / len(X)
        gw, gb = [], []
        for i in range(len(self.coefs_) - 1, -1, -1):
            gw.insert(0, layers[i].T @ d)
            gb.insert(0, d.sum(axis=0))
            if i:
                d = d @ self.coefs_[i].T * (layers[i] > 0)
        # AdaMax
        self.t_ += 1
        for p, g, m, u in zip(self.coefs_ + self.intercepts_, gw + gb, self.ms_, self.us_):
            m[:] = 0.9 * m + 0.1 * g
            u[:] = np.maximum(0.999 * u, np.abs(g))
            p -= self.learning_rate_init / (1 - 0.9 ** self.t_) * m / (u + 1e-8)
        return self


class PipelineAgent:
    reward_scale = 0.1

    def __init__(self, n_obs, n_actions, gamma=0.99, random_state=0):
        self.n_obs, self.n_actions, self.gamma = n_obs, n_actions, gamma
        self.rng = np.random.default_rng(random_state)
        self.scaler = StandardScaler(n_obs)
        self.model = MLPRegressor(n_obs, n_actions, random_state=random_state)
        self.target_model = copy.deepcopy(self.model)
        self.buffer = []
        self.fits = 0

    def predict(self, obs):
        return self.model.predict(self.scaler.transform(np.atleast_2d(obs)))

    def predict_target(self, obs):
        return self.target_model.predict(self.scaler.transform(np.atleast_2d(obs)))

    def decide(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.predict(obs)[0].argmax())

    def remember(self, obs, action, reward, next_obs, terminated):
        self.scaler.partial_fit(obs)
        self.buffer.append((obs, action, reward, next_obs, terminated))
        if len(self.buffer) > 20_000:
            del self.buffer[:1000]

    def sample(self, n):
        idx = self.rng.integers(len(self.buffer), size=n)
        return tuple(np.array(c) for c in zip(*(self.buffer[i] for i in idx)))

    def fit(self, obs, action, reward, next_obs, terminated):
        y = self.predict(obs)
        future = np.where(terminated, 0.0, self.predict_target(next_obs).max(axis=1))
        y[np.arange(len(action)), action] = self.reward_scale * reward + self.gamma * future
        self.model.partial_fit(self.scaler.transform(obs), y)
        self.fits += 1
        if self.fits % 200 == 0:
            self.refresh_target()

    def refresh_target(self):
        self.target_model = copy.deepcopy(self.model)

    def train(self, env, timesteps):
        history, total = [], 0.0
        obs, _ = env.reset()
        for t in range(timesteps):
            action = self.decide(obs, max(0.05, 1 - t / 4000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated)
            total += reward
            obs = next_obs
            if terminated or truncated:
                history.append(total)
                total = 0.0
                obs, _ = env.reset()
            if len(self.buffer) >= 100:
                self.fit(*self.sample(64))
        return history


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.n_obs

    def q_values(self, obs):
        return self.agent.predict(obs)

    def target_q_values(self, obs):
        return self.agent.predict_target(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.fit(obs, action, reward, next_obs, np.asarray(terminated, dtype=bool))

    def sync_target(self):
        self.agent.refresh_target()

    def act(self, obs, epsilon):
        return self.agent.decide(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(PipelineAgent(4, 2, random_state=seed))
