"""
n-step DQN for Acrobot-v1 (gym 0.21).

    python train.py --episodes 600 --n 4
"""
import argparse
import collections
import copy
import random
import time

import gym
import numpy as np
import torch
import torch.nn as nn


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--env", default="Acrobot-v1")
    p.add_argument("--episodes", type=int, default=600)
    p.add_argument("--n", type=int, default=4, help="length of the multi-step return")
    p.add_argument("--gamma", type=float, default=0.99)
    p.add_argument("--lr", type=float, default=2.5e-4)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--capacity", type=int, default=50000)
    p.add_argument("--warmup", type=int, default=3000)
    p.add_argument("--period", type=int, default=800, help="target update period in env steps")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


class MultiStep:
    """Turns single transitions into n-step ones.

    Each item handed on is (s_t, a_t, R, s_{t+k}, gamma^k), with gamma^k = 0 if the
    episode ended within the window.
    """

    def __init__(self, n, gamma, sink):
        self.n, self.gamma, self.sink = n, gamma, sink
        self.window = collections.deque()

    def push(self, s, a, r, s_next, done):
        self.window.append((s, a, r))
        if done:
            while self.window:
                self._emit(s_next, 0.0)
        elif len(self.window) == self.n:
            self._emit(s_next, self.gamma ** self.n)

    def _emit(self, s_next, boot):
        R = 0.0
        for (_, _, r) in reversed(self.window):
            R = r + self.gamma * R
        s, a, _ = self.window.popleft()
        self.sink.append((s, a, R, s_next, boot))


def mlp(n_in, n_out):
    net = nn.Sequential(nn.Linear(n_in, 100), nn.ELU(), nn.Linear(100, 100), nn.ELU(), nn.Linear(100, n_out))
    for m in net:
        if isinstance(m, nn.Linear):
            nn.init.orthogonal_(m.weight, gain=1.2)
            nn.init.zeros_(m.bias)
    return net


def train_on(batch, net, frozen, opt):
    s, a, R, s2, boot = map(np.array, zip(*batch))
    s = torch.tensor(s, dtype=torch.float32)
    s2 = torch.tensor(s2, dtype=torch.float32)
    a = torch.tensor(a, dtype=torch.long)
    R = torch.tensor(R, dtype=torch.float32)
    boot = torch.tensor(boot, dtype=torch.float32)

    with torch.no_grad():
        goal = R + boot * frozen(s2).max(dim=1)[0]
    onehot = nn.functional.one_hot(a, net[-1].out_features).float()
    pred = (net(s) * onehot).sum(dim=1)
    loss = 0.5 * (goal - pred).pow(2).mean()

    opt.zero_grad()
    loss.backward()
    for p in net.parameters():
        p.grad.data.clamp_(-1, 1)
    opt.step()
    return loss.item()


def main():
    args = parse()
    env = gym.make(args.env)
    env.seed(args.seed)
    env.action_space.seed(args.seed)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    n_actions = env.action_space.n
    net = mlp(env.observation_space.shape[0], n_actions)
    frozen = copy.deepcopy(net)
    opt = torch.optim.RMSprop(net.parameters(), lr=args.lr, alpha=0.95, eps=1e-2 / args.batch, centered=True)

    memory = collections.deque(maxlen=args.capacity)
    builder = MultiStep(args.n, args.gamma, memory)
    returns = []
    total = 0
    started = time.time()

    for episode in range(args.episodes):
        s = env.reset()
        done = False
        ret = 0
        ep_loss = []
        eps = max(0.05, 1.0 - episode / 150)
        while not done:
            if random.random() < eps:
                a = env.action_space.sample()
            else:
                with torch.no_grad():
                    a = int(torch.argmax(net(torch.as_tensor(s, dtype=torch.float32))))
            s2, r, done, _ = env.step(a)
            builder.push(s, a, r / 10.0, s2, done)
            s = s2
            ret += r
            total += 1

            if len(memory) >= args.warmup:
                ep_loss.append(train_on(random.sample(memory, args.batch), net, frozen, opt))
            if total % args.period == 0:
                frozen = copy.deepcopy(net)

        returns.append(ret)
        if episode % 10 == 9:
            print("ep %d | steps %d | return %.0f | mean100 %.1f | loss %.5f | eps %.2f | %.0fs" % (
                episode + 1, total, ret, np.mean(returns[-100:]),
                np.mean(ep_loss) if ep_loss else float("nan"), eps, time.time() - started))

    np.savetxt("returns_n%d.txt" % args.n, returns, fmt="%.1f")
    torch.save(net.state_dict(), "acrobot_n%d.pt" % args.n)
    env.close()


if __name__ == "__main__":
    main()
