"""micro: layers, a loss and Adam; below, a Double DQN."""
import numpy as np


class Layer:
    def variables(self):
        return []

    def gradients(self):
        return []


class Linear(Layer):
    def __init__(self, n_in, n_out, rng):
        limit = np.sqrt(6.0 / (n_in + n_out))
        self.kernel = rng.uniform(-limit, limit, (n_in, n_out))
        self.bias = np.zeros(n_out)
        self.d_kernel, self.d_bias = np.zeros_like(self.kernel), np.zeros_like(self.bias)

    def forward(self, x):
        self._x = x
        return x @ self.kernel + self.bias

    def backward(self, dy):
        self.d_kernel = self._x.T @ dy
        self.d_bias = dy.sum(axis=0)
        return dy @ self.kernel.T

    def variables(self):
        return [self.kernel, self.bias]

    def gradients(self):
        return [self.d_kernel, self.d_bias]


class ReLU(Layer):
    def forward(self, x):
        self._on = x > 0
        return x * self._on

    def backward(self, dy):
        return dy * self._on


class HuberLoss:
    def __init__(self, delta=1.0):
        self.delta = delta

    def forward(self, prediction, target):
        self._error = prediction - target
        a = np.abs(self._error)
        return np.mean(np.where(a <= self.delta, 0.5 * a ** 2, self.delta * (a - 0.5 * self.delta)))

    def backward(self):
        e = self._error
        return np.where(np.abs(e) <= self.delta, e, self.delta) / e.size


class Model:
    def __init__(self, layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)

    def variables(self):
        return sum((layer.variables() for layer in self.layers), [])

    def gradients(self):
        return sum((layer.gradients() for layer in self.layers), [])

    def assign(self, other):
        for mine, theirs in zip(self.variables(), other.variables()):
            mine[...] = theirs


class Adam:
    def __init__(self, model, lr):
        self.model, self.lr, self.t = model, lr, 0
        self.slots = [(np.zeros_like(v), np.zeros_like(v)) for v in model.variables()]

    def apply(self):
        self.t += 1
        lr_t = self.lr * np.sqrt(1 - 0.999 ** self.t) / (1 - 0.9 ** self.t)
        for var, grad, (m, v) in zip(self.model.variables(), self.model.gradients(), self.slots):
            m *= 0.9
            m += 0.1 * grad
            v *= 0.999
            v += 0.001 * grad * grad
            var -= lr_t * m / (np.sqrt(v) + 1e-7)


class DoubleDQNAgent:
    def __init__(self, n_obs, n_actions, seed=0, gamma=0.98, lr=1e-3, capacity=20_000):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions, self.gamma = n_obs, n_actions, gamma
        self.online, self.target = self._network(), self._network()
        self.target.assign(self.online)
        self.loss, self.adam = HuberLoss(), Adam(self.online, lr)
        self.capacity, self.storage, self.head = capacity, [], 0

    def _network(self):
        return Model([Linear(self.n_obs, 64, self.rng), ReLU(), Linear(64, 64, self.rng), ReLU(),
                      Linear(64, self.n_actions, self.rng)])

    def act(self, obs, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.online.forward(obs[None, :])[0]))

    def store(self, *row):
        if len(self.storage) < self.capacity:
            self.storage.append(None)
        self.storage[self.head] = row
        self.head = (self.head + 1) % self.capacity

    def sample(self, n):
        rows = [self.storage[i] for i in self.rng.integers(len(self.storage), size=n)]
        return [np.array(col) for col in zip(*rows)]

    def update(self, obs, action, reward, next_obs, terminal):
        n = np.arange(len(action))
        best = self.target.forward(next_obs).argmax(axis=1)
        next_value = self.online.forward(next_obs)[n, best]
        y = reward + self.gamma * next_value * (1.0 - terminal)
        q = self.online.forward(obs)
        value = self.loss.forward(q[n, action], y)
        dq = np.zeros_like(q)
        dq[n, action] = self.loss.backward()
        self.online.backward(dq)
        self.adam.apply()
        return value

    def sync(self):
        self.target.assign(self.online)

    def learn(self, env, total_steps):
        scores, score = [], 0.0
        obs, _ = env.reset()
        for step in range(total_steps):
            action = self.act(obs, max(0.05, 1 - step / 4000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.store(obs, action, reward, next_obs, float(terminated))
            obs = next_obs
            score += reward
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
            if len(self.storage) >= 64:
                self.update(*self.sample(64))
            if (step + 1) % 250 == 0:
                self.sync()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.n_obs

    def q_values(self, obs):
        return self.agent.online.forward(obs)

    def target_q_values(self, obs):
        return self.agent.target.forward(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def sync_target(self):
        self.agent.sync()

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store(obs, action, reward, next_obs, float(terminated))

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.learn(env, env_steps)


def make(seed=0):
    return Adapter(DoubleDQNAgent(4, 2, seed))
