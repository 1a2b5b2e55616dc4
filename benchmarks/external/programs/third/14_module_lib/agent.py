"""Layers as closures, a Nadam optimizer and a DQN trained on a compact replay memory."""
import numpy as np


class Module:
    def parameters(self):
        return {}


class Affine(Module):
    def __init__(self, rng, n, m, gain=np.sqrt(2)):
        self.W = rng.standard_normal((n, m)) * gain / np.sqrt(n)
        self.c = np.zeros(m)

    def parameters(self):
        return {"W": self.W, "c": self.c}

    def __call__(self, x):
        def pullback(g):
            return g @ self.W.T, {"W": x.T @ g, "c": g.sum(axis=0)}

        return x @ self.W + self.c, pullback


class Softplus(Module):
    def __call__(self, x):
        def pullback(g):
            return g / (1 + np.exp(-np.clip(x, -50, 50))), {}

        return np.logaddexp(0, x), pullback


class Chain(Module):
    def __init__(self, *modules):
        self.modules = modules

    def parameters(self):
        return {f"{i}.{k}": p for i, m in enumerate(self.modules) for k, p in m.parameters().items()}

    def __call__(self, x):
        pullbacks = []
        for module in self.modules:
            x, back = module(x)
            pullbacks.append(back)

        def pullback(g):
            grads = {}
            for i in reversed(range(len(pullbacks))):
                g, local = pullbacks[i](g)
                grads.update({f"{i}.{k}": v for k, v in local.items()})
            return g, grads

        return x, pullback


class Nadam:
    def __init__(self, params, lr=1e-3, b1=0.9, b2=0.999):
        self.params, self.lr, self.b1, self.b2, self.t = params, lr, b1, b2, 0
        self.m = {k: np.zeros_like(p) for k, p in params.items()}
        self.v = {k: np.zeros_like(p) for k, p in params.items()}

    def step(self, grads):
        self.t += 1
        for k, p in self.params.items():
            g = grads[k]
            self.m[k] = self.b1 * self.m[k] + (1 - self.b1) * g
            self.v[k] = self.b2 * self.v[k] + (1 - self.b2) * g * g
            m_hat = self.b1 * self.m[k] / (1 - self.b1 ** (self.t + 1)) + (1 - self.b1) * g / (1 - self.b1 ** self.t)
            p -= self.lr * m_hat / (np.sqrt(self.v[k] / (1 - self.b2 ** self.t)) + 1e-8)


class Replay:
    def __init__(self, capacity, n_obs, rng):
        self.capacity, self.rng, self.n = capacity, rng, 0
        self.obs, self.next_obs = (np.zeros((capacity, n_obs), dtype=np.uint8) for _ in range(2))
        self.action = np.zeros(capacity, dtype=np.int64)
        self.reward = np.zeros(capacity, dtype=np.float32)
        self.terminal = np.zeros(capacity, dtype=bool)

    def append(self, obs, action, reward, next_obs, terminal):
        i = self.n % self.capacity
        self.obs[i] = np.asarray(obs).astype(self.obs.dtype)
        self.next_obs[i] = np.asarray(next_obs).astype(self.obs.dtype)
        self.action[i], self.reward[i], self.terminal[i] = action, reward, terminal
        self.n += 1

    def batch(self, size):
        i = self.rng.integers(0, min(self.n, self.capacity), size)
        return self.obs[i].astype(float), self.action[i], self.reward[i], self.next_obs[i].astype(float), self.terminal[i]


class DQN:
    def __init__(self, n_obs, n_actions, seed=0, gamma=0.98):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions, self.gamma = n_obs, n_actions, gamma
        self.online, self.target = self.build(), self.build()
        self.optimizer = Nadam(self.online.parameters())
        self.replay = Replay(20_000, n_obs, self.rng)
        self.sync()

    def build(self):
        r = self.rng
        return Chain(Affine(r, self.n_obs, 64), Softplus(), Affine(r, 64, 64, 1.0), Softplus(), Affine(r, 64, self.n_actions, 0.1))

    def sync(self):
        source = self.online.parameters()
        for name, p in self.target.parameters().items():
            p[:] = source[name]

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        q, _ = self.online(np.asarray(obs)[None])
        return int(q.argmax())

    def learn(self, obs, action, reward, next_obs, terminal):
        next_q, _ = self.target(next_obs)
        y = reward + self.gamma * np.where(terminal, 0.0, next_q.max(axis=1))
        q, pullback = self.online(obs)
        i = np.arange(len(y))
        g = np.zeros_like(q)
        g[i, action] = np.clip(q[i, action] - y, -1.0, 1.0) / len(y)
        _, grads = pullback(g)
        self.optimizer.step(grads)

    def run(self, env, steps):
        scores, score = [], 0.0
        obs, _ = env.reset()
        for t in range(steps):
            action = self.act(obs, max(0.05, 1 - t / 4000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.replay.append(obs, action, reward, next_obs, terminated)
            score += reward
            obs = next_obs
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
            if t >= 100:
                self.learn(*self.replay.batch(64))
            if t % 200 == 0:
                self.sync()
        return scores


class Adapter:
    def __init__(self, dqn):
        self.dqn, self.gamma, self.observation_size = dqn, dqn.gamma, dqn.n_obs

    def q_values(self, obs):
        return self.dqn.online(obs)[0]

    def target_q_values(self, obs):
        return self.dqn.target(obs)[0]

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.learn(obs, action, reward, next_obs, np.asarray(terminated, dtype=bool))

    def sync_target(self):
        self.dqn.sync()

    def act(self, obs, epsilon):
        return self.dqn.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.replay.append(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.dqn.replay.batch(n)

    def run(self, env, env_steps):
        return self.dqn.run(env, env_steps)


def make(seed=0):
    return Adapter(DQN(4, 2, seed))
