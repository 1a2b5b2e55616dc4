"""DQN on top of a tiny model class with the interface of Keras."""
import random
from collections import deque

import numpy as np


class Model:
    def __init__(self, sizes, seed=None):
        rng = np.random.default_rng(seed)
        self.weights = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            limit = np.sqrt(6 / (n_in + n_out))
            self.weights += [rng.uniform(-limit, limit, (n_in, n_out)), np.zeros(n_out)]
        self.m = [np.zeros_like(w) for w in self.weights]
        self.v = [np.zeros_like(w) for w in self.weights]
        self.iterations = 0

    def compile(self, lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.lr, self.beta_1, self.beta_2, self.epsilon = lr, beta_1, beta_2, epsilon

    def _forward(self, x):
        activations = [x]
        n_layers = len(self.weights) // 2
        for i in range(n_layers):
            x = x @ self.weights[2 * i] + self.weights[2 * i + 1]
            if i < n_layers - 1:
                x = np.maximum(x, 0)
            activations.append(x)
        return activations

    def predict(self, x):
        return self._forward(np.atleast_2d(x))[-1]

    def train_on_batch(self, x, y):
        activations = self._forward(x)
        error = activations[-1] - y
        delta = 2 * error / error.size
        grads = [None] * len(self.weights)
        for i in reversed(range(len(self.weights) // 2)):
            grads[2 * i] = activations[i].T @ delta
            grads[2 * i + 1] = delta.sum(axis=0)
            if i > 0:
                delta = (delta @ self.weights[2 * i].T) * (activations[i] > 0)
        self._adam(grads)
        return np.mean(error**2)

    def _adam(self, grads):
        self.iterations += 1
        t = self.iterations
        alpha = self.lr * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        for w, g, m, v in zip(self.weights, grads, self.m, self.v):
            m += (1 - self.beta_1) * (g - m)
            v += (1 - self.beta_2) * (g * g - v)
            w -= alpha * m / (np.sqrt(v) + self.epsilon)

    def fit(self, x, y, epochs=1, batch_size=32):
        history = []
        for _ in range(epochs):
            order = np.random.permutation(len(x))
            for start in range(0, len(x), batch_size):
                rows = order[start:start + batch_size]
                history.append(self.train_on_batch(x[rows], y[rows]))
        return history

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        for w, new in zip(self.weights, weights):
            w[...] = new


class DQNAgent:
    def __init__(self, state_size, action_size, seed=0):
        self.state_size = state_size
        self.action_size = action_size
        self.memory = deque(maxlen=5000)
        self.gamma = 0.95
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.998
        self.batch_size = 32
        self.model = self._build_model(seed)
        self.target_model = self._build_model(seed + 1)
        self.update_target_model()

    def _build_model(self, seed):
        model = Model([self.state_size, 32, 32, self.action_size], seed)
        model.compile(lr=0.002)
        return model

    def update_target_model(self):
        self.target_model.set_weights(self.model.get_weights())

    def memorize(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state, epsilon=None):
        if np.random.rand() <= (self.epsilon if epsilon is None else epsilon):
            return random.randrange(self.action_size)
        return int(np.argmax(self.model.predict(state)[0]))

    def train(self, states, actions, rewards, next_states, dones):
        next_q = self.target_model.predict(next_states)
        targets = np.zeros((len(states), self.action_size))
        for i in range(len(states)):
            targets[i, actions[i]] = rewards[i]
            if not dones[i]:
                targets[i, actions[i]] += self.gamma * np.max(next_q[i])
        self.model.fit(states, targets, epochs=1, batch_size=len(states))

    def replay(self):
        minibatch = random.sample(self.memory, self.batch_size)
        self.train(*[np.array(column) for column in zip(*minibatch)])
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay


def train_agent(agent, env, env_steps, sync_every=200):
    state, _ = env.reset()
    for step in range(1, env_steps + 1):
        action = agent.act(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.memorize(state, action, reward, next_state, terminated)
        if len(agent.memory) > 2 * agent.batch_size:
            agent.replay()
        if step % sync_every == 0:
            agent.update_target_model()
        state = next_state
        if terminated or truncated:
            state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_size

    def q_values(self, obs):
        return self.agent.model.predict(obs)

    def target_q_values(self, obs):
        return self.agent.target_model.predict(obs)

    def sync_target(self):
        self.agent.update_target_model()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memorize(np.array(obs), action, reward, np.array(next_obs), terminated)

    def sample(self, n):
        return [np.array(c) for c in zip(*random.sample(self.agent.memory, n))]

    def run(self, env, env_steps):
        train_agent(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    return Adapter(DQNAgent(4, 2, seed))
