import random
from collections import deque

import numpy as np


class Dense:
    def __init__(self, units, activation="linear", input_dim=None):
        self.units, self.activation, self.input_dim = units, activation, input_dim

    def build(self, n_in):
        self.kernel = np.random.randn(n_in, self.units) * np.sqrt(2.0 / n_in)
        self.bias = np.zeros(self.units)
        self.slots = [np.zeros_like(w) for w in (self.kernel, self.bias, self.kernel, self.bias)]

    def call(self, x):
        self.x = x
        self.z = x @ self.kernel + self.bias
        return np.maximum(self.z, 0) if self.activation == "relu" else self.z

    def grad(self, d):
        if self.activation == "relu":
            d = d * (self.z > 0)
        self.dk, self.db = self.x.T @ d, d.sum(axis=0)
        return d @ self.kernel.T


class Sequential:
    def __init__(self):
        self.layers = []

    def add(self, layer):
        layer.build(layer.input_dim or self.layers[-1].units)
        self.layers.append(layer)

    def compile(self, loss="mse", learning_rate=0.001):
        self.loss, self.learning_rate, self.t = loss, learning_rate, 0

    def predict(self, x):
        for layer in self.layers:
            x = layer.call(x)
        return x

    def fit(self, x, y):
        d = (self.predict(x) - y) / len(x)
        for layer in self.layers[::-1]:
            d = layer.grad(d)
        self.t += 1
        for layer in self.layers:
            for i, (w, g) in enumerate(((layer.kernel, layer.dk), (layer.bias, layer.db))):
                m, v = layer.slots[i], layer.slots[i + 2]
                m[...] = 0.9 * m + 0.1 * g
                v[...] = 0.999 * v + 0.001 * g**2
                w -= self.learning_rate * (m / (1 - 0.9**self.t)) / (np.sqrt(v / (1 - 0.999**self.t)) + 1e-8)

    def get_weights(self):
        return [w.copy() for layer in self.layers for w in (layer.kernel, layer.bias)]

    def set_weights(self, weights):
        it = iter(weights)
        for layer in self.layers:
            layer.kernel, layer.bias = next(it).copy(), next(it).copy()


class Agent:
    def __init__(self, observation_space, action_space):
        self.observation_space = observation_space
        self.action_space = action_space
        self.gamma = 0.99
        self.memory = deque(maxlen=20000)
        self.model = self.build_model()
        self.target_model = self.build_model()
        self.target_model.set_weights(self.model.get_weights())
        self.step_count = 0

    def build_model(self):
        model = Sequential()
        model.add(Dense(48, activation="relu", input_dim=self.observation_space))
        model.add(Dense(48, activation="relu"))
        model.add(Dense(self.action_space, activation="relu"))
        model.compile(loss="mse", learning_rate=0.001)
        return model

    def remember(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state, exploration_rate):
        if np.random.rand() < exploration_rate:
            return random.randrange(self.action_space)
        return int(np.argmax(self.model.predict(state.reshape(1, -1))[0]))

    def experience_replay(self, states, actions, rewards, next_states, terminals):
        q_update = rewards + self.gamma * np.amax(self.target_model.predict(next_states), axis=1) * (
            1 - np.asarray(terminals, dtype=float)
        )
        q_values = self.model.predict(states)
        q_values[np.arange(len(actions)), actions] = q_update
        self.model.fit(states, q_values)

    def sync(self):
        self.target_model.set_weights(self.model.get_weights())


def cartpole(agent, env, max_steps, batch_size=32):
    state = env.reset()[0]
    for _ in range(max_steps):
        rate = max(0.02, 1.0 - agent.step_count / 4000)
        action = agent.act(state, rate)
        state_next, reward, terminal, truncated, _ = env.step(action)
        agent.remember(state, action, reward, state_next, terminal)
        agent.step_count += 1
        if len(agent.memory) >= 100:
            batch = random.sample(agent.memory, batch_size)
            agent.experience_replay(*map(np.array, zip(*batch)))
        if agent.step_count % 250 == 0:
            agent.sync()
        state = state_next
        if terminal or truncated:
            state = env.reset()[0]


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.observation_space

    def q_values(self, obs):
        return self.agent.model.predict(obs)

    def target_q_values(self, obs):
        return self.agent.target_model.predict(obs)

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.experience_replay(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(obs.copy(), action, reward, next_obs.copy(), terminated)

    def sample(self, n):
        return tuple(np.array(c) for c in zip(*random.sample(self.agent.memory, n)))

    def run(self, env, env_steps):
        cartpole(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    return Adapter(Agent(4, 2))
