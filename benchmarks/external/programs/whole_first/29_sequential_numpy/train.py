import numpy as np
import random
import gymnasium as gym
from collections import deque


class Layer:
    def __init__(self, units, activation=None):
        self.units, self.activation = units, activation

    def build(self, fan_in):
        self.W = np.random.randn(fan_in, self.units) * np.sqrt(2.0 / fan_in)
        self.b = np.zeros((1, self.units))
        return self.units

    def __call__(self, x):
        self.x = x
        self.out = x @ self.W + self.b
        if self.activation == 'relu':
            self.out = np.maximum(self.out, 0)
        return self.out

    def backward(self, d):
        if self.activation == 'relu':
            d = np.where(self.out > 0, d, 0)
        self.gW, self.gb = self.x.T @ d, d.sum(0, keepdims=True)
        return d @ self.W.T


class Model:
    def __init__(self, input_shape, layers):
        self.layers = layers
        n = input_shape
        for layer in layers:
            n = layer.build(n)

    def compile(self, lr):
        self.lr, self.t = lr, 0
        self.m = [np.zeros_like(p) for p in self.trainable()]
        self.v = [np.zeros_like(p) for p in self.trainable()]

    def trainable(self):
        return [p for l in self.layers for p in (l.W, l.b)]

    def predict(self, x):
        for l in self.layers:
            x = l(x)
        return x

    def train_on_batch(self, x, y):
        pred = self.predict(x)
        d = 2 * (pred - y) / len(x)
        for l in reversed(self.layers):
            d = l.backward(d)
        grads = [g for l in self.layers for g in (l.gW, l.gb)]
        self.t += 1
        for p, g, m, v in zip(self.trainable(), grads, self.m, self.v):
            m[:] = 0.9 * m + 0.1 * g
            v[:] = 0.999 * v + 0.001 * g ** 2
            p -= self.lr * (m / (1 - 0.9 ** self.t)) / (np.sqrt(v / (1 - 0.999 ** self.t)) + 1e-8)
        return np.mean((pred - y) ** 2)

    def set_weights(self, weights):
        for p, w in zip(self.trainable(), weights):
            np.copyto(p, w)


class DQN:
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=4000)
        self.gamma = 0.95
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.99
        self.learning_rate = 0.1
        self.model = self.create_model()
        self.target_model = self.create_model()
        self.target_model.set_weights(self.model.trainable())

    def create_model(self):
        n_in = self.env.observation_space.shape[0]
        model = Model(n_in, [Layer(32, 'relu'), Layer(32, 'relu'), Layer(int(self.env.action_space.n))])
        model.compile(lr=self.learning_rate)
        return model

    def act(self, state):
        if np.random.random() < self.epsilon:
            return self.env.action_space.sample()
        return int(np.argmax(self.model.predict(state)[0]))

    def remember(self, state, action, reward, new_state, terminal):
        self.memory.append([state, action, reward, new_state, terminal])

    def replay(self, batch_size=32):
        if len(self.memory) < 8 * batch_size:
            return
        samples = random.sample(self.memory, batch_size)
        states = np.concatenate([s[0] for s in samples])
        new_states = np.concatenate([s[3] for s in samples])
        y = self.model.predict(states).copy()
        q_future = self.target_model.predict(new_states).max(axis=1)
        for k, (_, action, reward, _, terminal) in enumerate(samples):
            y[k, action] = reward if terminal else reward + self.gamma * q_future[k]
        self.model.train_on_batch(states, y)

    def end_of_episode(self):
        self.epsilon = min(self.epsilon_min, self.epsilon * self.epsilon_decay)


def main():
    env = gym.make("CartPole-v1")
    trials, sync = 400, 200
    agent = DQN(env)
    results, count = [], 0
    for trial in range(trials):
        cur_state = env.reset()[0].reshape(1, -1)
        for step in range(500):
            action = agent.act(cur_state)
            new_state, reward, terminated, truncated, _ = env.step(action)
            new_state = new_state.reshape(1, -1)
            agent.remember(cur_state, action, reward, new_state, terminated)
            agent.replay()
            count += 1
            if count % sync == 0:
                agent.target_model.set_weights(agent.model.trainable())
            cur_state = new_state
            if terminated or truncated:
                break
        agent.end_of_episode()
        results.append(step + 1)
        if trial % 10 == 0:
            print("Trial {}: {} steps, mean {:.1f}".format(trial, step + 1, np.mean(results[-20:])))
    np.savetxt("results.txt", results, fmt="%d")


main()
