import gymnasium as gym
import numpy as np

rng = np.random.default_rng(7)


class Dense:
    def __init__(self, fan_in, fan_out, relu):
        lim = np.sqrt(6.0 / (fan_in + fan_out))
        self.params = [rng.uniform(-lim, lim, (fan_in, fan_out)), np.zeros((1, fan_out))]
        self.relu = relu
        self.grads = [None, None]

    def __call__(self, x):
        self.x = x
        self.z = x @ self.params[0] + self.params[1]
        return np.where(self.z > 0, self.z, 0.01 * self.z) if self.relu else self.z

    def back(self, g):
        if self.relu:
            g = g * np.where(self.z > 0, 1.0, 0.01)
        self.grads = [self.x.T @ g, g.sum(axis=0, keepdims=True)]
        return g @ self.params[0].T


class QNet:
    def __init__(self, sizes):
        last = len(sizes) - 2
        self.layers = [Dense(sizes[i], sizes[i + 1], i != last) for i in range(last + 1)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def back(self, g):
        for layer in reversed(self.layers):
            g = layer.back(g)

    def tensors(self):
        return [p for layer in self.layers for p in layer.params]

    def gradients(self):
        return [g for layer in self.layers for g in layer.grads]


class RMSProp:
    def __init__(self, tensors, lr=5e-4, rho=0.95, eps=1e-5):
        self.tensors, self.lr, self.rho, self.eps = tensors, lr, rho, eps
        self.sq = [np.zeros_like(t) for t in tensors]

    def step(self, grads, max_norm=10.0):
        norm = np.sqrt(sum(float((g ** 2).sum()) for g in grads))
        scale = min(1.0, max_norm / (norm + 1e-8))
        for t, g, s in zip(self.tensors, grads, self.sq):
            g = g * scale
            s *= self.rho
            s += (1 - self.rho) * g * g
            t -= self.lr * g / (np.sqrt(s) + self.eps)


class Replay:
    def __init__(self, cap, dim):
        self.s = np.zeros((cap, dim)); self.s2 = np.zeros((cap, dim))
        self.a = np.zeros(cap, dtype=int); self.r = np.zeros(cap); self.cont = np.zeros(cap)
        self.cap, self.n = cap, 0

    def add(self, s, a, r, s2, term):
        i = self.n % self.cap
        self.s[i], self.a[i], self.r[i], self.s2[i], self.cont[i] = s, a, r, s2, 0.0 if term else 1.0
        self.n += 1

    def sample(self, k):
        i = rng.integers(0, min(self.n, self.cap), size=k)
        return self.s[i], self.a[i], self.r[i], self.s2[i], self.cont[i]


class Trainer:
    GAMMA, TAU, BATCH, WARMUP = 0.99, 0.01, 64, 2000

    def __init__(self):
        self.env = gym.make("Acrobot-v1")
        dim, self.n_act = self.env.observation_space.shape[0], int(self.env.action_space.n)
        self.scale = np.array([1, 1, 1, 1, 4 * np.pi, 9 * np.pi])
        self.q, self.q_slow = QNet([dim, 96, 96, self.n_act]), QNet([dim, 96, 96, self.n_act])
        for a, b in zip(self.q_slow.tensors(), self.q.tensors()):
            a[...] = b
        self.opt = RMSProp(self.q.tensors())
        self.buf = Replay(50_000, dim)
        self.steps = 0

    def epsilon(self):
        return max(0.03, 1.0 - self.steps / 25_000)

    def update(self):
        s, a, r, s2, cont = self.buf.sample(self.BATCH)
        y = r + self.GAMMA * cont * self.q_slow(s2).max(1)
        q = self.q(s)
        rows = np.arange(len(a))
        err = q[rows, a] - y
        g = np.zeros_like(q)
        g[rows, a] = np.clip(err, -1, 1) / len(a)      # Huber
        self.q.back(g)
        self.opt.step(self.q.gradients())
        for slow, fast in zip(self.q_slow.tensors(), self.q.tensors()):
            slow += self.TAU * (fast - slow)

    def run(self, episodes=500):
        history = []
        for ep in range(episodes):
            obs, _ = self.env.reset()
            obs = obs / self.scale
            total = 0.0
            while True:
                if rng.random() < self.epsilon():
                    act = int(rng.integers(self.n_act))
                else:
                    act = int(self.q(obs[None])[0].argmax())
                nobs, rew, term, trunc, _ = self.env.step(act)
                nobs = nobs / self.scale
                self.buf.add(obs, act, rew, nobs, term)
                obs = nobs
                total += rew
                self.steps += 1
                if self.steps > self.WARMUP:
                    self.update()
                if term or trunc:
                    break
            history.append(total)
            print(f"episode {ep:4d} return {total:7.1f} mean20 {np.mean(history[-20:]):7.1f} eps {self.epsilon():.2f}")
        np.save("acrobot_returns.npy", np.array(history))


Trainer().run()
