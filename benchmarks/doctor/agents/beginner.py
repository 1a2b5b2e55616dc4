"""A DQN in the style of a beginner: NumPy, written by hand, one sample at a time.

A reference agent of the fault benchmark.
"""

import random
from collections import deque

import numpy as np


class NeuralNetwork:
    def __init__(self, sizes, rng):
        self.weights = []
        self.biases = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            self.weights.append(rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)))
            self.biases.append(np.zeros(n_out))

    def forward(self, state):
        self.inputs = []
        self.before = []
        x = np.array(state, dtype=float)
        for i in range(len(self.weights)):
            self.inputs.append(x)
            z = x @ self.weights[i] + self.biases[i]
            self.before.append(z)
            if i < len(self.weights) - 1:
                x = np.maximum(z, 0)
            else:
                x = z
        return x

    def backward(self, error):
        """Return gradients for the state of the last forward pass, given the derivative of the loss by the outputs."""
        weight_gradients = []
        bias_gradients = []
        for i in reversed(range(len(self.weights))):
            if i < len(self.weights) - 1:
                error = error * (self.before[i] > 0)
            weight_gradients.insert(0, np.outer(self.inputs[i], error))
            bias_gradients.insert(0, error)
            error = self.weights[i] @ error
        return weight_gradients, bias_gradients

    def copy_from(self, other):
        self.weights = [w.copy() for w in other.weights]
        self.biases = [b.copy() for b in other.biases]


class Adam:
    def __init__(self, arrays, learning_rate):
        self.learning_rate = learning_rate
        self.t = 0
        self.m = [np.zeros_like(a) for a in arrays]
        self.v = [np.zeros_like(a) for a in arrays]

    def step(self, arrays, gradients):
        self.t += 1
        for i in range(len(arrays)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * gradients[i]
            self.v[i] = 0.999 * self.v[i] + 0.001 * gradients[i] ** 2
            m_hat = self.m[i] / (1 - 0.9**self.t)
            v_hat = self.v[i] / (1 - 0.999**self.t)
            arrays[i] -= self.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)


class ReplayBuffer:
    def __init__(self, size):
        self.memory = deque(maxlen=size)

    def add(self, state, action, reward, next_state, done):
        self.memory.append((np.array(state), action, reward, np.array(next_state), done))

    def sample(self, n):
        batch = random.sample(self.memory, n)
        return [np.array(column) for column in zip(*batch)]


def huber(error):
    if abs(error) <= 1:
        return 0.5 * error**2
    return abs(error) - 0.5


def huber_derivative(error):
    if abs(error) <= 1:
        return error
    return np.sign(error)


class Agent:
    def __init__(self, n_inputs, n_actions, hidden=(32, 32), gamma=0.99, learning_rate=1e-3, buffer_size=10000, seed=0):
        rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        self.gamma = gamma
        self.epsilon = 1.0
        self.q_network = NeuralNetwork([n_inputs, *hidden, n_actions], rng)
        self.target_network = NeuralNetwork([n_inputs, *hidden, n_actions], rng)
        self.target_network.copy_from(self.q_network)
        self.optimizer = Adam(self.q_network.weights + self.q_network.biases, learning_rate)
        self.replay = ReplayBuffer(buffer_size)

    def act(self, state, epsilon):
        if np.random.rand() < epsilon:
            return np.random.randint(self.n_actions)
        return int(np.argmax(self.q_network.forward(state)))

    def gradients(self, states, actions, rewards, next_states, dones):
        weight_sum = [np.zeros_like(w) for w in self.q_network.weights]
        bias_sum = [np.zeros_like(b) for b in self.q_network.biases]
        loss = 0.0
        for i in range(len(states)):
            next_q = self.target_network.forward(next_states[i])
            target = rewards[i]
            if not dones[i]:
                target = target + self.gamma * np.max(next_q)
            q = self.q_network.forward(states[i])
            error = np.zeros(self.n_actions)
            error[actions[i]] = huber_derivative(q[actions[i]] - target)
            loss += huber(q[actions[i]] - target)
            weight_gradients, bias_gradients = self.q_network.backward(error)
            for j in range(len(weight_sum)):
                weight_sum[j] += weight_gradients[j] / len(states)
                bias_sum[j] += bias_gradients[j] / len(states)
        return loss / len(states), weight_sum, bias_sum

    def learn(self, states, actions, rewards, next_states, dones):
        loss, weight_gradients, bias_gradients = self.gradients(states, actions, rewards, next_states, dones)
        self.optimizer.step(self.q_network.weights + self.q_network.biases, weight_gradients + bias_gradients)
        return loss

    def update_target(self):
        self.target_network.copy_from(self.q_network)

    def train(self, env, steps, batch_size=32, warmup=200, sync_every=100):
        state, _ = env.reset()
        for step in range(steps):
            self.epsilon = max(0.05, 1.0 - step / (0.5 * steps))
            action = self.act(state, self.epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.replay.add(state, action, reward, next_state, terminated)
            state = next_state
            if terminated or truncated:
                state, _ = env.reset()
            if step >= warmup:
                self.learn(*self.replay.sample(batch_size))
            if step % sync_every == 0:
                self.update_target()


class Adapter:
    """The adapter that the doctor examines."""

    def __init__(self, agent, n_inputs):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = n_inputs

    def q_values(self, obs):
        return np.array([self.agent.q_network.forward(state) for state in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def target_q_values(self, obs):
        return np.array([self.agent.target_network.forward(state) for state in obs])

    def sync_target(self):
        self.agent.update_target()

    def parameters(self):
        return named(self.agent.q_network)

    def target_parameters(self):
        return named(self.agent.target_network)

    def gradients(self, obs, action, reward, next_obs, terminated):
        _, weights, biases = self.agent.gradients(obs, action, reward, next_obs, terminated)
        return {f"W{i}": w for i, w in enumerate(weights)} | {f"b{i}": b for i, b in enumerate(biases)}

    def loss(self, obs, action, reward, next_obs, terminated):
        return self.agent.gradients(obs, action, reward, next_obs, terminated)[0]

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.replay.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.replay.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def named(network):
    return {f"W{i}": w for i, w in enumerate(network.weights)} | {f"b{i}": b for i, b in enumerate(network.biases)}


def make(seed=0, n_inputs=4, n_actions=3):
    return Adapter(Agent(n_inputs, n_actions, seed=seed), n_inputs)
