import random
from collections import deque

import numpy as np


class Dense:
    def __init__(self, n_in, n_out, rng):
        self.W = rng.standard_normal((n_out, n_in)) * np.sqrt(2.0 / n_in)
        self.b = np.zeros(n_out)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)
        self.mW, self.mb = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return self.W @ x + self.b

    def backward(self, g):
        self.dW += np.outer(g, self.x)
        self.db += g
        return self.W.T @ g

    def update(self, lr, mu):
        # Nesterov momentum
        self.mW = mu * self.mW + self.dW
        self.mb = mu * self.mb + self.db
        self.W -= lr * (self.dW + mu * self.mW)
        self.b -= lr * (self.db + mu * self.mb)
        self.dW.fill(0)
        self.db.fill(0)


class LeakyReLU:
    def __init__(self, slope=0.01):
        self.slope = slope

    def forward(self, x):
        self.factor = np.where(x > 0, 1.0, self.slope)
        return x * self.factor

    def backward(self, g):
        return g * self.factor

    def update(self, lr, mu):
        pass


def huber_grad(e, delta=2.0):
    if abs(e) <= delta:
        return e
    return delta * np.sign(e)


class Agent:
    def __init__(self, n_obs, n_actions, seed):
        self.rng = np.random.default_rng(seed)
        self.py = random.Random(seed)
        self.n_actions = n_actions
        self.gamma = 0.97
        self.lr, self.mu, self.tau = 0.004, 0.9, 0.02
        self.layers = self.new(n_obs)
        self.slow = self.new(n_obs)
        for a, b in zip(self.slow, self.layers):
            if isinstance(a, Dense):
                a.W, a.b = b.W.copy(), b.b.copy()
        self.buffer = deque(maxlen=8000)
        self.count = 0

    def new(self, n_obs):
        return [
            Dense(n_obs, 40, self.rng), LeakyReLU(),
            Dense(40, 40, self.rng), LeakyReLU(),
            Dense(40, self.n_actions, self.rng),
        ]

    @staticmethod
    def run_layers(layers, x):
        for layer in layers:
            x = layer.forward(x)
        return x

    def act(self, obs, epsilon):
        if self.py.random() >= epsilon:
            return int(np.argmax(self.run_layers(self.layers, obs)))
        return self.py.randrange(self.n_actions)

    def learn(self, batch):
        for obs, action, reward, next_obs, terminated in batch:
            target = reward
            if not terminated:
                # the action of the online network, valued by the slow one;
                # comes first because forward() overwrites what backward() needs
                a_star = np.argmax(self.run_layers(self.layers, next_obs))
                target = reward + self.gamma * self.run_layers(self.slow, next_obs)[a_star]
            q = self.run_layers(self.layers, obs)
            g = np.zeros(self.n_actions)
            g[action] = huber_grad(q[action] - target) / len(batch)
            for layer in reversed(self.layers):
                g = layer.backward(g)
        for layer in self.layers:
            layer.update(self.lr, self.mu)
        self.track()

    def track(self):
        for s, q in zip(self.slow, self.layers):
            if isinstance(s, Dense):
                s.W += self.tau * (q.W - s.W)
                s.b += self.tau * (q.b - s.b)

    def train(self, env, steps):
        obs = env.reset()[0]
        for _ in range(steps):
            a = self.act(obs, max(0.03, 1 - self.count / 2500))
            nxt, r, terminated, truncated, _ = env.step(a)
            self.buffer.append((obs, a, r, nxt, terminated))
            self.count += 1
            if self.count >= 64:
                self.learn(self.py.sample(self.buffer, 24))
            obs = env.reset()[0] if terminated or truncated else nxt


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = 4

    def q_values(self, obs):
        return np.array([Agent.run_layers(self.agent.layers, o) for o in obs])

    def target_q_values(self, obs):
        return np.array([Agent.run_layers(self.agent.slow, o) for o in obs])

    def sync_target(self):
        self.agent.track()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(list(zip(obs, action, reward, next_obs, terminated)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.append((obs.copy(), action, reward, next_obs.copy(), terminated))

    def sample(self, n):
        return [np.array(c) for c in zip(*self.agent.py.sample(self.agent.buffer, n))]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed))
