import random
from collections import deque

import gymnasium as gym
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


class Network:
    """Two-layer perceptron written from scratch."""

    def __init__(self, n_in, n_hidden, n_out, lr):
        self.W1 = np.random.randn(n_in, n_hidden) * np.sqrt(2.0 / n_in)
        self.b1 = np.zeros(n_hidden)
        self.W2 = np.random.randn(n_hidden, n_out) * np.sqrt(1.0 / n_hidden)
        self.b2 = np.zeros(n_out)
        self.lr = lr

    def forward(self, x):
        self.x = x
        self.z1 = x @ self.W1 + self.b1
        self.h1 = np.maximum(0, self.z1)
        return self.h1 @ self.W2 + self.b2

    def backward(self, dout):
        clip = lambda g: np.clip(g, -5, 5)
        self.W2 -= self.lr * clip(self.h1.T @ dout)
        self.b2 -= self.lr * clip(dout.sum(axis=0))
        dh = dout @ self.W2.T
        dz = dh * (self.z1 > 0)
        self.W1 -= self.lr * clip(self.x.T @ dz)
        self.b1 -= self.lr * clip(dz.sum(axis=0))

    def copy_from(self, other):
        self.W1, self.b1 = other.W1.copy(), other.b1.copy()
        self.W2, self.b2 = other.W2.copy(), other.b2.copy()


class Agent:
    def __init__(self, n_states, n_actions):
        self.n_actions = n_actions
        self.net = Network(n_states, 64, n_actions, lr=0.005)
        self.target = Network(n_states, 64, n_actions, lr=0.005)
        self.target.copy_from(self.net)
        self.memory = deque(maxlen=20000)
        self.gamma = 0.98
        self.eps = 1.0
        self.eps_end = 0.02
        self.eps_decay = 0.99
        self.batch = 64
        self.learn_steps = 0

    def choose(self, s):
        if random.random() < self.eps:
            return random.randrange(self.n_actions)
        return int(np.argmax(self.net.forward(s[None, :])[0]))

    def store(self, *transition):
        self.memory.append(transition)

    def learn(self):
        if len(self.memory) < 500:
            return
        batch = random.sample(self.memory, self.batch)
        s = np.array([b[0] for b in batch])
        a = np.array([b[1] for b in batch])
        r = np.array([b[2] for b in batch])
        s2 = np.array([b[3] for b in batch])
        d = np.array([b[4] for b in batch], dtype=float)

        q_next = self.target.forward(s2).max(axis=1)
        y = r + self.gamma * q_next * (1 - d)

        q = self.net.forward(s)
        grad = np.zeros_like(q)
        idx = np.arange(self.batch)
        grad[idx, a] = 2 * (q[idx, a] - y) / self.batch
        self.net.backward(grad)

        self.learn_steps += 1
        if self.learn_steps % 250 == 0:
            self.target.copy_from(self.net)


if __name__ == "__main__":
    np.random.seed(1)
    random.seed(1)
    env = gym.make("CartPole-v1")
    agent = Agent(env.observation_space.shape[0], env.action_space.n)
    scores = []
    for ep in range(600):
        state, _ = env.reset()
        score, over = 0, False
        while not over:
            action = agent.choose(state)
            nxt, reward, terminated, truncated, _ = env.step(action)
            agent.store(state, action, reward, nxt, terminated)
            agent.learn()
            state = nxt
            score += reward
            over = terminated or truncated
        agent.eps = max(agent.eps_end, agent.eps * agent.eps_decay)
        scores.append(score)
        if ep % 10 == 0:
            print("ep %d  avg %.1f  eps %.2f" % (ep, np.mean(scores[-20:]), agent.eps))
    plt.plot(scores)
    plt.savefig("cartpole.png")
