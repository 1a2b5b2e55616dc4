import random
from collections import deque

import numpy as np


class DQN:
    MEMORY_SIZE = 2_000
    LEARNING_STARTS = 5_000
    BATCH_SIZE = 64
    TARGET_UPDATE = 300
    GAMMA = 0.97
    LR = 1e-3

    def __init__(self, input_dim, output_dim, hidden=(64, 32), seed=0):
        random.seed(seed)
        np.random.seed(seed)
        dims = [input_dim, *hidden, output_dim]
        self.output_dim = output_dim
        self.weights = [np.random.randn(i, o) * np.sqrt(2 / i) for i, o in zip(dims, dims[1:])]
        self.biases = [np.zeros((1, o)) for o in dims[1:]]
        self.memory = deque(maxlen=self.MEMORY_SIZE)
        self.momentum_w = [np.zeros_like(w) for w in self.weights]
        self.momentum_b = [np.zeros_like(b) for b in self.biases]
        self.square_w = [np.zeros_like(w) for w in self.weights]
        self.square_b = [np.zeros_like(b) for b in self.biases]
        self.iteration = 0
        self.update_target()

    def update_target(self):
        self.target_weights = [w.copy() for w in self.weights]
        self.target_biases = [b.copy() for b in self.biases]

    def forward(self, x, target=False):
        weights = self.target_weights if target else self.weights
        biases = self.target_biases if target else self.biases
        activations = [x]
        for w, b in zip(weights[:-1], biases[:-1]):
            z = activations[-1] @ w + b
            activations.append(np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1))
        return activations[-1] @ weights[-1] + biases[-1], activations

    def get_action(self, state, epsilon):
        if np.random.rand() < epsilon:
            return np.random.randint(self.output_dim)
        return int(np.argmax(self.forward(state.reshape(1, -1))[0]))

    def store(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, int(done)))

    def get_batch(self, size):
        batch = random.sample(self.memory, size)
        return [np.array([item[k] for item in batch]) for k in range(5)]

    def train_on(self, states, actions, rewards, next_states, dones):
        next_q, _ = self.forward(next_states, target=True)
        targets = rewards + ~dones * self.GAMMA * next_q.max(axis=1)
        q, activations = self.forward(states)
        rows = np.arange(len(actions))
        delta = np.zeros_like(q)
        delta[rows, actions] = np.clip(q[rows, actions] - targets, -1, 1) / len(actions)
        self.iteration += 1
        for k in range(len(self.weights) - 1, -1, -1):
            grad_w, grad_b = activations[k].T @ delta, delta.sum(axis=0, keepdims=True)
            if k > 0:
                slope = np.where(activations[k] > 0, 1.0, activations[k] + 1)
                delta = (delta @ self.weights[k].T) * slope
            self.apply(self.weights[k], grad_w, self.momentum_w[k], self.square_w[k])
            self.apply(self.biases[k], grad_b, self.momentum_b[k], self.square_b[k])
        if self.iteration % self.TARGET_UPDATE == 0:
            self.update_target()

    def apply(self, param, grad, momentum, square):
        momentum *= 0.9
        momentum += 0.1 * grad
        square *= 0.999
        square += 0.001 * grad ** 2
        scale = np.sqrt(1 - 0.999 ** self.iteration) / (1 - 0.9 ** self.iteration)
        param -= self.LR * scale * momentum / (np.sqrt(square) + 1e-8)

    def play(self, env, steps):
        rewards, episode = [], 0
        state, _ = env.reset()
        epsilon = 1.0
        for _ in range(steps):
            action = self.get_action(state, epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.store(state, action, reward, next_state, terminated)
            episode += reward
            state = next_state
            if len(self.memory) >= self.LEARNING_STARTS:
                self.train_on(*self.get_batch(self.BATCH_SIZE))
                epsilon = max(0.03, epsilon * 0.999)
            if terminated or truncated:
                rewards.append(episode)
                episode = 0
                state, _ = env.reset()
        return rewards


class Adapter:
    def __init__(self, dqn, n_obs):
        self.dqn = dqn
        self.gamma = dqn.GAMMA
        self.observation_size = n_obs

    def q_values(self, obs):
        return self.dqn.forward(obs)[0]

    def target_q_values(self, obs):
        return self.dqn.forward(obs, target=True)[0]

    def sync_target(self):
        self.dqn.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.train_on(obs, action, reward, next_obs, np.asarray(terminated).astype(int))

    def act(self, obs, epsilon):
        return self.dqn.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.dqn.get_batch(n)

    def run(self, env, env_steps):
        return self.dqn.play(env, env_steps)


def make(seed=0):
    return Adapter(DQN(4, 2, seed=seed), 4)
