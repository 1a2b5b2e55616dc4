# CartPole, numpy only. Functions + globals, no classes.
import math
import gymnasium as gym
import numpy as np

rng = np.random.RandomState(2024)

H = 128
GAMMA = 0.98
LR = 7e-4
TAU = 0.01                # slow copy, every update
BATCH = 64
CAP = 30000
WARMUP = 500
R_SCALE = 0.1
NUM_EPISODES = 450
RHO = 0.99

env = gym.make("CartPole-v1")
D = env.observation_space.shape[0]
A = env.action_space.n


def ortho(n, m, gain):
    u, _, vt = np.linalg.svd(rng.standard_normal((n, m)), full_matrices=False)
    return gain * (u @ vt)


# bias is folded in: every weight matrix has one row more
def aug(x):
    return np.hstack([x, np.ones((x.shape[0], 1))])


Ws = [np.vstack([ortho(D, H, math.sqrt(2)), np.zeros((1, H))]),
      np.vstack([ortho(H, H, math.sqrt(2)), np.zeros((1, H))]),
      np.vstack([ortho(H, A, 0.1), np.zeros((1, A))])]
Ts = [w.copy() for w in Ws]
G2 = [np.zeros_like(w) for w in Ws]
MOM = [np.zeros_like(w) for w in Ws]

# replay: one flat float array  [s | a | r | s' | alive]
RB = np.empty((CAP, 2 * D + 3))
rb_n = 0


def leaky(z):
    return np.where(z > 0, z, 0.01 * z)


def net(ws, x, keep=None):
    for k, w in enumerate(ws):
        xa = aug(x)
        z = xa @ w
        if keep is not None:
            keep.append((xa, z))
        x = leaky(z) if k < len(ws) - 1 else z
    return x


def grads(ws, tape, d):
    out = [None] * len(ws)
    for k in reversed(range(len(ws))):
        xa, z = tape[k]
        if k < len(ws) - 1:
            d = d * np.where(z > 0, 1.0, 0.01)
        out[k] = xa.T @ d
        d = d @ ws[k][:-1].T
    return out


def remember(s, a, r, s2, alive):
    global rb_n
    RB[rb_n % CAP] = np.concatenate([s, [a, r], s2, [alive]])
    rb_n += 1


def policy(s, eps):
    if rng.rand() < eps:
        return rng.randint(A)
    return int(net(Ws, s[None])[0].argmax())


def train_once():
    rows = RB[rng.randint(0, min(rb_n, CAP), BATCH)]
    s, a, r = rows[:, :D], rows[:, D].astype(int), rows[:, D + 1]
    s2, alive = rows[:, D + 2:2 * D + 2], rows[:, -1]

    best = net(Ws, s2).argmax(1)
    q2 = net(Ts, s2)[np.arange(BATCH), best]
    y = r + GAMMA * alive * q2

    tape = []
    q = net(Ws, s, tape)
    e = q[np.arange(BATCH), a] - y
    d = np.zeros((BATCH, A))
    d[np.arange(BATCH), a] = e / np.sqrt(1 + e * e) / BATCH      # pseudo-Huber
    gs = grads(Ws, tape, d)
    norm = math.sqrt(sum((g * g).sum() for g in gs))
    shrink = min(1.0, 5.0 / (norm + 1e-12))
    for w, g, v, m in zip(Ws, gs, G2, MOM):
        g = g * shrink
        v[:] = RHO * v + (1 - RHO) * g * g
        m[:] = 0.5 * m + g / (np.sqrt(v) + 1e-4)
        w -= 0.5 * LR * m
    for t, w in zip(Ts, Ws):
        t += TAU * (w - t)
    return float(np.mean(np.sqrt(1 + e * e) - 1))


lengths = []
for ep in range(NUM_EPISODES):
    eps = 0.02 + 0.98 * math.exp(-ep / 50)
    s = env.reset(seed=int(rng.randint(1 << 30)))[0]
    n, end, cost = 0, False, 0.0
    while not end:
        a = policy(s, eps)
        s2, r, dead, timeup, _ = env.step(a)
        remember(s, a, r * R_SCALE, s2, 0.0 if dead else 1.0)
        s = s2
        n += 1
        end = dead or timeup
        if rb_n > WARMUP:
            cost = train_once()
    lengths.append(n)
    if ep % 25 == 24:
        print("%4d  len %5.1f  eps %.2f  cost %.5f" % (ep + 1, np.mean(lengths[-25:]), eps, cost))
    if len(lengths) > 50 and np.mean(lengths[-50:]) > 470:
        print("good enough after", ep + 1, "episodes")
        break

np.savez("cartpole_weights.npz", *Ws)
