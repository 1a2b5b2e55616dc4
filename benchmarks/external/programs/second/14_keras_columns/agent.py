import random
from collections import deque

import numpy as np


class QModel:
    def __init__(self, n_in, n_out, units=50, lr=0.001):
        self.lr = lr
        self.params = [
            np.random.normal(0, np.sqrt(2 / n_in), (n_in, units)),
            np.zeros(units),
            np.random.normal(0, np.sqrt(2 / units), (units, n_out)),
            np.zeros(n_out),
        ]
        self.m = [np.zeros_like(p) for p in self.params]
        self.v = [np.zeros_like(p) for p in self.params]
        self.t = 0

    def predict(self, X):
        w1, b1, w2, b2 = self.params
        return np.maximum(X @ w1 + b1, 0) @ w2 + b2

    def fit(self, X, Y, epochs=1):
        for _ in range(epochs):
            w1, b1, w2, b2 = self.params
            h = np.maximum(X @ w1 + b1, 0)
            d = (h @ w2 + b2 - Y) / len(X)
            dh = (d @ w2.T) * (h > 0)
            self.apply([X.T @ dh, dh.sum(0), h.T @ d, d.sum(0)])

    def apply(self, grads):
        self.t += 1
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * g * g
            p -= self.lr * m / (1 - 0.9**self.t) / (np.sqrt(v / (1 - 0.999**self.t)) + 1e-7)

    def get_weights(self):
        return [p.copy() for p in self.params]

    def set_weights(self, weights):
        self.params = [w.copy() for w in weights]


class ExperienceReplay:
    def __init__(self, maxlen=10000):
        self.states = deque(maxlen=maxlen)
        self.actions = deque(maxlen=maxlen)
        self.rewards = deque(maxlen=maxlen)
        self.next_states = deque(maxlen=maxlen)
        self.terminals = deque(maxlen=maxlen)

    def __len__(self):
        return len(self.states)

    def store(self, state, action, reward, next_state, terminal):
        self.states.append(state)
        self.actions.append(action)
        self.rewards.append(reward)
        self.next_states.append(next_state)
        self.terminals.append(terminal)

    def sample(self, n):
        columns = [self.states, self.actions, self.rewards, self.next_states, self.terminals]
        return [np.array(random.sample(column, n)) for column in columns]


class Player:
    def __init__(self, n_inputs, n_actions):
        self.n_inputs = n_inputs
        self.n_actions = n_actions
        self.discount = 0.97
        self.model = QModel(n_inputs, n_actions)
        self.target_model = QModel(n_inputs, n_actions)
        self.copy_model()
        self.replay = ExperienceReplay()
        self.eps, self.eps_end, self.eps_step = 1.0, 0.05, 1 / 4000

    def copy_model(self):
        self.target_model.set_weights(self.model.get_weights())

    def move(self, state, eps):
        if np.random.random() < eps:
            return np.random.randint(0, self.n_actions - 1)
        return int(np.argmax(self.model.predict(state[None])))

    def learn(self, states, actions, rewards, next_states, terminals):
        next_q = np.max(self.target_model.predict(next_states), axis=1)
        target_q = self.model.predict(states)
        for i, a in enumerate(actions):
            target_q[i, a] = rewards[i] + self.discount * next_q[i] * terminals[i]
        self.model.fit(states, target_q)

    def play(self, env, steps, batch_size=32):
        state, _ = env.reset()
        for i in range(1, steps + 1):
            action = self.move(state, self.eps)
            self.eps = max(self.eps_end, self.eps - self.eps_step)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.replay.store(state, action, reward, next_state, terminated)
            if len(self.replay) > batch_size * 2:
                self.learn(*self.replay.sample(batch_size))
            if i % 200 == 0:
                self.copy_model()
            state = next_state
            if terminated or truncated:
                state, _ = env.reset()


class Adapter:
    def __init__(self, player):
        self.player = player
        self.gamma = player.discount
        self.observation_size = player.n_inputs

    def q_values(self, obs):
        return self.player.model.predict(obs)

    def target_q_values(self, obs):
        return self.player.target_model.predict(obs)

    def sync_target(self):
        self.player.copy_model()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.player.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.player.move(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.player.replay.store(obs.copy(), action, reward, next_obs.copy(), terminated)

    def sample(self, n):
        return self.player.replay.sample(n)

    def run(self, env, env_steps):
        self.player.play(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    return Adapter(Player(4, 2))
