"""Keras-like model in NumPy. The target network is a moving average of the weights."""
import numpy as np


class Model:
    def __init__(self, units, rng):
        self.rng = rng
        self.weights = []
        for fan_in, fan_out in zip(units, units[1:]):
            self.weights.append(rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)))
            self.weights.append(np.zeros(fan_out))
        self.state = [(np.zeros_like(w), np.zeros_like(w)) for w in self.weights]
        self.t = 0
        self.lr, self.clipnorm = 1e-3, None

    def compile(self, lr, clipnorm=None):
        self.lr, self.clipnorm = lr, clipnorm

    @staticmethod
    def elu(z):
        return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))

    def predict(self, x):
        n = len(self.weights) // 2
        for k in range(n):
            x = x @ self.weights[2 * k] + self.weights[2 * k + 1]
            if k < n - 1:
                x = self.elu(x)
        return x

    def gradients(self, x, y):
        n = len(self.weights) // 2
        ins, zs = [], []
        for k in range(n):
            ins.append(x)
            x = x @ self.weights[2 * k] + self.weights[2 * k + 1]
            zs.append(x)
            if k < n - 1:
                x = self.elu(x)
        d = 2.0 * (x - y) / len(y)
        grads = []
        for k in range(n - 1, -1, -1):
            if k < n - 1:
                d = d * np.where(zs[k] > 0, 1.0, np.exp(np.minimum(zs[k], 0)))
            grads += [d.sum(axis=0), ins[k].T @ d]
            d = d @ self.weights[2 * k].T
        return grads[::-1]

    def train_on_batch(self, x, y):
        grads = self.gradients(x, y)
        if self.clipnorm is not None:
            norm = np.sqrt(sum((g**2).sum() for g in grads))
            if norm > self.clipnorm:
                grads = [g * (self.clipnorm / norm) for g in grads]
        self.t += 1
        for w, g, (m, v) in zip(self.weights, grads, self.state):
            m += 0.1 * (g - m)
            v += 0.001 * (g**2 - v)
            w -= self.lr * (m / (1 - 0.9**self.t)) / (np.sqrt(v / (1 - 0.999**self.t)) + 1e-8)

    def fit(self, x, y, epochs, batch_size):
        for _ in range(epochs):
            order = self.rng.permutation(len(x))
            for part in np.array_split(order, max(1, len(x) // batch_size)):
                self.train_on_batch(x[part], y[part])

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        for w, value in zip(self.weights, weights):
            w[:] = value


class Agent:
    def __init__(self, n_obs, n_actions, seed):
        self.rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        self.gamma, self.tau = 0.98, 0.02
        self.model = Model([n_obs, 48, 48, n_actions], self.rng)
        self.model.compile(lr=0.001, clipnorm=10.0)
        self.ema = Model([n_obs, 48, 48, n_actions], self.rng)
        self.ema.set_weights(self.model.get_weights())
        self.buffer = []
        self.steps = 0

    def act(self, obs, epsilon):
        p = np.full(self.n_actions, epsilon / self.n_actions)
        p[np.argmax(self.model.predict(obs[None])[0])] += 1 - epsilon
        return int(self.rng.choice(self.n_actions, p=p))

    def targets(self, obs, action, reward, next_obs, terminated):
        y = self.model.predict(obs)
        boot = self.ema.predict(next_obs).max(axis=1)
        y[np.arange(len(y)), action] = np.where(terminated, reward, reward + self.gamma * boot)
        return y

    def update(self, obs, action, reward, next_obs, terminated):
        y = self.targets(obs, action, reward, next_obs, terminated)
        self.model.fit(obs, y, epochs=1, batch_size=32)
        self.average()

    def average(self):
        pairs = zip(self.ema.get_weights(), self.model.get_weights())
        self.ema.set_weights([(1 - self.tau) * e + self.tau * w for e, w in pairs])

    def sample(self, n):
        rows = self.rng.integers(len(self.buffer), size=n)
        return [np.array(c) for c in zip(*(self.buffer[i] for i in rows))]

    def train(self, env, steps):
        obs = env.reset()[0]
        for _ in range(steps):
            action = self.act(obs, max(0.05, 1 - self.steps / 3000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.buffer.append((obs, action, reward, next_obs, terminated))
            self.steps += 1
            # two minibatches of 32 on every second step
            if self.steps > 128 and self.steps % 2 == 0:
                self.update(*self.sample(64))
            obs = env.reset()[0] if terminated or truncated else next_obs


class Adapter:
    observation_size = 4

    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma

    def q_values(self, obs):
        return self.agent.model.predict(obs)

    def target_q_values(self, obs):
        return self.agent.ema.predict(obs)

    def sync_target(self):
        self.agent.average()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.append((obs.copy(), action, reward, next_obs.copy(), terminated))

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed))
