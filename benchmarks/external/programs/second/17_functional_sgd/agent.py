import math
import random
from collections import deque

import numpy as np
import torch
import torch.nn.functional as F


def init_params(sizes, generator):
    params = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:]):
        w = torch.randn(n_in, n_out, generator=generator) * math.sqrt(2 / n_in)
        b = torch.zeros(n_out)
        params += [w.requires_grad_(), b.requires_grad_()]
    return params


def q_forward(params, x):
    for i in range(0, len(params), 2):
        x = x @ params[i] + params[i + 1]
        if i < len(params) - 2:
            x = F.relu(x)
    return x


def copy_params(params):
    return [p.detach().clone() for p in params]


def compute_loss(params, target_params, gamma, obs, actions, rewards, next_obs, dones):
    q = q_forward(params, obs).gather(1, actions.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        next_q = q_forward(target_params, next_obs).max(dim=1)[0]
        target = rewards + gamma * next_q * (1 - dones)
    return F.smooth_l1_loss(q, target)


def sgd_step(params, lr):
    with torch.no_grad():
        for p in params:
            p = p - lr * p.grad


def zero_grads(params):
    for p in params:
        p.grad = None


class Agent:
    def __init__(self, obs_dim, n_actions, seed=0, gamma=0.98, lr=0.05, batch_size=64, target_every=200):
        self.gen = torch.Generator().manual_seed(seed)
        self.rng = random.Random(seed)
        self.obs_dim, self.n_actions = obs_dim, n_actions
        self.gamma, self.lr, self.batch_size, self.target_every = gamma, lr, batch_size, target_every
        self.params = init_params([obs_dim, 64, 64, n_actions], self.gen)
        self.target_params = copy_params(self.params)
        self.buffer = deque(maxlen=10_000)
        self.step = 0

    @torch.no_grad()
    def act(self, obs, eps):
        if self.rng.random() < eps:
            return self.rng.randrange(self.n_actions)
        return q_forward(self.params, torch.as_tensor(obs, dtype=torch.float32)).argmax().item()

    def update(self, obs, actions, rewards, next_obs, dones):
        zero_grads(self.params)
        loss = compute_loss(self.params, self.target_params, self.gamma, obs, actions, rewards, next_obs, dones)
        loss.backward()
        sgd_step(self.params, self.lr)
        return loss.item()

    def update_target(self):
        self.target_params = copy_params(self.params)

    def sample(self, n):
        obs, actions, rewards, next_obs, dones = zip(*self.rng.sample(self.buffer, n))
        return (
            torch.tensor(np.array(obs), dtype=torch.float32),
            torch.tensor(actions, dtype=torch.int64),
            torch.tensor(rewards, dtype=torch.float32),
            torch.tensor(np.array(next_obs), dtype=torch.float32),
            torch.tensor(dones, dtype=torch.float32),
        )


def train(agent, env, n_steps):
    obs, _ = env.reset()
    for _ in range(n_steps):
        eps = max(0.05, 1.0 - agent.step / 4000)
        action = agent.act(obs, eps)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.buffer.append((obs, action, float(reward), next_obs, float(terminated)))
        agent.step += 1
        if len(agent.buffer) >= 2 * agent.batch_size:
            agent.update(*agent.sample(agent.batch_size))
        if agent.step % agent.target_every == 0:
            agent.update_target()
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.obs_dim

    @torch.no_grad()
    def q_values(self, obs):
        return q_forward(self.agent.params, torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return q_forward(self.agent.target_params, torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        f = lambda x: torch.as_tensor(np.asarray(x), dtype=torch.float32)
        self.agent.update(f(obs), torch.as_tensor(action, dtype=torch.int64), f(reward), f(next_obs), f(terminated))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.append((obs.copy(), int(action), float(reward), next_obs.copy(), float(terminated)))

    def sample(self, n):
        return [t.numpy() for t in self.agent.sample(n)]

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed=seed))
