"""DQN with proportional prioritized experience replay (sum tree)."""
import numpy as np


class SumTree:
    def __init__(self, capacity):
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity)

    def update(self, index, priority):
        i = index + self.capacity
        self.tree[i] = priority
        i //= 2
        while i >= 1:
            self.tree[i] = self.tree[2 * i] + self.tree[2 * i + 1]
            i //= 2

    def find(self, mass):
        i = 1
        while i < self.capacity:
            left = 2 * i
            if mass <= self.tree[left]:
                i = left
            else:
                mass -= self.tree[left]
                i = left + 1
        return i - self.capacity

    @property
    def total(self):
        return self.tree[1]

    def __getitem__(self, index):
        return self.tree[index + self.capacity]


class PrioritizedReplay:
    def __init__(self, capacity, n_obs, alpha=0.6, beta=0.4, beta_steps=10_000, seed=0):
        self.tree = SumTree(capacity)
        self.capacity, self.alpha, self.beta = capacity, alpha, beta
        self.beta_increment = (1.0 - beta) / beta_steps
        self.data = {"s": np.zeros((capacity, n_obs)), "a": np.zeros(capacity, int), "r": np.zeros(capacity),
                     "s2": np.zeros((capacity, n_obs)), "done": np.zeros(capacity)}
        self.next, self.size, self.max_priority = 0, 0, 1.0
        self.rng = np.random.default_rng(seed)

    def add(self, **transition):
        for key, value in transition.items():
            self.data[key][self.next] = value
        self.tree.update(self.next, self.max_priority ** self.alpha)
        self.next = (self.next + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n):
        segment = self.tree.total / n
        masses = (np.arange(n) + self.rng.random(n)) * segment
        idx = np.array([min(self.tree.find(mass), self.size - 1) for mass in masses])
        probs = np.array([self.tree[i] for i in idx]) / self.tree.total
        weights = (self.size * probs) ** self.beta
        weights /= weights.max()
        self.beta = min(1.0, self.beta + self.beta_increment)
        return {key: column[idx] for key, column in self.data.items()}, idx, weights

    def update_priorities(self, idx, td_errors):
        for i, error in zip(idx, np.abs(td_errors) + 1e-5):
            self.tree.update(i, error ** self.alpha)
            self.max_priority = max(self.max_priority, error)


class Network:
    def __init__(self, n_in, n_out, hidden=64, seed=0):
        rng = np.random.default_rng(seed)
        self.params = [rng.normal(0, np.sqrt(2 / n_in), (n_in, hidden)), np.zeros(hidden),
                       rng.normal(0, np.sqrt(2 / hidden), (hidden, hidden)), np.zeros(hidden),
                       rng.normal(0, np.sqrt(1 / hidden), (hidden, n_out)), np.zeros(n_out)]

    def forward(self, x):
        w1, b1, w2, b2, w3, b3 = self.params
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        return h2 @ w3 + b3, (x, h1, h2)

    def gradients(self, cache, dq):
        x, h1, h2 = cache
        dh2 = dq @ self.params[4].T * (h2 > 0)
        dh1 = dh2 @ self.params[2].T * (h1 > 0)
        return [x.T @ dh1, dh1.sum(0), h1.T @ dh2, dh2.sum(0), h2.T @ dq, dq.sum(0)]

    def load(self, other):
        self.params = [p.copy() for p in other.params]


class PERAgent:
    def __init__(self, n_obs, n_actions, seed=0):
        self.gamma, self.lr, self.batch_size, self.n_actions = 0.99, 5e-4, 64, n_actions
        self.online, self.target = Network(n_obs, n_actions, seed=seed), Network(n_obs, n_actions, seed=seed)
        self.replay = PrioritizedReplay(2 ** 14, n_obs, seed=seed)
        self.m = [np.zeros_like(p) for p in self.online.params]
        self.v = [np.zeros_like(p) for p in self.online.params]
        self.t = 0
        self.rng = np.random.default_rng(seed + 1)

    def act(self, s, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.online.forward(s[None])[0]))

    def update(self, s, a, r, s2, done, weights):
        y = r + self.gamma * (1 - done) * self.target.forward(s2)[0].max(1)
        q, cache = self.online.forward(s)
        rows = np.arange(len(a))
        td = q[rows, a] - y
        dq = np.zeros_like(q)
        dq[rows, a] = weights * np.clip(td, -1, 1) / len(a)
        self.t += 1
        for i, g in enumerate(self.online.gradients(cache, dq)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
            step = (self.m[i] / (1 - 0.9 ** self.t)) / (np.sqrt(self.v[i] / (1 - 0.999 ** self.t)) + 1e-8)
            self.online.params[i] = self.online.params[i] - self.lr * step
        if self.t % 250 == 0:
            self.target.load(self.online)
        return td

    def learn(self):
        batch, idx, weights = self.replay.sample(self.batch_size)
        td = self.update(**batch, weights=weights)
        self.replay.update_priorities(idx, td)

    def train(self, env, steps):
        s, _ = env.reset()
        score, scores = 0.0, []
        for t in range(steps):
            a = self.act(s, max(0.02, 1 - t / 2000))
            s2, r, terminated, truncated, _ = env.step(a)
            self.replay.add(s=s, a=a, r=r, s2=s2, done=terminated)
            s, score = s2, score + r
            if terminated or truncated:
                s, _ = env.reset()
                scores.append(score)
                score = 0.0
            if t >= self.batch_size:
                self.learn()
        return scores


class Adapter:
    def __init__(self, seed):
        self.agent = PERAgent(4, 2, seed)
        self.gamma, self.observation_size = self.agent.gamma, 4

    def q_values(self, obs):
        return self.agent.online.forward(obs)[0]

    def target_q_values(self, obs):
        return self.agent.target.forward(obs)[0]

    def sync_target(self):
        self.agent.target.load(self.agent.online)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated, float), np.ones(len(action)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.replay.add(s=obs, a=action, r=reward, s2=next_obs, done=terminated)

    def sample(self, n):
        batch, _, _ = self.agent.replay.sample(n)
        return batch["s"], batch["a"], batch["r"], batch["s2"], batch["done"]

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(seed)
