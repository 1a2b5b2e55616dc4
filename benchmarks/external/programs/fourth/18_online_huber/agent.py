# Online deep Q-learning: no replay, every step is learned from at once.
import math
import random


def zeros(n):
    return [0.0] * n


def dot(u, v):
    return sum(a * b for a, b in zip(u, v))


class Net:
    """One hidden layer of tanh units, pure Python."""

    def __init__(self, n_in, n_hidden, n_out, rng):
        self.w1 = [[rng.gauss(0, 1 / math.sqrt(n_in)) for _ in range(n_in)] for _ in range(n_hidden)]
        self.b1 = [rng.uniform(-0.5, 0.5) for _ in range(n_hidden)]
        self.w2 = [[rng.gauss(0, 0.1 / math.sqrt(n_hidden)) for _ in range(n_hidden)] for _ in range(n_out)]
        self.b2 = zeros(n_out)

    def hidden(self, x):
        return [math.tanh(dot(w, x) + b) for w, b in zip(self.w1, self.b1)]

    def __call__(self, x):
        h = self.hidden(x)
        return [dot(w, h) + b for w, b in zip(self.w2, self.b2)]

    def descend(self, x, action, slope, lr):
        h = self.hidden(x)
        w = self.w2[action]
        for j, h_j in enumerate(h):
            back = slope * w[j] * (1 - h_j * h_j)
            w[j] -= lr * slope * h_j
            row = self.w1[j]
            for i, x_i in enumerate(x):
                row[i] -= lr * back * x_i
            self.b1[j] -= lr * back
        self.b2[action] -= lr * slope

    def copy(self, other):
        self.w1 = [row[:] for row in other.w1]
        self.b1 = other.b1[:]
        self.w2 = [row[:] for row in other.w2]
        self.b2 = other.b2[:]


def huber_slope(error, delta=1.0):
    if abs(error) <= delta:
        return error
    return delta


class Learner:
    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = random.Random(seed)
        self.n_actions = n_actions
        self.gamma = 0.9
        self.lr = 0.01
        self.target_every = 200
        self.net = Net(n_obs, 24, n_actions, self.rng)
        self.target_net = Net(n_obs, 24, n_actions, self.rng)
        self.target_net.copy(self.net)
        self.steps = 0

    def policy(self, x, epsilon):
        if self.rng.random() < epsilon:
            return self.rng.randrange(self.n_actions)
        q = self.net(x)
        return q.index(max(q))

    def learn(self, x, action, reward, x_next, terminal):
        target = reward if terminal else reward + self.gamma * max(self.target_net(x_next))
        error = self.net(x)[action] - target
        self.net.descend(x, action, huber_slope(error), self.lr)
        self.steps += 1
        if self.steps % self.target_every:
            self.target_net.copy(self.net)

    def train(self, env, n_steps):
        obs, _ = env.reset()
        total, totals = 0.0, []
        for t in range(n_steps):
            x = [float(v) for v in obs]
            action = self.policy(x, max(0.05, 0.5 * (1 - t / (0.5 * n_steps))))
            obs, reward, terminated, truncated, _ = env.step(action)
            self.learn(x, action, float(reward), [float(v) for v in obs], terminated)
            total += reward
            if terminated or truncated:
                totals.append(total)
                total = 0.0
                obs, _ = env.reset()
        return totals


class Adapter:
    online = True

    def __init__(self, learner, n_obs):
        self.learner = learner
        self.gamma = learner.gamma
        self.observation_size = n_obs

    def q_values(self, obs):
        import numpy as np
        return np.array([self.learner.net(list(map(float, x))) for x in obs])

    def target_q_values(self, obs):
        import numpy as np
        return np.array([self.learner.target_net(list(map(float, x))) for x in obs])

    def sync_target(self):
        self.learner.target_net.copy(self.learner.net)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for x, a, r, x_next, end in zip(obs, action, reward, next_obs, terminated):
            self.learner.learn(list(map(float, x)), int(a), float(r), list(map(float, x_next)), bool(end))

    def act(self, obs, epsilon):
        return self.learner.policy(list(map(float, obs)), epsilon)

    def run(self, env, env_steps):
        return self.learner.train(env, env_steps)


def make(seed=0):
    return Adapter(Learner(4, 2, seed), 4)
