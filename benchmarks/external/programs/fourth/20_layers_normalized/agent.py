"""DQN with layer objects, running observation normalization, scaled rewards and momentum SGD."""
import numpy as np


class RunningNorm:
    def __init__(self, size):
        self.count, self.mean, self.m2 = 0, np.zeros(size), np.zeros(size)

    def observe(self, x):
        self.count += 1
        delta = x - self.mean
        self.mean = self.mean + delta / self.count
        self.m2 = self.m2 + delta * (x - self.mean)

    def __call__(self, x):
        if self.count < 100:
            return x
        return np.clip((x - self.mean) / np.sqrt(self.m2 / self.count + 1e-4), -5, 5)


class Dense:
    def __init__(self, n_in, n_out, rng, gain=1.0):
        q, _ = np.linalg.qr(rng.normal(size=(max(n_in, n_out), min(n_in, n_out))))
        self.W = gain * (q if n_in >= n_out else q.T)
        self.b = np.zeros(n_out)
        self.vW, self.vb = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, d):
        self.gW, self.gb = self.x.T @ d, d.sum(axis=0)
        return d @ self.W.T

    def norm2(self):
        return (self.gW ** 2).sum() + (self.gb ** 2).sum()

    def step(self, lr, momentum, scale):
        self.vW = momentum * self.vW - lr * scale * self.gW
        self.vb = momentum * self.vb - lr * scale * self.gb
        self.W = self.W + self.vW
        self.b = self.b + self.vb


class Softplus:
    def forward(self, x):
        self.x = x
        return np.logaddexp(0, x) - np.log(2)

    def backward(self, d):
        return d / (1 + np.exp(-np.clip(self.x, -60, 60)))


class Network:
    def __init__(self, n_in, n_out, rng):
        self.layers = [Dense(n_in, 64, rng, 1.4), Softplus(), Dense(64, 64, rng, 1.4), Softplus(),
                       Dense(64, n_out, rng, 0.1)]

    @property
    def dense(self):
        return [layer for layer in self.layers if isinstance(layer, Dense)]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, d):
        for layer in self.layers[::-1]:
            d = layer.backward(d)

    def assign(self, other):
        for mine, theirs in zip(self.dense, other.dense):
            mine.W, mine.b = theirs.W.copy(), theirs.b.copy()


class ScaledDQN:
    reward_scale = 0.1
    gamma = 0.98
    lr, momentum, max_norm = 0.02, 0.9, 1.0
    batch_size, capacity, sync_every = 64, 20_000, 150

    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions = n_obs, n_actions
        self.norm = RunningNorm(n_obs)
        self.net, self.target = Network(n_obs, n_actions, self.rng), Network(n_obs, n_actions, self.rng)
        self.target.assign(self.net)
        self.storage = np.zeros((self.capacity, 2 * n_obs + 3))
        self.stored = 0
        self.updates = 0

    def q(self, obs):
        return self.net.forward(self.norm(obs))

    def q_target(self, obs):
        return self.target.forward(self.norm(obs))

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(self.q(obs[None]).argmax())

    def store(self, obs, action, reward, next_obs, terminated):
        self.storage[self.stored % self.capacity] = np.concatenate([obs, [action, reward], next_obs, [terminated]])
        self.stored += 1

    def sample(self, n):
        rows = self.storage[self.rng.integers(min(self.stored, self.capacity), size=n)]
        k = self.n_obs
        return rows[:, :k], rows[:, k].astype(int), rows[:, k + 1], rows[:, k + 2:-1], rows[:, -1]

    def update(self, obs, action, reward, next_obs, terminated):
        target = self.reward_scale * reward + self.gamma * (1 - terminated) * self.q_target(next_obs).max(axis=1)
        q = self.q(obs)
        mask = np.arange(self.n_actions) == action[:, None]
        error = np.where(mask, q - target[:, None], 0.0)
        self.net.backward(error / np.sqrt(1 + error ** 2) / len(action))
        norm = np.sqrt(sum(layer.norm2() for layer in self.net.dense))
        for layer in self.net.dense:
            layer.step(self.lr, self.momentum, min(1.0, self.max_norm / (norm + 1e-12)))
        self.updates += 1
        if self.updates % self.sync_every == 0:
            self.target.assign(self.net)

    def learn(self, env, steps):
        obs, _ = env.reset()
        score, scores = 0.0, []
        for t in range(steps):
            self.norm.observe(obs)
            action = self.act(obs, max(0.03, 1 - t / 2500))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.store(obs, action, reward, next_obs, terminated)
            obs = next_obs
            score += reward
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
            if t >= 128:
                self.update(*self.sample(self.batch_size))
        return scores


class Adapter:
    def __init__(self, dqn):
        self.dqn, self.gamma, self.observation_size = dqn, dqn.gamma, dqn.n_obs

    def q_values(self, obs):
        return self.dqn.q(obs)

    def target_q_values(self, obs):
        return self.dqn.q_target(obs)

    def sync_target(self):
        self.dqn.target.assign(self.dqn.net)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def act(self, obs, epsilon):
        return self.dqn.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.dqn.sample(n)

    def run(self, env, env_steps):
        return self.dqn.learn(env, env_steps)


def make(seed=0):
    return Adapter(ScaledDQN(4, 2, seed))
