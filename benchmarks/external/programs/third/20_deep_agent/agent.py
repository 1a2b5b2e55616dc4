"""Deep Q-learning agent with N layers."""
import random
from collections import deque

import numpy as np


class DeepQAgent:
    def __init__(self, state_dim, n_actions, layers=(64, 64), seed=0):
        self.state_dim = state_dim
        self.n_actions = n_actions
        self.gamma = 0.99
        self.learning_rate = 1e-3
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.9995
        self.batch_size = 64
        self.sync_interval = 250
        self.memory = deque(maxlen=25_000)
        self.rng = np.random.default_rng(seed)
        self.random = random.Random(seed)
        dims = (state_dim, *layers, n_actions)
        self.weights = [self.rng.normal(0, np.sqrt(2 / a), (a, b)) for a, b in zip(dims, dims[1:])]
        self.biases = [np.zeros(b) for b in dims[1:]]
        self.target_weights = [w.copy() for w in self.weights]
        self.target_biases = [b.copy() for b in self.biases]
        self.grad_mean = [np.zeros_like(p) for p in self.weights + self.biases]
        self.grad_var = [np.zeros_like(p) for p in self.weights + self.biases]
        self.iterations = 0

    def feed_forward(self, x, weights, biases):
        outputs = [x]
        for w, b in zip(weights, biases):
            outputs.append(np.maximum(outputs[-1] @ w + b, 0))
        return outputs

    def q(self, states):
        return self.feed_forward(states, self.weights, self.biases)[-1]

    def q_target(self, states):
        return self.feed_forward(states, self.target_weights, self.target_biases)[-1]

    def back_propagate(self, outputs, d_out):
        grads_w, grads_b = [], []
        delta = d_out * (outputs[-1] > 0)
        for i in reversed(range(len(self.weights))):
            grads_w.append(outputs[i].T @ delta)
            grads_b.append(delta.sum(axis=0))
            if i > 0:
                delta = (delta @ self.weights[i].T) * (outputs[i] > 0)
        return grads_w[::-1] + grads_b[::-1]

    def act(self, state, epsilon):
        if self.rng.random() <= epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.q(state[None])[0]))

    def remember(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def sample(self, n):
        s, a, r, s2, d = zip(*self.random.sample(self.memory, n))
        return np.array(s), np.array(a), np.array(r), np.array(s2), np.array(d, dtype=float)

    def train_on(self, states, actions, rewards, next_states, dones):
        idx = np.arange(len(states))
        target = rewards + self.gamma * self.q_target(next_states).max(axis=1) * (1 - dones)
        outputs = self.feed_forward(states, self.weights, self.biases)
        d_out = np.zeros_like(outputs[-1])
        d_out[idx, actions] = (outputs[-1][idx, actions] - target) / len(states)
        grads = self.back_propagate(outputs, d_out)
        self.iterations += 1
        for p, g, m, v in zip(self.weights + self.biases, grads, self.grad_mean, self.grad_var):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= (
                self.learning_rate * (m / (1 - 0.9 ** self.iterations))
                / (np.sqrt(v / (1 - 0.999 ** self.iterations)) + 1e-8)
            )

    def sync_networks(self):
        for p, t in zip(self.weights + self.biases, self.target_weights + self.target_biases):
            np.copyto(p, t)

    def decay_epsilon(self):
        self.epsilon = min(self.epsilon_min, self.epsilon * self.epsilon_decay)

    def run(self, env, max_steps):
        scores, score = [], 0.0
        state, _ = env.reset()
        for step in range(1, max_steps + 1):
            action = self.act(state, self.epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.remember(state, action, reward, next_state, terminated)
            self.decay_epsilon()
            score += reward
            state = next_state
            if len(self.memory) >= self.batch_size:
                self.train_on(*self.sample(self.batch_size))
            if step % self.sync_interval == 0:
                self.sync_networks()
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                state, _ = env.reset()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.state_dim

    def q_values(self, obs):
        return self.agent.q(obs)

    def target_q_values(self, obs):
        return self.agent.q_target(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train_on(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def sync_target(self):
        self.agent.sync_networks()

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(DeepQAgent(4, 2, seed=seed))
