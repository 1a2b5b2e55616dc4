"""Fitted Q-learning with a regressor that follows the scikit-learn interface."""
import copy
import random
from collections import deque

import numpy as np


class MLPRegressor:
    """Multi-output regression, one hidden layer, squared error, Adam."""

    def __init__(self, hidden=96, learning_rate=1e-3, random_state=None):
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _init(self, n_features, n_outputs):
        rng = np.random.default_rng(self.random_state)
        self.coefs_ = [
            rng.normal(0, np.sqrt(2 / n_features), (n_features, self.hidden)),
            rng.normal(0, np.sqrt(1 / self.hidden), (self.hidden, n_outputs)),
        ]
        self.intercepts_ = [np.zeros(self.hidden), np.zeros(n_outputs)]
        self._m = [np.zeros_like(p) for p in self.coefs_ + self.intercepts_]
        self._v = [np.zeros_like(p) for p in self.coefs_ + self.intercepts_]
        self.t_ = 0
        return self

    def _hidden(self, X):
        return np.maximum(X @ self.coefs_[0] + self.intercepts_[0], 0)

    def predict(self, X):
        return self._hidden(X) @ self.coefs_[1] + self.intercepts_[1]

    def partial_fit(self, X, Y):
        if not hasattr(self, "coefs_"):
            self._init(X.shape[1], Y.shape[1])
        H = self._hidden(X)
        D = (H @ self.coefs_[1] + self.intercepts_[1] - Y) / len(X)
        DH = (D @ self.coefs_[1].T) * (H > 0)
        grads = [X.T @ DH, H.T @ D, DH.sum(0), D.sum(0)]
        self.t_ += 1
        for p, g, m, v in zip(self.coefs_ + self.intercepts_, grads, self._m, self._v):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            scale = np.sqrt(1 - 0.999 ** self.t_) / (1 - 0.9 ** self.t_)
            p -= self.learning_rate * scale * m / (np.sqrt(v) + 1e-8)
        return self


class RegressorAgent:
    def __init__(self, n_features, n_actions, seed=0, gamma=0.97):
        self.n_features, self.n_actions, self.gamma = n_features, n_actions, gamma
        self.model = MLPRegressor(random_state=seed)._init(n_features, n_actions)
        self.target_model = copy.deepcopy(self.model)
        self.memory = deque(maxlen=10_000)
        self.random = random.Random(seed)
        self.exploration_rate = 1.0
        self.updates = 0

    def act(self, state, epsilon):
        if self.random.random() < epsilon:
            return self.random.randrange(self.n_actions)
        return int(np.argmax(self.model.predict(state.reshape(1, -1))[0]))

    def remember(self, state, action, reward, next_state, terminal):
        self.memory.append((state, action, reward, next_state, terminal))

    def sample(self, n):
        rows = self.random.sample(self.memory, n)
        return tuple(np.array(col) for col in zip(*rows))

    def fit_batch(self, states, actions, rewards, next_states, terminals):
        q_next = self.target_model.predict(next_states)
        q_update = rewards + self.gamma * q_next.max(axis=1) * (1 - terminals.astype(float))
        Y = np.zeros((len(states), self.n_actions))
        Y[np.arange(len(states)), actions] = q_update
        self.model.partial_fit(states, Y)
        self.updates += 1
        if self.updates % 100 == 0:
            self.update_target()

    def update_target(self):
        self.target_model = copy.deepcopy(self.model)

    def experience_replay(self, batch_size=32):
        if len(self.memory) < batch_size:
            return
        self.fit_batch(*self.sample(batch_size))
        self.exploration_rate = max(0.02, self.exploration_rate * 0.9992)

    def run(self, env, max_steps):
        scores, score = [], 0
        state, _ = env.reset()
        for _ in range(max_steps):
            action = self.act(state, self.exploration_rate)
            state_next, reward, terminated, truncated, _ = env.step(action)
            self.remember(state, action, reward, state_next, terminated)
            self.experience_replay()
            state = state_next
            score += reward
            if terminated or truncated:
                scores.append(score)
                score = 0
                state, _ = env.reset()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_features

    def q_values(self, obs):
        return self.agent.model.predict(obs)

    def target_q_values(self, obs):
        return self.agent.target_model.predict(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.fit_batch(obs, action, reward, next_obs, np.asarray(terminated))

    def sync_target(self):
        self.agent.update_target()

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(RegressorAgent(4, 2, seed=seed))
