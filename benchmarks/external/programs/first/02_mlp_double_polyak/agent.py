import random
from collections import deque

import numpy as np


class MLP:
    """Fully connected network with tanh hidden layers, for any number of layers."""

    def __init__(self, sizes, seed):
        rng = np.random.RandomState(seed)
        self.weights, self.biases = [], []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            limit = np.sqrt(6.0 / (n_in + n_out))
            self.weights.append(rng.uniform(-limit, limit, (n_in, n_out)))
            self.biases.append(rng.uniform(-0.01, 0.01, n_out))

    def predict(self, x):
        self.activations = [x]
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases)):
            x = x @ w + b
            if i < last:
                x = np.tanh(x)
            self.activations.append(x)
        return x

    def backprop(self, delta):
        """Gradients for the inputs of the last predict(); delta is dLoss/dOutput."""
        dw = [None] * len(self.weights)
        db = [None] * len(self.biases)
        for i in reversed(range(len(self.weights))):
            dw[i] = self.activations[i].T @ delta
            db[i] = delta.sum(axis=0)
            if i > 0:
                delta = (delta @ self.weights[i].T) * (1 - self.activations[i] ** 2)
        return dw, db

    def blend(self, other, tau):
        for mine, theirs in zip(self.weights + self.biases, other.weights + other.biases):
            mine += tau * (theirs - mine)


class AdamW:
    def __init__(self, model, lr):
        self.model, self.lr, self.t, self.decay = model, lr, 0, 1e-4
        self.m = [np.zeros_like(p) for p in model.weights + model.biases]
        self.v = [np.zeros_like(p) for p in model.weights + model.biases]

    def apply(self, dw, db):
        self.t += 1
        params = self.model.weights + self.model.biases
        for i, (p, g) in enumerate(zip(params, dw + db)):
            self.m[i][...] = 0.9 * self.m[i] + 0.1 * g
            self.v[i][...] = 0.999 * self.v[i] + 0.001 * g * g
            mhat = self.m[i] / (1 - 0.9 ** self.t)
            vhat = self.v[i] / (1 - 0.999 ** self.t)
            p -= self.lr * (mhat / (np.sqrt(vhat) + 1e-8) + self.decay * p)


class Memory:
    def __init__(self, capacity):
        self.capacity = capacity
        self.data = []
        self.position = 0

    def push(self, transition):
        if len(self.data) < self.capacity:
            self.data.append(transition)
        else:
            self.data[self.position] = transition
        self.position = (self.position + 1) % self.capacity

    def sample(self, k):
        batch = random.sample(self.data, k) if k <= len(self.data) else random.choices(self.data, k=k)
        s, a, r, s2, d = zip(*batch)
        return (np.array(s), np.array(a), np.array(r, dtype=float), np.array(s2),
                np.array(d, dtype=float))


class Agent:
    def __init__(self, state_size, action_size, seed=0, learning_rate=0.001, gamma=0.98,
                 batch_size=32, tau=0.01):
        random.seed(seed)
        self.rng = np.random.RandomState(seed + 1)
        self.state_size, self.action_size = state_size, action_size
        self.gamma, self.batch_size, self.tau = gamma, batch_size, tau
        sizes = [state_size, 48, 48, action_size]
        self.model = MLP(sizes, seed)
        self.target_model = MLP(sizes, seed)
        self.target_model.blend(self.model, 1.0)
        self.optimizer = AdamW(self.model, learning_rate)
        self.memory = Memory(10000)
        self.epsilon = 1.0
        self.epsilon_min = 0.03
        self.epsilon_decay = 0.999
        self.recent = deque(maxlen=50)

    def choose_action(self, state):
        if self.rng.rand() <= self.epsilon:
            return self.rng.randint(self.action_size)
        return int(np.argmax(self.model.predict(state[np.newaxis])[0]))

    def fit(self, states, actions, rewards, next_states, dones):
        idx = np.arange(len(states))
        greedy = self.model.predict(next_states).argmax(axis=1)
        future = self.target_model.predict(next_states)[idx, greedy]
        target = rewards + self.gamma * future * (1 - dones)
        q = self.model.predict(states)
        delta = np.zeros_like(q)
        delta[idx, actions] = (q[idx, actions] - target) / len(states)
        dw, db = self.model.backprop(delta)
        self.optimizer.apply(dw, db)

    def run(self, env, total_steps):
        state, _ = env.reset()
        score = 0
        for step in range(total_steps):
            action = self.choose_action(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.push((state, action, reward, next_state, terminated))
            score += reward
            state = next_state
            if len(self.memory.data) >= 4 * self.batch_size:
                self.fit(*self.memory.sample(self.batch_size))
                self.target_model.blend(self.model, self.tau)
                self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)
            if terminated or truncated:
                self.recent.append(score)
                score = 0
                state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_size

    def q_values(self, obs):
        return self.agent.model.predict(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.fit(obs, action, reward, next_obs, terminated)

    def target_q_values(self, obs):
        return self.agent.target_model.predict(obs)

    def sync_target(self):
        self.agent.target_model.blend(self.agent.model, self.agent.tau)

    def act(self, obs, epsilon):
        self.agent.epsilon = epsilon
        return int(self.agent.choose_action(obs))

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.push((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return self.agent.memory.sample(n)

    def run(self, env, env_steps):
        self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed=seed))
