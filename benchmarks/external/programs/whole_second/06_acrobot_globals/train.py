import numpy as np
import gymnasium as gym
from collections import deque
import random
import time

env = gym.make("Acrobot-v1")
ns = env.observation_space.shape[0]
na = env.action_space.n
nh = 100

gamma = 0.99
alpha = 0.0005
eps = 1.0
eps_min = 0.05
eps_decay = 0.985
memory = deque(maxlen=50000)
batch = 64

W1 = np.random.uniform(-1, 1, (nh, ns)) / np.sqrt(ns)
b1 = np.zeros((nh, 1))
W2 = np.random.uniform(-1, 1, (na, nh)) / np.sqrt(nh)
b2 = np.zeros((na, 1))
tW1, tb1, tW2, tb2 = W1.copy(), b1.copy(), W2.copy(), b2.copy()
cache = [np.zeros_like(p) for p in (W1, b1, W2, b2)]


def net(x, W1, b1, W2, b2):
    z = W1.dot(x) + b1
    h = np.tanh(z)
    return z, h, W2.dot(h) + b2


def policy(s):
    if random.random() < eps:
        return random.randrange(na)
    _, _, q = net(s.reshape(-1, 1), W1, b1, W2, b2)
    return int(q.argmax())


def replay():
    global W1, b1, W2, b2
    mb = random.sample(memory, batch)
    s = np.array([m[0] for m in mb]).T
    a = np.array([m[1] for m in mb])
    r = np.array([m[2] for m in mb])
    sn = np.array([m[3] for m in mb]).T
    term = np.array([m[4] for m in mb])

    _, _, qn = net(sn, tW1, tb1, tW2, tb2)
    y = r + gamma * np.where(term, 0.0, qn.max(axis=0))

    z, h, q = net(s, W1, b1, W2, b2)
    cols = np.arange(batch)
    dq = np.zeros_like(q)
    dq[a, cols] = np.clip(q[a, cols] - y, -1, 1) / batch

    dW2 = dq.dot(h.T)
    db2 = dq.sum(axis=1, keepdims=True)
    dz = W2.T.dot(dq) * (1 - z ** 2)
    dW1 = dz.dot(s.T)
    db1 = dz.sum(axis=1, keepdims=True)

    new = []
    for i, (p, g) in enumerate(zip((W1, b1, W2, b2), (dW1, db1, dW2, db2))):
        cache[i] = 0.99 * cache[i] + 0.01 * g * g
        new.append(p - alpha * g / (np.sqrt(cache[i]) + 1e-6))
    W1, b1, W2, b2 = new


steps = 0
start = time.time()
for ep in range(600):
    s, _ = env.reset()
    total = 0
    while True:
        a = policy(s)
        sn, r, term, trunc, _ = env.step(a)
        memory.append((s, a, r, sn, term))
        total += r
        s = sn
        steps += 1
        if len(memory) > 1000:
            replay()
        if steps % 1000 == 0:
            tW1, tb1, tW2, tb2 = W1.copy(), b1.copy(), W2.copy(), b2.copy()
        if term or trunc:
            break
    eps = min(eps_min, eps * eps_decay)
    print("Episode:", ep, "return:", total, "eps: %.3f" % eps, "time: %.0fs" % (time.time() - start))
