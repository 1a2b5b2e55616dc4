import random
from collections import deque

import numpy as np


class NeuralNet:
    """Feed-forward regressor: model.fit(X, Y), model.predict(X)."""

    def __init__(self, layer_sizes, learning_rate=1e-3, seed=None):
        rng = np.random.default_rng(seed)
        self.learning_rate = learning_rate
        self.weights = []
        for fan_in, fan_out in zip(layer_sizes, layer_sizes[1:]):
            self.weights.append(rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)))
            self.weights.append(np.zeros(fan_out))
        self.first = [np.zeros_like(w) for w in self.weights]
        self.second = [np.zeros_like(w) for w in self.weights]
        self.iterations = 0

    def predict(self, X):
        return self._forward(X)[-1]

    def _forward(self, X):
        outputs = [X]
        last = len(self.weights) // 2 - 1
        for k in range(last + 1):
            X = X @ self.weights[2 * k] + self.weights[2 * k + 1]
            if k != last:
                X = np.where(X > 0, X, 0.01 * X)
            outputs.append(X)
        return outputs

    def fit(self, X, Y):
        outputs = self._forward(X)
        error = (outputs[-1] - Y) / len(X)
        gradients = [None] * len(self.weights)
        for k in reversed(range(len(self.weights) // 2)):
            gradients[2 * k] = outputs[k].T @ error
            gradients[2 * k + 1] = error.sum(axis=0)
            if k > 0:
                error = (error @ self.weights[2 * k].T) * np.where(outputs[k] > 0, 1.0, 0.01)
        self.iterations += 1
        for i, gradient in enumerate(gradients):
            self.first[i] = 0.9 * self.first[i] + 0.1 * gradient
            self.second[i] = 0.999 * self.second[i] + 0.001 * gradient ** 2
            first = self.first[i] / (1 - 0.9 ** self.iterations)
            second = self.second[i] / (1 - 0.999 ** self.iterations)
            self.weights[i] = self.weights[i] - self.learning_rate * first / (np.sqrt(second) + 1e-7)

    def copy_from(self, other):
        self.weights = [w.copy() for w in other.weights]


class DQNLightning:
    eps_start = 1.0
    eps_end = 0.02
    eps_last_frame = 3000
    sync_rate = 200
    batch_size = 32
    warm_start = 200

    def __init__(self, obs_size, n_actions, gamma=0.99, seed=0):
        self.net = NeuralNet([obs_size, 64, 64, n_actions], seed=seed)
        self.target_net = NeuralNet([obs_size, 64, 64, n_actions], seed=seed)
        self.target_net.copy_from(self.net)
        self.n_actions = n_actions
        self.gamma = gamma
        self.buffer = deque(maxlen=10000)
        self.rng = random.Random(seed)
        self.global_step = 0
        self.episode_rewards = []

    def get_action(self, state, epsilon):
        if self.rng.random() < epsilon:
            return self.rng.randint(0, self.n_actions - 1)
        q_values = self.net.predict(state[np.newaxis])
        return int(q_values.argmax(axis=1)[0])

    def sample(self, batch_size):
        states, actions, rewards, dones, next_states = zip(*self.rng.sample(self.buffer, batch_size))
        return (np.array(states), np.array(actions), np.array(rewards, dtype=np.float32),
                np.array(dones, dtype=bool), np.array(next_states))

    def dqn_fit(self, states, actions, rewards, dones, next_states):
        next_state_values = self.target_net.predict(next_states).max(axis=1)
        next_state_values[dones] = 0.0
        expected = self.net.predict(states)
        expected[np.arange(len(actions)), actions] = rewards + self.gamma * next_state_values
        self.net.fit(states, expected)

    def training_step(self, env, state):
        epsilon = max(self.eps_end, self.eps_start - self.global_step + 1 / self.eps_last_frame)
        action = self.get_action(state, epsilon)
        new_state, reward, terminated, truncated, _ = env.step(action)
        self.buffer.append((state, action, reward, terminated, new_state))
        if len(self.buffer) >= self.warm_start:
            self.dqn_fit(*self.sample(self.batch_size))
        if self.global_step % self.sync_rate == 0:
            self.target_net.copy_from(self.net)
        self.global_step += 1
        return new_state, reward, terminated or truncated

    def run(self, env, max_steps):
        state, _ = env.reset()
        episode_reward = 0
        for _ in range(max_steps):
            state, reward, done = self.training_step(env, state)
            episode_reward += reward
            if done:
                self.episode_rewards.append(episode_reward)
                episode_reward = 0
                state, _ = env.reset()
        return self.episode_rewards


class Adapter:
    def __init__(self, seed):
        self.agent = DQNLightning(4, 2, seed=seed)
        self.gamma = self.agent.gamma
        self.observation_size = 4

    def q_values(self, obs):
        return self.agent.net.predict(obs)

    def target_q_values(self, obs):
        return self.agent.target_net.predict(obs)

    def sync_target(self):
        self.agent.target_net.copy_from(self.agent.net)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.dqn_fit(obs, action, reward, np.asarray(terminated).astype(bool), next_obs)

    def act(self, obs, epsilon):
        return self.agent.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.append((obs, action, reward, terminated, next_obs))

    def sample(self, n):
        states, actions, rewards, dones, next_states = self.agent.sample(n)
        return states, actions, rewards, next_states, dones

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(seed)
