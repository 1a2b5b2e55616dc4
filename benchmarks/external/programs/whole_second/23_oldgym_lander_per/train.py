import gym
import numpy as np
import random
import torch
import torch.nn as nn
import torch.optim as optim


class SumTree(object):
    def __init__(self, capacity):
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity - 1)
        self.data = np.zeros(capacity, dtype=object)
        self.pointer = 0
        self.size = 0

    def add(self, p, data):
        self.data[self.pointer] = data
        self.update(self.pointer + self.capacity - 1, p)
        self.pointer = (self.pointer + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def update(self, idx, p):
        change = p - self.tree[idx]
        self.tree[idx] = p
        while idx != 0:
            idx = (idx - 1) // 2
            self.tree[idx] += change

    def get(self, v):
        idx = 0
        while True:
            left = 2 * idx + 1
            if left >= len(self.tree):
                break
            if v <= self.tree[left] or self.tree[left + 1] <= 0:
                idx = left
            else:
                v -= self.tree[left]
                idx = left + 1
        return idx, self.tree[idx], self.data[idx - self.capacity + 1]

    @property
    def total(self):
        return self.tree[0]


class Memory(object):
    eps, alpha, beta, beta_inc, ceiling = 0.01, 0.6, 0.4, 5e-6, 1.0

    def __init__(self, capacity):
        self.tree = SumTree(capacity)

    def __len__(self):
        return self.tree.size

    def store(self, transition):
        top = self.tree.tree[-self.tree.capacity:].max()
        self.tree.add(top if top > 0 else self.ceiling, transition)

    def sample(self, n):
        idxs, probs, rows = [], [], []
        seg = self.tree.total / n
        self.beta = min(1.0, self.beta + self.beta_inc)
        for i in range(n):
            idx, p, row = self.tree.get(random.uniform(seg * i, seg * (i + 1)))
            idxs.append(idx); probs.append(p / self.tree.total); rows.append(row)
        w = (len(self) * np.array(probs)) ** (-self.beta)
        return idxs, rows, w / w.max()

    def batch_update(self, idxs, errors):
        for i, e in zip(idxs, np.minimum(errors + self.eps, self.ceiling) ** self.alpha):
            self.tree.update(i, e)


def build():
    return nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))


env = gym.make('LunarLander-v2')
env.seed(10)
torch.manual_seed(10); np.random.seed(10); random.seed(10)

eval_net, target_net = build(), build()
target_net.load_state_dict(eval_net.state_dict())
optimizer = optim.Adam(eval_net.parameters(), lr=2.5e-4)
memory = Memory(2 ** 15)
gamma, epsilon, learn_counter, total_steps = 0.99, 1.0, 0, 0


def choose(s):
    if np.random.uniform() < epsilon:
        return np.random.randint(0, 4)
    with torch.no_grad():
        return eval_net(torch.FloatTensor(s)).max(0)[1].item()


def learn():
    global learn_counter
    if learn_counter % 500 == 0:
        target_net.load_state_dict(eval_net.state_dict())
    learn_counter += 1
    idxs, rows, w = memory.sample(64)
    rows = np.vstack(rows)
    s, a, r, s_, d = rows[:, :8], rows[:, 8], rows[:, 9], rows[:, 10:18], rows[:, 18]
    s, r, s_, d, w = (torch.FloatTensor(x) for x in (s, r, s_, d, w))
    a = torch.LongTensor(a.astype(int)).unsqueeze(1)
    q = eval_net(s).gather(1, a).squeeze(1)
    y = r + gamma * (1 - d) * target_net(s_).max(1)[0].detach()
    td = y - q
    memory.batch_update(idxs, td.detach().abs().numpy())
    loss = (w * td.pow(2)).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(eval_net.parameters(), 10.)
    optimizer.step()


for i_episode in range(800):
    s = env.reset()
    ep_r = 0
    while True:
        a = choose(s)
        s_, r, done, info = env.step(a)
        ep_r += r
        timeout = info.get('TimeLimit.truncated', False)
        memory.store(np.hstack((s, a, r / 20.0, s_, float(done and not timeout))))
        total_steps += 1
        if total_steps > 3000 and total_steps % 2 == 0:
            learn()
        s = s_
        if done:
            break
    epsilon = max(0.02, epsilon * 0.99)
    print('Ep: ', i_episode, '| Ep_r: ', round(ep_r, 2), '| epsilon: ', round(epsilon, 3))
