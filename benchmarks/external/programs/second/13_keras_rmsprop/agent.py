import random
from collections import deque

import numpy as np


class RMSprop:
    def __init__(self, learning_rate=0.001, rho=0.9, epsilon=1e-6):
        self.learning_rate, self.rho, self.epsilon = learning_rate, rho, epsilon
        self.accumulators = None

    def apply_gradients(self, grads, weights):
        if self.accumulators is None:
            self.accumulators = [np.zeros_like(w) for w in weights]
        for acc, g, w in zip(self.accumulators, grads, weights):
            acc *= self.rho
            acc += (1.0 - self.rho) * np.square(g)
            w -= self.learning_rate * g / (acc + self.epsilon)


class Model:
    def __init__(self, layer_sizes, optimizer):
        self.optimizer = optimizer
        self.weights = []
        for a, b in zip(layer_sizes, layer_sizes[1:]):
            self.weights.append(np.random.uniform(-1, 1, (a, b)) * np.sqrt(6.0 / (a + b)))
            self.weights.append(np.zeros(b))

    def predict(self, x):
        for i in range(0, len(self.weights), 2):
            x = x @ self.weights[i] + self.weights[i + 1]
            if i + 2 < len(self.weights):
                x = np.maximum(x, 0)
        return x

    def fit(self, x, y):
        inputs = []
        out = x
        for i in range(0, len(self.weights), 2):
            inputs.append(out)
            out = out @ self.weights[i] + self.weights[i + 1]
            if i + 2 < len(self.weights):
                out = np.maximum(out, 0)
        loss = np.mean(np.sum((out - y) ** 2, axis=1))
        delta = 2 * (out - y) / len(x)
        grads = []
        for k in reversed(range(len(inputs))):
            grads = [inputs[k].T @ delta, delta.sum(axis=0)] + grads
            if k > 0:
                delta = (delta @ self.weights[2 * k].T) * (inputs[k] > 0)
        self.optimizer.apply_gradients(grads, self.weights)
        return loss

    def get_weights(self):
        return [np.copy(w) for w in self.weights]

    def set_weights(self, ws):
        for w, new in zip(self.weights, ws):
            np.copyto(w, new)


class Agent:
    def __init__(self, n_obs, n_act):
        self.n_obs, self.n_act = n_obs, n_act
        self.gamma = 0.95
        self.model = Model([n_obs, 24, 24, n_act], RMSprop(0.001))
        self.target_model = Model([n_obs, 24, 24, n_act], RMSprop(0.001))
        self.sync()
        self.memory = deque(maxlen=10000)
        self.eps = 1.0

    def sync(self):
        self.target_model.set_weights(self.model.get_weights())

    def act(self, obs, eps=None):
        if np.random.rand() < (self.eps if eps is None else eps):
            return int(np.random.choice(self.n_act))
        return int(self.model.predict(obs[None, :]).argmax())

    def fit_batch(self, obs, action, reward, next_obs, done):
        bootstrap = self.target_model.predict(next_obs).max(axis=1)
        bootstrap[np.asarray(done, dtype=bool)] = 0.0
        targets = self.model.predict(obs)
        targets[np.arange(len(obs)), action] = reward + self.gamma * bootstrap
        return self.model.fit(obs, targets)

    def replay(self, batch_size=32):
        batch = random.sample(self.memory, batch_size)
        self.fit_batch(*[np.array(c) for c in zip(*batch)])
        self.eps = max(0.02, self.eps * 0.999)

    def train(self, env, steps):
        obs, _ = env.reset()
        for t in range(steps):
            a = self.act(obs)
            nxt, r, terminated, truncated, _ = env.step(a)
            self.memory.append((obs, a, r, nxt, terminated))
            obs = nxt
            if terminated or truncated:
                obs, _ = env.reset()
            if len(self.memory) >= 128:
                self.replay()
            if t % 200 == 199:
                self.sync()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_obs

    def q_values(self, obs):
        return self.agent.model.predict(obs)

    def target_q_values(self, obs):
        return self.agent.target_model.predict(obs)

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.fit_batch(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append((obs.copy(), action, reward, next_obs.copy(), terminated))

    def sample(self, n):
        return [np.array(c) for c in zip(*random.sample(self.agent.memory, n))]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    return Adapter(Agent(4, 2))
