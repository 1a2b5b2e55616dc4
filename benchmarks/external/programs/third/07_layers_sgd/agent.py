"""minigrad-style modules, momentum SGD, and a DQN that uses them."""
import random
from copy import deepcopy

import numpy as np


class Linear:
    def __init__(self, fan_in, fan_out, rng):
        self.params = {"w": rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)), "b": np.zeros(fan_out)}
        self.grads = {}

    def __call__(self, x):
        self.inp = x
        return x @ self.params["w"] + self.params["b"]

    def backward(self, d):
        self.grads = {"w": self.inp.T @ d, "b": d.sum(axis=0)}
        return d @ self.params["w"].T


class LeakyReLU:
    params, grads = {}, {}

    def __init__(self, slope=0.01):
        self.slope = slope

    def __call__(self, x):
        self.factor = np.where(x > 0, 1.0, self.slope)
        return x * self.factor

    def backward(self, d):
        return d * self.factor


class MLP:
    def __init__(self, sizes, rng):
        self.layers = []
        for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:])):
            self.layers.append(Linear(a, b, rng))
            if i < len(sizes) - 2:
                self.layers.append(LeakyReLU())

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def backward(self, d):
        for layer in self.layers[::-1]:
            d = layer.backward(d)


class MomentumSGD:
    def __init__(self, net, lr, momentum=0.9, clip=1.0):
        self.net, self.lr, self.momentum, self.clip = net, lr, momentum, clip
        self.velocity = [{k: np.zeros_like(v) for k, v in layer.params.items()} for layer in net.layers]

    def grad_norm(self):
        return np.sqrt(sum(np.sum(g ** 2) for layer in self.net.layers for g in layer.grads.values()))

    def step(self):
        norm = self.grad_norm()
        factor = 1.0
        if norm > self.clip:
            factor = norm / self.clip
        for layer, vel in zip(self.net.layers, self.velocity):
            for name, grad in layer.grads.items():
                vel[name] = self.momentum * vel[name] - self.lr * factor * grad
                layer.params[name] += vel[name]


class Agent:
    def __init__(self, obs_size, n_actions, seed=0, gamma=0.98, lr=2e-3):
        np_rng = np.random.default_rng(seed)
        self.random = random.Random(seed)
        self.obs_size, self.n_actions, self.gamma = obs_size, n_actions, gamma
        self.qnet = MLP([obs_size, 64, 64, n_actions], np_rng)
        self.target_net = deepcopy(self.qnet)
        self.optimizer = MomentumSGD(self.qnet, lr)
        self.buffer, self.capacity, self.cursor = [], 20_000, 0

    def select_action(self, obs, eps):
        if self.random.random() < eps:
            return self.random.randrange(self.n_actions)
        return int(self.qnet(np.asarray(obs)[None])[0].argmax())

    def push(self, *transition):
        if len(self.buffer) < self.capacity:
            self.buffer.append(transition)
        else:
            self.buffer[self.cursor] = transition
        self.cursor = (self.cursor + 1) % self.capacity

    def sample(self, k):
        return tuple(map(np.array, zip(*self.random.sample(self.buffer, k))))

    def optimize(self, obs, action, reward, next_obs, done):
        target = reward + self.gamma * self.target_net(next_obs).max(1) * np.logical_not(done)
        q = self.qnet(obs)
        picked = q[np.arange(len(q)), action]
        d = np.zeros_like(q)
        d[np.arange(len(q)), action] = (picked - target) / len(q)
        self.qnet.backward(d)
        self.optimizer.step()
        return 0.5 * np.mean((picked - target) ** 2)

    def sync(self):
        for mine, theirs in zip(self.qnet.layers, self.target_net.layers):
            for name in mine.params:
                theirs.params[name] = mine.params[name].copy()

    def run(self, env, steps, batch_size=64, sync_every=200):
        returns, ret = [], 0.0
        obs, _ = env.reset()
        for t in range(1, steps + 1):
            action = self.select_action(obs, max(0.05, 1 - t / 5000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.push(obs, action, reward, next_obs, terminated)
            obs, ret = next_obs, ret + reward
            if terminated or truncated:
                returns.append(ret)
                ret = 0.0
                obs, _ = env.reset()
            if len(self.buffer) > batch_size:
                self.optimize(*self.sample(batch_size))
            if t % sync_every == 0:
                self.sync()
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.obs_size

    def q_values(self, obs):
        return self.agent.qnet(obs)

    def target_q_values(self, obs):
        return self.agent.target_net(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.optimize(obs, action, reward, next_obs, terminated)

    def sync_target(self):
        self.agent.sync()

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed))
