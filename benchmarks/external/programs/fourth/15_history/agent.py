"""DQN for small control problems. The agent keeps its own preprocessed state."""
from collections import deque

import numpy as np


class Net:
    def __init__(self, layers, seed):
        rng = np.random.default_rng(seed)
        self.Ws = [rng.normal(0, np.sqrt(2 / a), (a, b)) for a, b in zip(layers, layers[1:])]
        self.bs = [np.zeros(b) for b in layers[1:]]

    def __call__(self, x):
        self.trace = [x]
        for W, b in zip(self.Ws[:-1], self.bs[:-1]):
            x = np.maximum(x @ W + b, 0)
            self.trace.append(x)
        return x @ self.Ws[-1] + self.bs[-1]

    def gradient(self, d):
        gWs, gbs = [], []
        for W, x in zip(self.Ws[::-1], self.trace[::-1]):
            gWs.append(x.T @ d)
            gbs.append(d.sum(0))
            d = (d @ W.T) * (x > 0)
        return gWs[::-1], gbs[::-1]

    def copy_weights(self, other):
        self.Ws = [W.copy() for W in other.Ws]
        self.bs = [b.copy() for b in other.bs]


class ControlAgent:
    def __init__(self, n_obs, n_actions, seed=0):
        self.n_obs, self.n_actions = n_obs, n_actions
        self.rng = np.random.default_rng(seed)
        self.gamma = 0.98
        self.lr = 1e-3
        self.batch = 32
        self.net = Net([n_obs, 64, 64, n_actions], seed)
        self.old_net = Net([n_obs, 64, 64, n_actions], seed)
        self.old_net.copy_weights(self.net)
        self.rms = [np.zeros_like(p) for p in self.net.Ws + self.net.bs]
        self.memory = deque(maxlen=20000)
        self.state = np.zeros(n_obs)
        self.count = 0

    def observe(self, observation):
        """Clips an observation."""
        self.state[:] = np.clip(observation, -10.0, 10.0)
        return self.state

    def pick(self, state, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.net(state.reshape(1, -1))))

    def remember(self, state, action, reward, next_state, terminal):
        self.memory.append((state, action, reward, next_state, terminal))

    def recall(self, n):
        index = self.rng.integers(len(self.memory), size=n)
        s, a, r, s2, t = zip(*(self.memory[i] for i in index))
        return np.array(s), np.array(a), np.array(r, float), np.array(s2), np.array(t, float)

    def learn(self, s, a, r, s2, t):
        y = r + self.gamma * (1 - t) * np.max(self.old_net(s2), axis=1)
        q = self.net(s)
        d = np.zeros_like(q)
        d[range(len(a)), a] = (q[range(len(a)), a] - y) / len(a)
        gWs, gbs = self.net.gradient(d)
        for i, (p, g) in enumerate(zip(self.net.Ws + self.net.bs, gWs + gbs)):
            self.rms[i] = 0.99 * self.rms[i] + 0.01 * g * g
            p -= self.lr * g / (np.sqrt(self.rms[i]) + 1e-4)
        self.count += 1
        if self.count % 200 == 0:
            self.old_net.copy_weights(self.net)

    def train(self, env, steps):
        observation, _ = env.reset()
        state = self.observe(observation)
        score, scores = 0.0, []
        for step in range(steps):
            action = self.pick(state, epsilon=max(0.02, 1.0 - step / 2500))
            observation, reward, terminated, truncated, _ = env.step(action)
            next_state = self.observe(observation)
            self.remember(state, action, reward, next_state, terminated)
            state = next_state
            score += reward
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                observation, _ = env.reset()
                state = self.observe(observation)
            if len(self.memory) >= 200:
                self.learn(*self.recall(self.batch))
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_obs

    def q_values(self, obs):
        return self.agent.net(obs)

    def target_q_values(self, obs):
        return self.agent.old_net(obs)

    def sync_target(self):
        self.agent.old_net.copy_weights(self.agent.net)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, np.asarray(terminated, float))

    def act(self, obs, epsilon):
        return self.agent.pick(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.recall(n)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(ControlAgent(4, 2, seed))
