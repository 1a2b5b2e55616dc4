"""DQN for CartPole with nothing but NumPy."""
import random
from collections import deque

import numpy as np


class DQNAgent:
    def __init__(self, state_size, action_size, seed=0, gamma=0.99, lr=1e-3, batch_size=64):
        self.state_size = state_size
        self.action_size = action_size
        self.gamma = gamma
        self.lr = lr
        self.batch_size = batch_size
        self.memory = deque(maxlen=20000)
        self.rng = np.random.default_rng(seed)
        self.py_rng = random.Random(seed)
        sizes = [state_size, 64, 64, action_size]
        self.W = [self.rng.normal(0, np.sqrt(2 / i), (i, o)) for i, o in zip(sizes[:-1], sizes[1:])]
        self.b = [np.zeros(o) for o in sizes[1:]]
        n = len(self.W) + len(self.b)
        self.m = [0.0] * n
        self.v = [0.0] * n
        self.t = 0
        self.epsilon = 1.0
        self.epsilon_min = 0.05
        self.epsilon_decay = 0.9995
        self.train_steps = 0
        self.target_every = 200
        self.update_target()

    def update_target(self):
        self.target_W = [w.copy() for w in self.W]
        self.target_b = [b.copy() for b in self.b]

    def _forward(self, x, W, b):
        activations = [x]
        for i in range(len(W)):
            x = x @ W[i] + b[i]
            if i < len(W) - 1:
                x = np.maximum(x, 0)
            activations.append(x)
        return activations

    def predict(self, states):
        return self._forward(np.atleast_2d(states), self.W, self.b)[-1]

    def predict_target(self, states):
        return self._forward(np.atleast_2d(states), self.target_W, self.target_b)[-1]

    def act(self, state, epsilon=None):
        epsilon = self.epsilon if epsilon is None else epsilon
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.action_size))
        return int(np.argmax(self.predict(state)[0]))

    def remember(self, state, action, reward, next_state, terminated, truncated):
        done = terminated or truncated
        self.memory.append((np.array(state), action, reward, np.array(next_state), float(done)))

    def sample(self, n):
        batch = self.py_rng.sample(self.memory, n)
        return [np.array(column) for column in zip(*batch)]

    def learn(self, states, actions, rewards, next_states, dones):
        next_q = self.predict_target(next_states).max(axis=1)
        targets = rewards + self.gamma * (1.0 - dones) * next_q
        acts = self._forward(states, self.W, self.b)
        rows = np.arange(len(actions))
        delta = np.zeros_like(acts[-1])
        delta[rows, actions] = 2 * (acts[-1][rows, actions] - targets) / len(actions)
        grads_W, grads_b = [], []
        for i in reversed(range(len(self.W))):
            grads_W.insert(0, acts[i].T @ delta)
            grads_b.insert(0, delta.sum(axis=0))
            if i > 0:
                delta = (delta @ self.W[i].T) * (acts[i] > 0)
        self._adam(self.W + self.b, grads_W + grads_b)
        self.train_steps += 1
        if self.train_steps % self.target_every == 0:
            self.update_target()

    def _adam(self, params, grads):
        self.t += 1
        for i, (p, g) in enumerate(zip(params, grads)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
            m_hat = self.m[i] / (1 - 0.9 ** self.t)
            v_hat = self.v[i] / (1 - 0.999 ** self.t)
            p -= self.lr * m_hat / (np.sqrt(v_hat) + 1e-8)

    def train(self, env, n_steps, seed=None):
        state, _ = env.reset(seed=seed)
        returns, total = [], 0.0
        for _ in range(n_steps):
            action = self.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.remember(state, action, reward, next_state, terminated, truncated)
            total += reward
            state = next_state
            if terminated or truncated:
                returns.append(total)
                total = 0.0
                state, _ = env.reset()
            if len(self.memory) >= self.batch_size:
                self.learn(*self.sample(self.batch_size))
            self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_size

    def q_values(self, obs):
        return self.agent.predict(obs)

    def target_q_values(self, obs):
        return self.agent.predict_target(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def sync_target(self):
        self.agent.update_target()

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated, truncated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DQNAgent(4, 2, seed=seed))


if __name__ == "__main__":
    import gymnasium as gym

    print(DQNAgent(4, 2).train(gym.make("CartPole-v1"), 30000)[-20:])
