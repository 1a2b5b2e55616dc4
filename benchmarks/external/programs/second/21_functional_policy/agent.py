import collections
import random

import numpy as np
import torch


def dense(n_in, n_out, gain=2.0):
    w = (torch.randn(n_in, n_out) * (gain / n_in) ** 0.5).requires_grad_(True)
    b = torch.zeros(1, n_out, requires_grad=True)
    return w, b


class Params(collections.namedtuple("Params", "w1 b1 w2 b2 w3 b3")):
    def forward(self, x):
        x = torch.relu(x @ self.w1 + self.b1)
        x = torch.relu(x @ self.w2 + self.b2)
        return x @ self.w3 + self.b3

    def copy(self):
        return Params(*(p.detach().clone() for p in self))


class FunctionalDQN:
    def __init__(self, n_obs, n_actions, seed):
        torch.manual_seed(seed)
        self.random = random.Random(seed)
        self.n_obs, self.n_actions = n_obs, n_actions
        self.gamma = 0.99
        self.lr = 1e-3
        self.params = Params(*dense(n_obs, 64), *dense(64, 64), *dense(64, n_actions, gain=1.0))
        self.target = self.params.copy()
        self.m = [torch.zeros_like(p) for p in self.params]
        self.v = [torch.zeros_like(p) for p in self.params]
        self.updates = 0
        self.replay = collections.deque(maxlen=20_000)
        self.frame = 0

    def act(self, state, epsilon):
        if self.random.random() < epsilon:
            return self.random.randrange(self.n_actions)
        state = torch.tensor(state, dtype=torch.float32).unsqueeze(0)
        with torch.no_grad():
            q = self.params.forward(state)
        return int(q.argmax(dim=0)[0])

    def loss(self, s, a, r, s2, d):
        q = (self.params.forward(s) * torch.nn.functional.one_hot(a, self.n_actions)).sum(1)
        with torch.no_grad():
            y = r + self.gamma * torch.where(d, 0.0, self.target.forward(s2).max(1)[0])
        return (q - y).square().mean() / 2

    def update(self, *batch):
        grads = torch.autograd.grad(self.loss(*batch), self.params)
        self.updates += 1
        with torch.no_grad():
            for p, g, m, v in zip(self.params, grads, self.m, self.v):
                m.lerp_(g, 0.1)
                v.lerp_(g * g, 0.001)
                m_hat = m / (1 - 0.9**self.updates)
                v_hat = v / (1 - 0.999**self.updates)
                p.sub_(self.lr * m_hat / (v_hat.sqrt() + 1e-8))

    def minibatch(self, n):
        s, a, r, s2, d = zip(*self.random.sample(self.replay, n))
        return (
            torch.tensor(np.stack(s), dtype=torch.float32),
            torch.tensor(a),
            torch.tensor(r, dtype=torch.float32),
            torch.tensor(np.stack(s2), dtype=torch.float32),
            torch.tensor(d, dtype=torch.bool),
        )

    def sync(self):
        self.target = self.params.copy()

    def train(self, env, frames):
        s, _ = env.reset()
        for _ in range(frames):
            a = self.act(s, max(0.05, 1 - self.frame / 4000))
            s2, r, terminated, truncated, _ = env.step(a)
            self.replay.append((s, a, float(r), s2, bool(terminated)))
            self.frame += 1
            if len(self.replay) >= 128:
                self.update(*self.minibatch(32))
            if self.frame % 250 == 0:
                self.sync()
            if terminated or truncated:
                s2, _ = env.reset()
            s = s2


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_obs

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.params.forward(torch.tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.target.forward(torch.tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(
            torch.tensor(obs, dtype=torch.float32),
            torch.tensor(action, dtype=torch.int64),
            torch.tensor(reward, dtype=torch.float32),
            torch.tensor(next_obs, dtype=torch.float32),
            torch.tensor(terminated, dtype=torch.bool),
        )

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.replay.append((obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated)))

    def sample(self, n):
        return [t.numpy() for t in self.agent.minibatch(n)]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(FunctionalDQN(4, 2, seed))
