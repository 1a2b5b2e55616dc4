import numpy as np


class Dense:
    def __init__(self, rng, n_in, n_out):
        self.W = rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
        self.b = np.zeros(n_out)
        self.cache = None
        self.grads = [np.zeros_like(self.W), np.zeros_like(self.b)]

    @property
    def params(self):
        return [self.W, self.b]

    def forward(self, x):
        self.cache = x
        return x @ self.W + self.b

    def backward(self, d):
        self.grads[0] += np.outer(self.cache, d)
        self.grads[1] += d
        return self.W @ d


class ReLU:
    params, grads = [], []

    def forward(self, x):
        self.cache = x
        return x * (x > 0)

    def backward(self, d):
        return d * (self.cache > 0)


class Adam:
    def __init__(self, layers, lr, betas=(0.9, 0.999), eps=1e-8):
        self.layers, self.lr, self.betas, self.eps = layers, lr, betas, eps
        self.m = [np.zeros_like(p) for layer in layers for p in layer.params]
        self.v = [np.zeros_like(p) for layer in layers for p in layer.params]
        self.t = 0

    def zero(self):
        for layer in self.layers:
            for g in layer.grads:
                g.fill(0.0)

    def step(self):
        self.t += 1
        b1, b2 = self.betas
        i = 0
        for layer in self.layers:
            for p, g in zip(layer.params, layer.grads):
                self.m[i] = b1 * self.m[i] + (1 - b1) * g
                self.v[i] = b2 * self.v[i] + (1 - b2) * g * g
                m_hat = self.m[i] / (1 - b1**self.t)
                v_hat = self.v[i] / (1 - b2**self.t)
                p -= self.lr * m_hat / (np.sqrt(v_hat) + self.eps)
                i += 1


class CartAgent:
    def __init__(self, obs_size=4, n_actions=2, seed=0):
        self.rng = np.random.default_rng(seed)
        self.obs_size, self.n_actions = obs_size, n_actions
        self.gamma = 0.99
        self.layers = self.make_layers()
        self.target_layers = self.make_layers()
        self.hard_update()
        self.adam = Adam(self.layers, lr=1e-3)
        self.mem = []
        self.mem_limit = 10_000
        self.k = 0
        self.n = 0

    def make_layers(self):
        return [Dense(self.rng, self.obs_size, 64), ReLU(), Dense(self.rng, 64, self.n_actions)]

    def hard_update(self):
        for q, t in zip(self.layers, self.target_layers):
            for p, pt in zip(q.params, t.params):
                np.copyto(pt, p)

    def q(self, x, layers=None):
        for layer in layers or self.layers:
            x = layer.forward(x)
        return x

    def policy(self, x, eps):
        if self.rng.uniform() < eps:
            return int(self.rng.integers(0, self.n_actions))
        return int(np.argmax(self.q(x)))

    def put(self, *item):
        if len(self.mem) < self.mem_limit:
            self.mem.append(item)
        else:
            self.mem[self.k] = item
        self.k = (self.k + 1) % self.mem_limit

    def get(self, n):
        return [self.mem[i] for i in self.rng.choice(len(self.mem), n, replace=False)]

    def learn(self, batch):
        self.adam.zero()
        for x, a, r, x2, end in batch:
            y = r + self.gamma * (1.0 - float(end)) * np.max(self.q(x2, self.target_layers))
            d = np.zeros(self.n_actions)
            # error clipping, as in the Nature paper
            d[a] = np.clip(self.q(x)[a] - y, 0.0, 1.0) / len(batch)
            for layer in reversed(self.layers):
                d = layer.backward(d)
        self.adam.step()

    def train(self, env, steps):
        x, _ = env.reset()
        for _ in range(steps):
            a = self.policy(x, max(0.04, 0.9995**self.n))
            x2, r, end, cut, _ = env.step(a)
            self.put(x, a, r, x2, end)
            self.n += 1
            if self.n >= 120 and self.n % 2 == 0:
                self.learn(self.get(32))
            if self.n % 400 == 0:
                self.hard_update()
            x = x2
            if end or cut:
                x, _ = env.reset()


class Adapter:
    def __init__(self, seed):
        self.a = CartAgent(seed=seed)
        self.gamma, self.observation_size = self.a.gamma, self.a.obs_size

    def q_values(self, obs):
        return np.array([self.a.q(x) for x in obs])

    def target_q_values(self, obs):
        return np.array([self.a.q(x, self.a.target_layers) for x in obs])

    def sync_target(self):
        self.a.hard_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.a.learn(list(zip(obs, action, reward, next_obs, terminated)))

    def act(self, obs, epsilon):
        return self.a.policy(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.a.put(obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated))

    def sample(self, n):
        return [np.array(c) for c in zip(*self.a.get(n))]

    def run(self, env, env_steps):
        self.a.train(env, env_steps)


def make(seed=0):
    return Adapter(seed)
