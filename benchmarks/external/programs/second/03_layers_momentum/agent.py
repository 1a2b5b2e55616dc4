import copy
import random

import numpy as np


class Dense:
    """Fully connected layer with momentum SGD."""

    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_out, n_in) * np.sqrt(2 / n_in)
        self.b = np.zeros(n_out)
        self.gW = np.zeros((n_out, n_in))
        self.gb = np.zeros(n_out)
        self.vW = np.zeros((n_out, n_in))
        self.vb = np.zeros(n_out)

    def forward(self, x):
        self.x = x
        return self.W @ x + self.b

    def backward(self, g):
        self.gW += np.outer(g, self.x)
        self.gb += g
        return self.W.T @ g

    def apply(self, lr, mu, n):
        self.vW = mu * self.vW - lr * self.gW / n
        self.vb = mu * self.vb - lr * self.gb / n
        self.W += self.vW
        self.b += self.vb


class ReLU:
    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, 0.0)

    def backward(self, g):
        return np.where(self.x > 0, g, 0.0)

    def apply(self, lr, mu, n):
        pass


class QAgent:
    def __init__(self, state_dim, action_dim, lr=0.003, momentum=0.9, gamma=0.99, batch_size=32, capacity=15000):
        self.state_dim = state_dim
        self.action_dim = action_dim
        self.lr = lr
        self.momentum = momentum
        self.gamma = gamma
        self.batch_size = batch_size
        self.capacity = capacity
        self.net = [Dense(state_dim, 64), ReLU(), Dense(64, action_dim)]
        self.target_net = copy.deepcopy(self.net)
        self.buffer = []
        self.cursor = 0
        self.train_count = 0

    @staticmethod
    def predict(net, x):
        for layer in net:
            x = layer.forward(x)
        return x

    def get_action(self, state, epsilon):
        if random.random() < epsilon:
            return random.randint(0, self.action_dim - 1)
        return int(np.argmax(self.predict(self.net, state)))

    def store(self, *transition):
        if len(self.buffer) < self.capacity:
            self.buffer.append(transition)
        else:
            self.buffer[self.cursor] = transition
        self.cursor = (self.cursor + 1) % self.capacity

    def train(self, batch):
        for state, action, reward, next_state, done in batch:
            target = reward + (0.0 if done else self.gamma * np.max(self.predict(self.target_net, next_state)))
            output = self.predict(self.net, state)
            g = np.zeros(self.action_dim)
            g[action] = np.clip(output[action] - target, -1, 1)
            for layer in reversed(self.net):
                g = layer.backward(g)
        for layer in self.net:
            layer.apply(self.lr, self.momentum, len(batch))
        self.train_count += 1
        if self.train_count % 150 == 0:
            self.update_target()

    def update_target(self):
        self.target_net = copy.deepcopy(self.net)


def play(agent, env, n_steps, eps_start=1.0, eps_end=0.05, eps_steps=4000):
    state, _ = env.reset()
    for step in range(n_steps):
        eps = max(eps_end, eps_start - (eps_start - eps_end) * step / eps_steps)
        action = agent.get_action(state, eps)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.store(state, action, reward, next_state, terminated)
        if len(agent.buffer) >= 2 * agent.batch_size:
            agent.train(random.sample(agent.buffer, agent.batch_size))
        if terminated or truncated:
            state, _ = env.reset()
        else:
            state = next_state


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_dim

    def q_values(self, obs):
        return np.array([QAgent.predict(self.agent.net, x) for x in obs])

    def target_q_values(self, obs):
        return np.array([QAgent.predict(self.agent.target_net, x) for x in obs])

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train(list(zip(obs, action, reward, next_obs, terminated)))

    def act(self, obs, epsilon):
        return self.agent.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store(np.array(obs), action, reward, np.array(next_obs), terminated)

    def sample(self, n):
        return [np.array(col) for col in zip(*random.sample(self.agent.buffer, n))]

    def run(self, env, env_steps):
        play(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    return Adapter(QAgent(4, 2))
