import numpy as np


class Net:
    """predict / train_on_batch / get_weights / set_weights"""

    def __init__(self, n_in, n_hidden, n_out, lr, rng):
        self.lr = lr
        self.W1 = rng.standard_normal((n_in, n_hidden)) * np.sqrt(2 / n_in)
        self.b1 = np.zeros(n_hidden)
        self.W2 = rng.standard_normal((n_hidden, n_out)) * np.sqrt(2 / n_hidden)
        self.b2 = np.zeros(n_out)

    def predict(self, X):
        return np.maximum(X @ self.W1 + self.b1, 0) @ self.W2 + self.b2

    def train_on_batch(self, X, Y):
        H = np.maximum(X @ self.W1 + self.b1, 0)
        E = H @ self.W2 + self.b2 - Y
        dO = E / len(X)
        dH = dO @ self.W2.T * (H > 0)
        self.W2 -= self.lr * H.T @ dO
        self.b2 -= self.lr * dO.sum(0)
        self.W1 -= self.lr * X.T @ dH
        self.b1 -= self.lr * dH.sum(0)
        return float((E**2).sum(1).mean())

    def get_weights(self):
        return [self.W1.copy(), self.b1.copy(), self.W2.copy(), self.b2.copy()]

    def set_weights(self, weights):
        self.W1, self.b1, self.W2, self.b2 = [w.copy() for w in weights]


class Memory:
    def __init__(self, n, n_obs, rng):
        self.rng = rng
        self.s = np.zeros((n, n_obs))
        self.a = np.zeros(n, dtype=int)
        self.r = np.zeros(n)
        self.s2 = np.zeros((n, n_obs))
        self.d = np.zeros(n, dtype=bool)
        self.n, self.i, self.full = n, 0, False

    def __len__(self):
        return self.n if self.full else self.i

    def add(self, s, a, r, s2, d):
        i = self.i
        self.s[i], self.a[i], self.r[i], self.s2[i], self.d[i] = s, a, r, s2, d
        self.i += 1
        if self.i == self.n:
            self.i, self.full = 0, True

    def sample(self, k):
        j = self.rng.integers(0, len(self), k)
        return self.s[j], self.a[j], self.r[j], self.s2[j], self.d[j]


class QLearner:
    def __init__(self, n_obs, n_actions, rng, gamma=0.96, lr=0.01, batch=32):
        self.rng, self.n_actions = rng, n_actions
        self.gamma, self.batch = gamma, batch
        self.model = Net(n_obs, 64, n_actions, lr, rng)
        self.target = Net(n_obs, 64, n_actions, lr, rng)
        self.target.set_weights(self.model.get_weights())
        self.memory = Memory(10000, n_obs, rng)
        self.total_steps = 0

    def epsilon(self):
        return np.interp(self.total_steps, [0, 5000], [1.0, 0.05])

    def act(self, s, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(self.model.predict(s[None]).argmax())

    def learn(self, s, a, r, s2, d):
        y = r + self.gamma * self.target.predict(s2).max(axis=1) * (1 - d.astype(float))
        targets = self.model.predict(s)
        targets[:, a] = y[:, None]
        return self.model.train_on_batch(s, targets)

    def sync(self):
        self.target.set_weights(self.model.get_weights())

    def fit(self, env, n):
        s = env.reset()[0]
        for _ in range(n):
            a = self.act(s, self.epsilon())
            s2, r, terminated, truncated, _ = env.step(a)
            self.memory.add(s, a, r, s2, terminated)
            self.total_steps += 1
            if len(self.memory) >= 64:
                self.learn(*self.memory.sample(self.batch))
            if self.total_steps % 150 == 0:
                self.sync()
            s = env.reset()[0] if terminated or truncated else s2


class Adapter:
    def __init__(self, learner, n_obs):
        self.learner = learner
        self.gamma = learner.gamma
        self.observation_size = n_obs
        self.q_values = learner.model.predict
        self.target_q_values = learner.target.predict
        self.sync_target = learner.sync
        self.sample = learner.memory.sample

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.learner.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.memory.add(obs, action, reward, next_obs, terminated)

    def run(self, env, env_steps):
        self.learner.fit(env, env_steps)


def make(seed=0):
    return Adapter(QLearner(4, 2, np.random.default_rng(seed)), 4)
