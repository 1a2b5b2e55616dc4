"""DQN in plain numpy. Trains after each episode instead of after each step."""
import numpy as np
import gymnasium as gym

RNG = np.random.default_rng(7)


class Layer:
    def __init__(self, n_in, n_out, act):
        self.W = RNG.normal(0.0, np.sqrt(2.0 / n_in), (n_in, n_out))
        self.b = np.zeros(n_out)
        self.act = act

    def forward(self, x):
        self.x = x
        self.z = x @ self.W + self.b
        if self.act == "relu":
            return np.maximum(self.z, 0.0)
        return self.z

    def backward(self, grad):
        if self.act == "relu":
            grad = grad * (self.z > 0)
        self.dW = self.x.T @ grad
        self.db = grad.sum(axis=0)
        return grad @ self.W.T


class Net:
    def __init__(self, sizes):
        self.layers = []
        for i in range(len(sizes) - 1):
            act = "relu" if i < len(sizes) - 2 else "linear"
            self.layers.append(Layer(sizes[i], sizes[i + 1], act))

    def __call__(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad):
        for layer in reversed(self.layers):
            grad = layer.backward(grad)

    def params(self):
        return [p for l in self.layers for p in (l.W, l.b)]

    def grads(self):
        return [g for l in self.layers for g in (l.dW, l.db)]

    def copy_from(self, other):
        for mine, theirs in zip(self.params(), other.params()):
            mine[...] = theirs


class Adam:
    def __init__(self, params, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
        self.params = params
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.m = [np.zeros_like(p) for p in params]
        self.v = [np.zeros_like(p) for p in params]
        self.t = 0

    def step(self, grads):
        self.t += 1
        a = self.lr * np.sqrt(1 - self.b2 ** self.t) / (1 - self.b1 ** self.t)
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m += (1 - self.b1) * (g - m)
            v += (1 - self.b2) * (g * g - v)
            p -= a * m / (np.sqrt(v) + self.eps)


class Memory:
    def __init__(self, size, dim):
        self.s = np.zeros((size, dim))
        self.a = np.zeros(size, dtype=int)
        self.r = np.zeros(size)
        self.s2 = np.zeros((size, dim))
        self.cont = np.zeros(size)
        self.size, self.n, self.ptr = size, 0, 0

    def put(self, s, a, r, s2, cont):
        i = self.ptr
        self.s[i], self.a[i], self.r[i], self.s2[i], self.cont[i] = s, a, r, s2, cont
        self.ptr = (i + 1) % self.size
        self.n = min(self.n + 1, self.size)

    def draw(self, k):
        i = RNG.integers(0, self.n, size=k)
        return self.s[i], self.a[i], self.r[i], self.s2[i], self.cont[i]


def learn(q, q_target, opt, mem, gamma, batch=64):
    s, a, r, s2, cont = mem.draw(batch)
    y = r + gamma * cont * q_target(s2).max(axis=1)
    out = q(s)
    rows = np.arange(batch)
    td = out[rows, a] - y
    grad = np.zeros_like(out)
    grad[rows, a] = np.clip(td, -1.0, 1.0) / batch
    q.backward(grad)
    opt.step(q.grads())
    a_td = np.abs(td)
    return np.where(a_td < 1, 0.5 * td ** 2, a_td - 0.5).mean()


def main():
    env = gym.make("CartPole-v1")
    q = Net([4, 64, 64, 2])
    q_target = Net([4, 64, 64, 2])
    q_target.copy_from(q)
    opt = Adam(q.params(), lr=7e-4)
    mem = Memory(50000, 4)
    gamma, eps = 0.99, 1.0
    updates, history = 0, []

    for ep in range(800):
        s, _ = env.reset()
        total, over = 0.0, False
        while not over:
            if RNG.random() < eps:
                a = int(RNG.integers(2))
            else:
                a = int(np.argmax(q(s[None, :])[0]))
            s2, r, terminated, truncated, _ = env.step(a)
            mem.put(s, a, r, s2, 0.0 if terminated else 1.0)
            s = s2
            total += r
            over = terminated or truncated
        history.append(total)

        loss = float("nan")
        if mem.n >= 1000:
            for _ in range(int(total)):
                loss = learn(q, q_target, opt, mem, gamma)
                updates += 1
                if updates % 400 == 0:
                    q_target.copy_from(q)
            eps = max(0.03, eps * 0.985)
        if ep % 20 == 0:
            print("ep %d  return %.0f  mean50 %.1f  loss %.4f  eps %.3f" % (ep, total, np.mean(history[-50:]), loss, eps))
        if len(history) >= 100 and np.mean(history[-100:]) >= 475:
            print("solved in", ep, "episodes")
            break

    np.savez("qnet.npz", *q.params())


main()
