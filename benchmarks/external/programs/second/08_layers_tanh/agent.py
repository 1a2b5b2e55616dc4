import copy

import numpy as np


class Dense:
    def __init__(self, n_in, n_out, rng, scale=1.0):
        self.p = {
            "W": rng.standard_normal((n_in, n_out)) * scale / np.sqrt(n_in),
            "b": np.zeros(n_out),
        }
        self.g = {k: np.zeros_like(v) for k, v in self.p.items()}
        self.s = {k: np.zeros_like(v) for k, v in self.p.items()}

    def forward(self, x):
        self.x = x
        return x @ self.p["W"] + self.p["b"]

    def backward(self, d):
        self.g["W"] += np.outer(self.x, d)
        self.g["b"] += d
        return self.p["W"] @ d


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, d):
        return d * (1.0 - self.y**2)


class RMSProp:
    def __init__(self, lr=1e-3, decay=0.95, eps=1e-5):
        self.lr, self.decay, self.eps = lr, decay, eps

    def step(self, layers):
        for layer in layers:
            if not isinstance(layer, Dense):
                continue
            for k, p in layer.p.items():
                layer.s[k] = self.decay * layer.s[k] + (1 - self.decay) * layer.g[k] ** 2
                p -= self.lr * layer.g[k] / np.sqrt(layer.s[k] + self.eps)
                layer.g[k] = np.zeros_like(p)


class TanhDQN:
    """Rewards are multiplied by 0.1 before learning, so that Q stays near 1."""

    reward_scale = 0.1

    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        self.gamma = 0.98
        self.layers = [
            Dense(n_obs, 64, self.rng),
            Tanh(),
            Dense(64, 64, self.rng),
            Tanh(),
            Dense(64, n_actions, self.rng, scale=0.1),
        ]
        self.frozen = copy.deepcopy(self.layers)
        self.opt = RMSProp()
        self.ring = [None] * 6000
        self.filled = 0
        self.steps = 0

    def forward(self, x, layers):
        for layer in layers:
            x = layer.forward(x)
        return x

    def act(self, x, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        q = self.forward(x, self.layers)
        return int(self.rng.choice(np.flatnonzero(q == q.max())))

    def add(self, x, a, r, y, over):
        self.ring[self.filled % len(self.ring)] = (x, a, r, y, over)
        self.filled += 1

    def draw(self, n):
        idx = self.rng.integers(0, min(self.filled, len(self.ring)), n)
        return [self.ring[i] for i in idx]

    def train(self, batch):
        total = 0.0
        for x, a, r, y, over in batch:
            target = self.reward_scale * r
            if not over:
                target = target + self.gamma * np.max(self.forward(y, self.frozen))
            e = self.forward(x, self.layers)[a] - target
            total += 0.5 * e * e
            d = np.zeros(self.n_actions)
            d[a] = e / len(batch)
            for layer in self.layers[::-1]:
                d = layer.backward(d)
        self.opt.step(self.layers)
        return total / len(batch)

    def freeze(self):
        self.frozen = copy.deepcopy(self.layers)

    def go(self, env, n):
        x, _ = env.reset()
        while n > 0:
            n -= 1
            a = self.act(x, 0.05 + 0.95 * np.exp(-self.steps / 1000))
            y, r, terminated, truncated, _ = env.step(a)
            self.add(x, a, r, y, terminated)
            self.steps += 1
            if self.filled >= 100:
                self.train(self.draw(24))
            if self.steps % 250 == 0:
                self.freeze()
            x = y
            if terminated or truncated:
                x, _ = env.reset()


class Adapter:
    def __init__(self, agent, n_obs):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, n_obs

    def q_values(self, obs):
        return np.array([self.agent.forward(o, self.agent.layers) for o in obs])

    def target_q_values(self, obs):
        return np.array([self.agent.forward(o, self.agent.frozen) for o in obs])

    def sync_target(self):
        self.agent.freeze()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train(list(zip(obs, action, reward, next_obs, terminated)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.add(obs.copy(), action, reward, next_obs.copy(), terminated)

    def sample(self, n):
        return [np.array(c) for c in zip(*self.agent.draw(n))]

    def run(self, env, env_steps):
        self.agent.go(env, env_steps)


def make(seed=0):
    return Adapter(TanhDQN(4, 2, seed), 4)
