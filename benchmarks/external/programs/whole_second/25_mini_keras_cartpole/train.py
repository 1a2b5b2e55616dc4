import random
from collections import deque

import gymnasium as gym
import numpy as np


# ---------------------------------------------------------------- tiny keras
class Dense:
    def __init__(self, units, activation="linear", input_dim=None):
        self.units, self.activation, self.input_dim = units, activation, input_dim

    def build(self, n_in):
        lim = np.sqrt(6.0 / (n_in + self.units))
        self.W = np.random.uniform(-lim, lim, (n_in, self.units))
        self.b = np.zeros(self.units)

    def call(self, x):
        self.x = x
        self.y = x @ self.W + self.b
        if self.activation == "relu":
            self.y = np.maximum(self.y, 0)
        return self.y

    def grad(self, g):
        if self.activation == "relu":
            g = g * (self.y > 0)
        self.dW, self.db = self.x.T @ g, g.sum(axis=0)
        return g @ self.W.T


class Adam:
    def __init__(self, lr=0.001, b1=0.9, b2=0.999, eps=1e-7):
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.slots, self.t = {}, 0

    def apply(self, pairs):
        self.t += 1
        for key, (p, g) in enumerate(pairs):
            m, v = self.slots.get(key, (np.zeros_like(p), np.zeros_like(p)))
            m = self.b1 * m + (1 - self.b1) * g
            v = self.b2 * v + (1 - self.b2) * g * g
            self.slots[key] = (m, v)
            step = self.lr * np.sqrt(1 - self.b2 ** self.t) / (1 - self.b1 ** self.t)
            p -= step * m / (np.sqrt(v) + self.eps)


class Sequential:
    def __init__(self):
        self.layers = []

    def add(self, layer):
        layer.build(layer.input_dim or self.layers[-1].units)
        self.layers.append(layer)

    def compile(self, loss, optimizer):
        assert loss == "mse"
        self.optimizer = optimizer

    def predict(self, x):
        for layer in self.layers:
            x = layer.call(x)
        return x

    def fit(self, x, y, batch_size=32, epochs=1):
        for _ in range(epochs):
            order = np.random.permutation(len(x))
            for i in range(0, len(x), batch_size):
                j = order[i:i + batch_size]
                out = self.predict(x[j])
                g = 2.0 * (out - y[j]) / out.size
                for layer in reversed(self.layers):
                    g = layer.grad(g)
                self.optimizer.apply([(p, d) for l in self.layers for p, d in ((l.W, l.dW), (l.b, l.db))])

    def get_weights(self):
        return [w.copy() for l in self.layers for w in (l.W, l.b)]

    def set_weights(self, ws):
        for l, (W, b) in zip(self.layers, zip(ws[::2], ws[1::2])):
            l.W, l.b = W.copy(), b.copy()


# ---------------------------------------------------------------- the agent
class DQNAgent:
    def __init__(self, state_size, action_size):
        self.state_size, self.action_size = state_size, action_size
        self.memory = deque(maxlen=10000)
        self.gamma = 0.97
        self.epsilon, self.epsilon_min, self.epsilon_decay = 1.0, 0.02, 0.99
        self.model = self._build_model()
        self.target_model = self._build_model()
        self.update_target_model()

    def _build_model(self):
        model = Sequential()
        model.add(Dense(48, activation="relu", input_dim=self.state_size))
        model.add(Dense(48, activation="relu"))
        model.add(Dense(self.action_size, activation="linear"))
        model.compile(loss="mse", optimizer=Adam(lr=0.001))
        return model

    def update_target_model(self):
        self.target_model.set_weights(self.model.get_weights())

    def memorize(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        if np.random.rand() <= self.epsilon:
            return random.randrange(self.action_size)
        return int(np.argmax(self.model.predict(state)[0]))

    def replay(self, batch_size):
        minibatch = random.sample(self.memory, batch_size)
        states = np.vstack([m[0] for m in minibatch])
        next_states = np.vstack([m[3] for m in minibatch])
        targets = self.target_model.predict(states)
        next_q = self.target_model.predict(next_states)
        for i, (_, action, reward, _, done) in enumerate(minibatch):
            targets[i][action] = reward if done else reward + self.gamma * np.amax(next_q[i])
        self.model.fit(states, targets, batch_size=batch_size, epochs=1)


if __name__ == "__main__":
    env = gym.make("CartPole-v1")
    agent = DQNAgent(env.observation_space.shape[0], env.action_space.n)
    batch_size, total = 32, 0
    for e in range(600):
        state, _ = env.reset()
        state = state.reshape(1, -1)
        for time in range(1, 501):
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = next_state.reshape(1, -1)
            agent.memorize(state, action, reward, next_state, terminated)
            state = next_state
            total += 1
            if len(agent.memory) > 300:
                agent.replay(batch_size)
            if total % 500 == 0:
                agent.update_target_model()
            if terminated or truncated:
                break
        agent.epsilon = max(agent.epsilon_min, agent.epsilon * agent.epsilon_decay)
        print("episode: {}/600, score: {}, e: {:.2}".format(e, time, agent.epsilon))
