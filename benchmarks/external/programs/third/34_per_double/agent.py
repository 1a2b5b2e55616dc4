import numpy as np
import torch
from torch import nn


class SumTree:
    def __init__(self, capacity):
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity)

    def total(self):
        return self.tree[1]

    def set(self, index, value):
        node = index + self.capacity
        self.tree[node] = value
        node //= 2
        while node >= 1:
            self.tree[node] = self.tree[2 * node] + self.tree[2 * node + 1]
            node //= 2

    def find(self, value):
        node = 1
        while node < self.capacity:
            left = 2 * node
            if value < self.tree[left] or self.tree[left + 1] <= 0:
                node = left
            else:
                value -= self.tree[left]
                node = left + 1
        return node - self.capacity

    def __getitem__(self, index):
        return self.tree[np.asarray(index) + self.capacity]


class PrioritizedMemory:
    def __init__(self, capacity, obs_dim, rng, alpha=0.6, eps=1e-3):
        self.tree = SumTree(capacity)
        self.capacity, self.alpha, self.eps, self.rng = capacity, alpha, eps, rng
        self.s = np.zeros((capacity, obs_dim), np.float32)
        self.s2 = np.zeros((capacity, obs_dim), np.float32)
        self.a = np.zeros(capacity, np.int64)
        self.r = np.zeros(capacity, np.float32)
        self.d = np.zeros(capacity, np.float32)
        self.max_priority = 1.0
        self.next, self.size = 0, 0

    def add(self, s, a, r, s2, d):
        i = self.next
        self.s[i], self.a[i], self.r[i], self.s2[i], self.d[i] = s, a, r, s2, d
        self.tree.set(i, self.max_priority ** self.alpha)
        self.next = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n, beta):
        segment = self.tree.total() / n
        idx = np.array([self.tree.find((i + self.rng.random()) * segment) for i in range(n)])
        idx = np.minimum(idx, self.size - 1)
        prob = self.tree[idx] / self.tree.total()
        w = (self.size * prob) ** -beta
        return (self.s[idx], self.a[idx], self.r[idx], self.s2[idx], self.d[idx]), idx, w / w.max()

    def update(self, idx, td):
        p = np.abs(td) + self.eps
        self.max_priority = max(self.max_priority, p.max())
        for i, v in zip(idx, p):
            self.tree.set(int(i), v ** self.alpha)


class PERDoubleDQN:
    def __init__(self, obs_dim, n_actions, seed=0, gamma=0.99, lr=5e-4, capacity=8192):
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.obs_dim, self.n_actions, self.gamma = obs_dim, n_actions, gamma
        self.online, self.target = self.build(), self.build()
        self.sync()
        self.opt = torch.optim.Adam(self.online.parameters(), lr=lr, eps=1e-5)
        self.memory = PrioritizedMemory(capacity, obs_dim, self.rng)
        self.t = 0

    def build(self):
        return nn.Sequential(nn.Linear(self.obs_dim, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
                             nn.Linear(128, self.n_actions))

    def sync(self):
        self.target.load_state_dict(self.online.state_dict())

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        with torch.no_grad():
            return int(self.online(torch.as_tensor(obs, dtype=torch.float32)[None]).argmax())

    def step(self, s, a, r, s2, d, weights=None):
        s, s2, r, d = (torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in (s, s2, r, d))
        a = torch.as_tensor(np.asarray(a), dtype=torch.long)
        w = torch.ones_like(r) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        with torch.no_grad():
            best = self.online(s2).argmax(1, keepdim=True)
            y = r + self.gamma * (1 - d) * self.target(s2).gather(1, best).squeeze(1)
        q = self.online(s).gather(1, a[:, None]).squeeze(1)
        td = y - q
        loss = (w * nn.functional.huber_loss(q, y, reduction="none")).mean()
        self.opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.opt.step()
        return td.detach().numpy()

    def train(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            eps = max(0.03, 1.0 - self.t / 3000)
            a = self.act(obs, eps)
            nxt, r, terminated, truncated, _ = env.step(a)
            self.memory.add(obs, a, r, nxt, terminated)
            obs = nxt
            if terminated or truncated:
                obs, _ = env.reset()
            self.t += 1
            if self.memory.size >= 256 and self.t % 2 == 0:
                beta = min(1.0, 0.4 + 0.6 * self.t / 20000)
                batch, idx, w = self.memory.sample(64, beta)
                self.memory.update(idx, self.step(*batch, weights=w))
            if self.t % 250 == 0:
                self.sync()


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.obs_dim

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.online(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.target(torch.as_tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.step(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample(n, 0.4)[0]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(PERDoubleDQN(4, 2, seed=seed))
