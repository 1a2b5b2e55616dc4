import random

import numpy as np


class Model:
    def __init__(self, input_dim, hidden, output_dim, learning_rate=0.005):
        self.learning_rate = learning_rate
        self.trainable = {}
        dims = [input_dim, *hidden, output_dim]
        for k in range(len(dims) - 1):
            self.trainable[f"kernel_{k}"] = np.random.randn(dims[k], dims[k + 1]) * np.sqrt(2 / dims[k])
            self.trainable[f"bias_{k}"] = np.zeros(dims[k + 1])
        self.depth = len(dims) - 1
        self.velocity = {name: np.zeros_like(w) for name, w in self.trainable.items()}

    def call(self, x):
        outputs = [x]
        for k in range(self.depth):
            x = x @ self.trainable[f"kernel_{k}"] + self.trainable[f"bias_{k}"]
            if k + 1 < self.depth:
                x = np.maximum(x, 0.0)
            outputs.append(x)
        return outputs

    def predict(self, x, verbose=0):
        return self.call(np.asarray(x, dtype=float))[-1]

    def predict_on_batch(self, x):
        return self.predict(x)

    def train_on_batch(self, x, y):
        outputs = self.call(x)
        d = np.clip(outputs[-1] - y, -1.0, 1.0) / len(x)  # Huber
        gradients = {}
        for k in range(self.depth - 1, -1, -1):
            gradients[f"kernel_{k}"] = outputs[k].T @ d
            gradients[f"bias_{k}"] = d.sum(axis=0)
            d = (d @ self.trainable[f"kernel_{k}"].T) * (outputs[k] > 0)
        for name, g in gradients.items():
            self.velocity[name] = 0.9 * self.velocity[name] + g
            self.trainable[name] -= self.learning_rate * self.velocity[name]

    def get_weights(self):
        return list(self.trainable.values())

    def set_weights(self, weights):
        for name, w in zip(self.trainable, weights):
            self.trainable[name] = w


class DeepQ:
    def __init__(self, n_states, n_actions, memory_size=10000, gamma=0.98, batch_size=32, update_freq=300):
        self.n_states, self.n_actions = n_states, n_actions
        self.gamma, self.batch_size, self.update_freq = gamma, batch_size, update_freq
        self.model = Model(n_states, [64, 64], n_actions)
        self.target_model = Model(n_states, [64, 64], n_actions)
        self.update_target()
        self.memory_size = memory_size
        self.memory = []
        self.counter = 0

    def update_target(self):
        self.target_model.set_weights(self.model.get_weights())

    def remember(self, s, a, r, s_next, terminal):
        if len(self.memory) == self.memory_size:
            self.memory[self.counter % self.memory_size] = (s, a, r, s_next, terminal)
        else:
            self.memory.append((s, a, r, s_next, terminal))
        self.counter += 1

    def get_batch(self, n):
        batch = random.sample(self.memory, n)
        return [np.array(column) for column in zip(*batch)]

    def choose_action(self, s, epsilon):
        if random.random() < epsilon:
            return random.randint(0, self.n_actions - 1)
        return int(np.argmax(self.model.predict(s[np.newaxis])[0]))

    def update(self, s, a, r, s_next, terminal):
        y = self.model.predict_on_batch(s)
        future = self.target_model.predict_on_batch(s_next)
        for j in range(len(s)):
            y[j, a[j]] = r[j] if terminal[j] else r[j] + self.gamma * future[j].max()
        self.model.train_on_batch(s, y)

    def train(self, env, n_steps):
        s, _ = env.reset()
        for _ in range(n_steps):
            a = self.choose_action(s, max(0.05, 1 - self.counter / 4000))
            s_next, r, terminal, truncated, _ = env.step(a)
            self.remember(s, a, r, s_next, terminal)
            if len(self.memory) >= 2 * self.batch_size:
                self.update(*self.get_batch(self.batch_size))
            if self.counter % self.update_freq == 0:
                self.update_target()
            s = s_next
            if terminal or truncated:
                s, _ = env.reset()


class Adapter:
    def __init__(self, dq):
        self.dq = dq
        self.gamma = dq.gamma
        self.observation_size = dq.n_states

    def q_values(self, obs):
        return self.dq.model.predict(obs)

    def target_q_values(self, obs):
        return self.dq.target_model.predict(obs)

    def sync_target(self):
        self.dq.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dq.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.dq.choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dq.remember(np.array(obs), action, reward, np.array(next_obs), terminated)

    def sample(self, n):
        return self.dq.get_batch(n)

    def run(self, env, env_steps):
        self.dq.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    return Adapter(DeepQ(4, 2))
