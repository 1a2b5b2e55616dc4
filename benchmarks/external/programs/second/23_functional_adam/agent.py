"""Double DQN in functional style: pure functions of a dict of tensors, AMSGrad and log-cosh written by hand."""
import math

import numpy as np
import torch
import torch.nn.functional as F


def init(n_obs, n_actions, width, gen):
    def mat(a, b):
        return torch.randn(a, b, generator=gen, dtype=torch.float64) / math.sqrt(a)

    params = {
        "in": mat(n_obs, width),
        "in_bias": torch.zeros(width, dtype=torch.float64),
        "mid": mat(width, width),
        "mid_bias": torch.zeros(width, dtype=torch.float64),
        "out": mat(width, n_actions) * 0.5,
    }
    return {k: v.requires_grad_() for k, v in params.items()}


def q_function(params, obs):
    h = F.silu(obs @ params["in"] + params["in_bias"])
    h = F.layer_norm(h @ params["mid"] + params["mid_bias"], (params["mid"].shape[1],))
    return F.silu(h) @ params["out"]


def log_cosh(x):
    return x + F.softplus(-2.0 * x) - math.log(2.0)


def loss_fn(params, frozen, gamma, obs, action, reward, next_obs, terminated):
    q = q_function(params, obs)[torch.arange(len(action)), action]
    with torch.no_grad():
        greedy = q_function(params, next_obs).argmax(dim=-1, keepdim=True)
        v = q_function(frozen, next_obs).gather(-1, greedy).squeeze(-1)
        y = torch.where(terminated, reward, reward + gamma * v)
    return log_cosh(q - y).mean()


class AMSGrad:
    def __init__(self, params, lr=1e-3, b1=0.9, b2=0.99, eps=1e-8):
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.m = {k: torch.zeros_like(p) for k, p in params.items()}
        self.v = {k: torch.zeros_like(p) for k, p in params.items()}
        self.vmax = {k: torch.zeros_like(p) for k, p in params.items()}

    @torch.no_grad()
    def step(self, params, grads):
        for (k, p), g in zip(params.items(), grads):
            self.m[k] = self.b1 * self.m[k] + (1 - self.b1) * g
            self.v[k] = self.b2 * self.v[k] + (1 - self.b2) * g**2
            self.vmax[k] = torch.maximum(self.vmax[k], self.v[k])
            p -= self.lr * self.m[k] / (self.vmax[k].sqrt() + self.eps)


class Agent:
    gamma = 0.98

    def __init__(self, n_obs, n_actions, seed=0):
        self.n_obs, self.n_actions = n_obs, n_actions
        self.rng = np.random.default_rng(seed)
        self.params = init(n_obs, n_actions, 64, torch.Generator().manual_seed(seed))
        self.frozen = {k: p.detach().clone() for k, p in self.params.items()}
        self.opt = AMSGrad(self.params)
        self.store = {k: [] for k in ("obs", "action", "reward", "next_obs", "terminated")}
        self.limit, self.cursor, self.t = 10_000, 0, 0

    def freeze(self):
        self.frozen = {k: p.detach().clone() for k, p in self.params.items()}

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        with torch.no_grad():
            return int(q_function(self.params, torch.as_tensor(obs).double()).argmax())

    def add(self, **transition):
        for k, column in self.store.items():
            if len(column) < self.limit:
                column.append(transition[k])
            else:
                column[self.cursor] = transition[k]
        self.cursor = (self.cursor + 1) % self.limit

    def sample(self, n):
        idx = self.rng.integers(len(self.store["obs"]), size=n)
        return [np.array([column[i] for i in idx]) for column in self.store.values()]

    def update(self, obs, action, reward, next_obs, terminated):
        obs, reward, next_obs = (torch.as_tensor(np.asarray(x)).double() for x in (obs, reward, next_obs))
        action, terminated = torch.as_tensor(action).long(), torch.as_tensor(terminated).bool()
        loss = loss_fn(self.params, self.frozen, self.gamma, obs, action, reward, next_obs, terminated)
        self.opt.step(self.params, torch.autograd.grad(loss, list(self.params.values())))
        return loss.item()

    def run(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            a = self.act(obs, max(0.03, 1 - self.t / 3000))
            nxt, r, terminated, truncated, _ = env.step(a)
            self.add(obs=obs, action=a, reward=float(r), next_obs=nxt, terminated=bool(terminated))
            self.t += 1
            if self.t >= 100:
                self.update(*self.sample(32))
            if self.t % 250 == 0:
                self.freeze()
            obs = env.reset()[0] if terminated or truncated else nxt


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.n_obs

    def q_values(self, obs):
        with torch.no_grad():
            return q_function(self.agent.params, torch.as_tensor(obs).double()).numpy()

    def target_q_values(self, obs):
        return q_function(self.agent.frozen, torch.as_tensor(obs).double()).numpy()

    def sync_target(self):
        self.agent.freeze()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.add(
            obs=obs.copy(), action=int(action), reward=float(reward), next_obs=next_obs.copy(),
            terminated=bool(terminated),
        )

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed))
