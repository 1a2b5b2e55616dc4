import random
from collections import deque

import numpy as np
import torch

# dueling network without modules: trunk, value and advantage heads are lists of tensors


def leaf(t):
    return t.detach().clone().requires_grad_(True)


def new_params(n_obs, n_actions, h=64):
    def orth(a, b, gain):
        return leaf(torch.nn.init.orthogonal_(torch.empty(a, b), gain=gain))

    return {
        "trunk": [orth(n_obs, h, 1.41), leaf(torch.zeros(h))],
        "value": [orth(h, h, 1.41), leaf(torch.zeros(h)), orth(h, 1, 1.0), leaf(torch.zeros(1))],
        "advantage": [orth(h, h, 1.41), leaf(torch.zeros(h)), orth(h, n_actions, 0.1), leaf(torch.zeros(n_actions))],
    }


def flat(params):
    return [t for group in params.values() for t in group]


def head(x, w1, b1, w2, b2):
    return torch.relu(x @ w1 + b1) @ w2 + b2


def q_net(params, x):
    w, b = params["trunk"]
    x = torch.relu(x @ w + b)
    v = head(x, *params["value"])
    a = head(x, *params["advantage"])
    return v + a - a.mean(dim=1, keepdim=True)


class Dueling:
    def __init__(self, n_obs, n_actions, lr=0.1, momentum=0.9, gamma=0.98, tau=0.02, max_norm=5.0):
        self.n_obs, self.n_actions = n_obs, n_actions
        self.lr, self.momentum, self.gamma, self.tau, self.max_norm = lr, momentum, gamma, tau, max_norm
        self.params = new_params(n_obs, n_actions)
        self.slow = {k: [t.detach().clone() for t in g] for k, g in self.params.items()}
        self.velocity = [torch.zeros_like(p) for p in flat(self.params)]
        self.memory = deque(maxlen=20_000)
        self.t = 0

    def update(self, obs, action, reward, next_obs, done):
        with torch.no_grad():
            y = reward + self.gamma * (1 - done) * q_net(self.slow, next_obs).max(dim=1).values
        q = q_net(self.params, obs).gather(1, action[:, None]).squeeze(1)
        err = q - y
        loss = torch.where(err.abs() < 1, 0.5 * err**2, err.abs() - 0.5).mean()
        params = flat(self.params)
        grads = torch.autograd.grad(loss, params)
        norm = torch.sqrt(sum((g**2).sum() for g in grads))
        coef = min(1.0, self.max_norm / (norm.item() + 1e-6))
        with torch.no_grad():
            for p, g, v in zip(params, grads, self.velocity):
                v.mul_(self.momentum).add_(g, alpha=coef * (1 - self.momentum))
                p.add_(v, alpha=-self.lr)
        self.follow()

    @torch.no_grad()
    def follow(self):
        for s, p in zip(flat(self.slow), flat(self.params)):
            s.lerp_(p, self.tau)

    def act(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return q_net(self.params, torch.as_tensor(obs, dtype=torch.float32)[None])[0].argmax().item()

    def batch(self, n):
        obs, action, reward, next_obs, done = zip(*random.sample(self.memory, n))
        f32 = torch.float32
        return (
            torch.tensor(np.array(obs), dtype=f32), torch.tensor(action), torch.tensor(reward, dtype=f32),
            torch.tensor(np.array(next_obs), dtype=f32), torch.tensor(done, dtype=f32),
        )

    def train(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.act(obs, max(0.05, 1 - self.t / 4000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.append((obs, action, float(reward), next_obs, float(terminated)))
            self.t += 1
            if self.t >= 128:
                self.update(*self.batch(64))
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_obs

    @torch.no_grad()
    def q_values(self, obs):
        return q_net(self.agent.params, torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return q_net(self.agent.slow, torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.follow()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        o, r, n, d = (torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in (obs, reward, next_obs, terminated))
        self.agent.update(o, torch.as_tensor(action, dtype=torch.int64), r, n, d)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append((obs.copy(), int(action), float(reward), next_obs.copy(), float(terminated)))

    def sample(self, n):
        return [t.numpy() for t in self.agent.batch(n)]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Dueling(4, 2))
