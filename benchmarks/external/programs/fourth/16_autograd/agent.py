"""Reverse-mode autodiff, and a DQN with SiLU networks, Huber loss and AdamW."""
import numpy as np


class Var:
    def __init__(self, value, children=(), grads=()):
        self.value = np.asarray(value, dtype=float)
        self.children, self.local = children, grads
        self.grad = np.zeros_like(self.value)

    @staticmethod
    def lift(x):
        return x if isinstance(x, Var) else Var(x)

    @staticmethod
    def fit(grad, shape):
        while grad.ndim > len(shape):
            grad = grad.sum(0)
        return grad

    def __add__(self, other):
        other = Var.lift(other)
        return Var(self.value + other.value, (self, other), (lambda g: g, lambda g: g))

    def __sub__(self, other):
        other = Var.lift(other)
        return Var(self.value - other.value, (self, other), (lambda g: g, lambda g: -g))

    def __mul__(self, other):
        other = Var.lift(other)
        return Var(self.value * other.value, (self, other),
                   (lambda g: g * other.value, lambda g: g * self.value))

    def __matmul__(self, other):
        return Var(self.value @ other.value, (self, other),
                   (lambda g: g @ other.value.T, lambda g: self.value.T @ g))

    def silu(self):
        s = 0.5 * (1 + np.tanh(0.5 * self.value))
        return Var(self.value * s, (self,), (lambda g: g * s * (1 + self.value * (1 - s)),))

    def sum(self, axis=None):
        def expand(g):
            return np.broadcast_to(g if axis is None else np.expand_dims(g, axis), self.value.shape)
        return Var(self.value.sum(axis=axis), (self,), (expand,))

    def huber(self):
        a = np.abs(self.value)
        return Var(np.where(a <= 1, 0.5 * a * a, a - 0.5), (self,), (lambda g: g * np.clip(self.value, -1, 1),))

    def backward(self):
        topo, visited = [], set()
        stack = [(self, False)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                topo.append(node)
            elif id(node) not in visited:
                visited.add(id(node))
                stack.append((node, True))
                stack.extend((child, False) for child in node.children)
        self.grad = np.ones_like(self.value)
        for node in reversed(topo):
            for child, local in zip(node.children, node.local):
                child.grad = child.grad + Var.fit(local(node.grad), child.value.shape)


class Net:
    def __init__(self, sizes, rng):
        self.params = []
        for m, n in zip(sizes, sizes[1:]):
            self.params += [Var(rng.normal(0, np.sqrt(1.5 / m), (m, n))), Var(np.zeros(n))]

    def __call__(self, x):
        x = Var.lift(x)
        for i in range(0, len(self.params), 2):
            x = x @ self.params[i] + self.params[i + 1]
            if i + 2 < len(self.params):
                x = x.silu()
        return x

    def clone_into(self, other):
        for mine, theirs in zip(self.params, other.params):
            theirs.value = mine.value.copy()


class AdamW:
    def __init__(self, params, lr=7e-4, decay=1e-4, max_norm=10.0):
        self.params, self.lr, self.decay, self.max_norm = params, lr, decay, max_norm
        self.m = [0.0] * len(params)
        self.v = [0.0] * len(params)
        self.t = 0

    def step(self):
        self.t += 1
        norm = np.sqrt(sum((p.grad ** 2).sum() for p in self.params))
        factor = self.max_norm / max(norm, self.max_norm)
        for i, p in enumerate(self.params):
            g = p.grad * factor
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
            m_hat, v_hat = self.m[i] / (1 - 0.9 ** self.t), self.v[i] / (1 - 0.999 ** self.t)
            p.value = p.value * (1 - self.lr * self.decay) - self.lr * m_hat / (np.sqrt(v_hat) + 1e-8)
            p.grad = np.zeros_like(p.value)


class Player:
    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.gamma, self.n_actions, self.batch = 0.98, n_actions, 32
        self.net = Net([n_obs, 48, 48, n_actions], self.rng)
        self.frozen = Net([n_obs, 48, 48, n_actions], self.rng)
        self.net.clone_into(self.frozen)
        self.optim = AdamW(self.net.params)
        self.tape = []

    def move(self, obs, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.net(obs[None]).value))

    def batch_of(self, n):
        idx = self.rng.choice(len(self.tape), n, replace=False)
        return [np.array(c) for c in zip(*[self.tape[i] for i in idx])]

    def loss(self, obs, action, reward, next_obs, terminated):
        bootstrap = self.frozen(next_obs).value.max(axis=1)
        target = reward + self.gamma * bootstrap * np.logical_not(terminated)
        chosen = (self.net(obs) * np.eye(self.n_actions)[action]).sum(axis=1)
        return (chosen - target).huber().sum() * (1.0 / len(action))

    def study(self, *batch):
        self.loss(*batch).backward()
        self.optim.step()
        if self.optim.t % 150 == 0:
            self.net.clone_into(self.frozen)

    def play(self, env, steps):
        obs, _ = env.reset()
        total, totals = 0.0, []
        for t in range(steps):
            eps = np.interp(t, [0, 2500], [1.0, 0.03])
            action = self.move(obs, eps)
            nxt, reward, terminated, truncated, _ = env.step(action)
            self.tape.append((obs, action, reward, nxt, terminated))
            if len(self.tape) > 20_000:
                del self.tape[0]
            total += reward
            obs = nxt
            if terminated or truncated:
                totals.append(total)
                total = 0.0
                obs, _ = env.reset()
            if len(self.tape) >= 128:
                self.study(*self.batch_of(self.batch))
        return totals


class Adapter:
    def __init__(self, player, n_obs):
        self.player, self.gamma, self.observation_size = player, player.gamma, n_obs

    def q_values(self, obs):
        return self.player.net(obs).value

    def target_q_values(self, obs):
        return self.player.frozen(obs).value

    def sync_target(self):
        self.player.net.clone_into(self.player.frozen)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.player.study(obs, action, reward, next_obs, terminated)

    def loss(self, obs, action, reward, next_obs, terminated):
        return float(self.player.loss(obs, action, reward, next_obs, terminated).value)

    def act(self, obs, epsilon):
        return self.player.move(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.player.tape.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return self.player.batch_of(n)

    def run(self, env, env_steps):
        return self.player.play(env, env_steps)

    def parameters(self):
        return {str(i): p.value for i, p in enumerate(self.player.net.params)}

    def target_parameters(self):
        return {str(i): p.value for i, p in enumerate(self.player.frozen.params)}


def make(seed=0):
    return Adapter(Player(4, 2, seed), 4)
