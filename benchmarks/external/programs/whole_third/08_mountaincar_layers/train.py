#!/usr/bin/env python3
"""MountainCar-v0: DQN on top of a tiny layer library (numpy only)."""
import argparse
import csv

import gymnasium as gym
import numpy as np


# ----------------------------------------------------------------- library --
class Dense:
    def __init__(self, n_in, n_out, rng, activation="relu"):
        limit = np.sqrt(6.0 / (n_in + n_out))
        self.w = rng.uniform(-limit, limit, (n_in, n_out))
        self.b = np.zeros(n_out)
        self.activation = activation
        self.gw = np.zeros_like(self.w)
        self.gb = np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        z = x @ self.w + self.b
        if self.activation == "relu":
            self.slope = (z > 0).astype(z.dtype)
            return z * self.slope
        if self.activation == "tanh":
            y = np.tanh(z)
            self.slope = 1.0 - y * y
            return y
        self.slope = np.ones_like(z)
        return z

    def backward(self, dy):
        dz = dy * self.slope
        self.gw[...] = self.x.T @ dz
        self.gb[...] = dz.sum(axis=0)
        return dz @ self.w.T


class Network:
    def __init__(self, layers):
        self.layers = layers

    def __call__(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)

    def weights(self):
        return [p for l in self.layers for p in (l.w, l.b)]

    def gradients(self):
        return [g for l in self.layers for g in (l.gw, l.gb)]

    def load(self, weights):
        for p, w in zip(self.weights(), weights):
            np.copyto(p, w)


class RMSProp:
    def __init__(self, net, lr, rho=0.95, eps=1e-6):
        self.net, self.lr, self.rho, self.eps = net, lr, rho, eps
        self.sq = [np.zeros_like(p) for p in net.weights()]

    def step(self):
        for p, g, s in zip(self.net.weights(), self.net.gradients(), self.sq):
            s *= self.rho
            s += (1.0 - self.rho) * g ** 2
            p -= self.lr * g / np.sqrt(s + self.eps)


# ------------------------------------------------------------------- agent --
class ReplayBuffer:
    def __init__(self, capacity, n_obs, rng):
        self.capacity = capacity
        self.rng = rng
        self.obs = np.zeros((capacity, n_obs))
        self.act = np.zeros(capacity, dtype=np.int64)
        self.rew = np.zeros(capacity)
        self.nxt = np.zeros((capacity, n_obs))
        self.end = np.zeros(capacity)
        self.count = 0

    def store(self, obs, act, rew, nxt, end):
        i = self.count % self.capacity
        self.obs[i], self.act[i], self.rew[i], self.nxt[i], self.end[i] = obs, act, rew, nxt, end
        self.count += 1

    def sample(self, n):
        i = self.rng.integers(0, self.capacity, size=n)
        return self.obs[i], self.act[i], self.rew[i], self.nxt[i], self.end[i]


def build(n_obs, n_act, rng):
    return Network([
        Dense(n_obs, 64, rng, activation="tanh"),
        Dense(64, 64, rng, activation="tanh"),
        Dense(64, n_act, rng),
    ])


class DQNAgent:
    def __init__(self, n_obs, n_act, args, rng):
        self.args, self.rng, self.n_act = args, rng, n_act
        self.online = build(n_obs, n_act, rng)
        self.target = build(n_obs, n_act, rng)
        self.target.load(self.online.weights())
        self.opt = RMSProp(self.online, args.lr)
        self.replay = ReplayBuffer(args.buffer, n_obs, rng)
        self.steps = 0

    @property
    def epsilon(self):
        frac = min(1.0, self.steps / self.args.explore_steps)
        return 1.0 + frac * (0.05 - 1.0)

    def act(self, obs):
        if self.rng.random() < self.epsilon:
            return int(self.rng.integers(self.n_act))
        return int(self.online(obs[None])[0].argmax())

    def observe(self, *transition):
        self.replay.store(*transition)
        self.steps += 1
        if self.steps > self.args.warmup:
            self.update()
        if self.steps % self.args.sync == 0:
            self.target.load(self.online.weights())

    def update(self):
        n = self.args.batch
        obs, act, rew, nxt, end = self.replay.sample(n)
        y = rew + self.args.gamma * (1.0 - end) * self.target(nxt).max(axis=1)
        q = self.online(obs)
        dq = np.zeros_like(q)
        dq[np.arange(n), act] = (q[np.arange(n), act] - y) / n
        self.online.backward(dq)
        self.opt.step()


def normalise(obs):
    # position in [-1.2, 0.6], velocity in [-0.07, 0.07]
    return np.array([(obs[0] + 0.3) / 0.9, obs[1] / 0.07])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--episodes", type=int, default=1200)
    ap.add_argument("--lr", type=float, default=5e-4)
    ap.add_argument("--gamma", type=float, default=0.99)
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--buffer", type=int, default=100000)
    ap.add_argument("--warmup", type=int, default=2000)
    ap.add_argument("--sync", type=int, default=1000)
    ap.add_argument("--explore-steps", type=int, default=80000)
    ap.add_argument("--seed", type=int, default=5)
    ap.add_argument("--log", default="mountaincar_log.csv")
    args = ap.parse_args()

    rng = np.random.default_rng(args.seed)
    env = gym.make("MountainCar-v0")
    agent = DQNAgent(env.observation_space.shape[0], int(env.action_space.n), args, rng)

    with open(args.log, "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["episode", "return", "epsilon"])
        window = []
        for ep in range(args.episodes):
            obs, _ = env.reset(seed=args.seed + ep)
            obs = normalise(obs)
            total, over = 0.0, False
            while not over:
                a = agent.act(obs)
                nxt, r, terminated, truncated, _ = env.step(a)
                nxt = normalise(nxt)
                agent.observe(obs, a, r, nxt, terminated)
                obs = nxt
                total += r
                over = terminated or truncated
            writer.writerow([ep, total, round(agent.epsilon, 4)])
            window = (window + [total])[-50:]
            if ep % 10 == 0:
                f.flush()
                print("episode %4d  return %7.1f  mean50 %7.2f  epsilon %.3f"
                      % (ep, total, np.mean(window), agent.epsilon), flush=True)
    np.savez("mountaincar_net.npz", *agent.online.weights())


if __name__ == "__main__":
    main()
