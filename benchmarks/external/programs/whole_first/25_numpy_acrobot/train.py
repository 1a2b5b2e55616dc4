"""Acrobot, double Q-learning targets, slow (Polyak) target, pure numpy functions."""
import sys
import numpy as np
import gymnasium as gym

rng = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


def init(sizes):
    return [(rng.uniform(-1, 1, (m, n)) * np.sqrt(6 / (m + n)), np.zeros(n)) for m, n in zip(sizes, sizes[1:])]


def apply(net, x, keep=False):
    acts = [x]
    for k, (W, b) in enumerate(net):
        x = x @ W + b
        if k < len(net) - 1:
            x = np.tanh(x)
        acts.append(x)
    return (x, acts) if keep else x


def gradient(net, acts, g):
    grads = []
    for k in range(len(net) - 1, -1, -1):
        if k < len(net) - 1:
            g = g * (1 - acts[k + 1] ** 2)
        grads.append((acts[k].T @ g, g.sum(0)))
        g = g @ net[k][0].T
    return grads[::-1]


def clip_norm(grads, limit):
    norm = np.sqrt(sum((a ** 2).sum() for pair in grads for a in pair))
    f = min(1.0, limit / (norm + 1e-12))
    return [(gw * f, gb * f) for gw, gb in grads]


def adam_init(net):
    zeros = lambda: [(np.zeros_like(W), np.zeros_like(b)) for W, b in net]
    return {"m": zeros(), "v": zeros(), "t": 0}


def adam(net, grads, st, lr):
    st["t"] += 1
    c1, c2 = 1 - 0.9 ** st["t"], 1 - 0.999 ** st["t"]
    new, ms, vs = [], [], []
    for layer, g, m, v in zip(net, grads, st["m"], st["v"]):
        m = tuple(0.9 * mi + 0.1 * gi for mi, gi in zip(m, g))
        v = tuple(0.999 * vi + 0.001 * gi ** 2 for vi, gi in zip(v, g))
        new.append(tuple(p - lr * (mi / c1) / (np.sqrt(vi / c2) + 1e-8) for p, mi, vi in zip(layer, m, v)))
        ms.append(m)
        vs.append(v)
    st["m"], st["v"] = ms, vs
    return new


def blend(slow, fast, tau):
    return [tuple((1 - tau) * s + tau * f for s, f in zip(ls, lf)) for ls, lf in zip(slow, fast)]


SCALE = np.array([1, 1, 1, 1, 4 * np.pi, 9 * np.pi])   # velocities to about [-1, 1]
GAMMA, TAU, LR, BATCH = 0.99, 0.005, 6e-4, 64
CAP, WARM, EVERY = 60000, 2000, 2

env = gym.make("Acrobot-v1")
q = init([6, 64, 64, 3])
q_slow = list(q)
opt = adam_init(q)

S, S2 = np.zeros((CAP, 6)), np.zeros((CAP, 6))
A, R, T = np.zeros(CAP, int), np.zeros(CAP), np.zeros(CAP, bool)
n = 0
returns = []

for ep in range(600):
    s = env.reset()[0] / SCALE
    total, stop = 0.0, False
    eps = max(0.03, 1 - ep / 120)
    while not stop:
        if rng.random() < eps:
            a = int(rng.integers(3))
        else:
            a = int(apply(q, s[None])[0].argmax())
        raw, r, term, trunc, _ = env.step(a)
        s2 = raw / SCALE
        i = n % CAP
        S[i], A[i], R[i], S2[i], T[i] = s, a, r, s2, term
        n += 1
        s = s2
        total += r
        stop = term or trunc

        if n > WARM and n % EVERY == 0:
            j = rng.integers(0, min(n, CAP), BATCH)
            pick = apply(q, S2[j]).argmax(1)
            boot = apply(q_slow, S2[j])[np.arange(BATCH), pick]
            y = R[j] + GAMMA * np.where(T[j], 0.0, boot)
            out, acts = apply(q, S[j], keep=True)
            d = out[np.arange(BATCH), A[j]] - y
            g = np.zeros_like(out)
            g[np.arange(BATCH), A[j]] = d / np.sqrt(1 + d * d) / BATCH     # pseudo-Huber
            q = adam(q, clip_norm(gradient(q, acts, g), 1.0), opt, LR)
            q_slow = blend(q_slow, q, TAU)

    returns.append(total)
    if ep % 10 == 9:
        print("%4d  last ten %.1f  steps %d  eps %.2f" % (ep + 1, np.mean(returns[-10:]), n, eps))

np.save("acrobot_q.npy", np.array([p for layer in q for p in layer], dtype=object), allow_pickle=True)
