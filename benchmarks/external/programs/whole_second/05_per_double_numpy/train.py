import numpy as np
import gymnasium as gym

# prioritized double DQN, plain numpy, SGD with Nesterov-free momentum
np.random.seed(0)
env = gym.make('CartPole-v1')
D, A, H = 4, 2, 64
CAP = 20000
ALPHA, BETA0 = 0.6, 0.4
GAMMA, LR, MOM = 0.99, 0.002, 0.9
TOTAL_STEPS = 80000

W = [np.random.randn(D, H) * np.sqrt(2 / D), np.zeros(H),
     np.random.randn(H, H) * np.sqrt(2 / H), np.zeros(H),
     np.random.randn(H, A) * 0.01, np.zeros(A)]
WT = [p.copy() for p in W]
VEL = [np.zeros_like(p) for p in W]

S = np.zeros((CAP, D)); S2 = np.zeros((CAP, D))
ACT = np.zeros(CAP, int); REW = np.zeros(CAP); TERM = np.zeros(CAP)
PRIO = np.zeros(CAP)
ptr, filled = 0, 0


def q_values(w, x, cache=False):
    z1 = x @ w[0] + w[1]; h1 = np.maximum(z1, 0)
    z2 = h1 @ w[2] + w[3]; h2 = np.maximum(z2, 0)
    out = h2 @ w[4] + w[5]
    return (out, (x, z1, h1, z2, h2)) if cache else out


def backprop(w, cache, g):
    x, z1, h1, z2, h2 = cache
    gW3, gb3 = h2.T @ g, g.sum(0)
    g = (g @ w[4].T) * (z2 > 0)
    gW2, gb2 = h1.T @ g, g.sum(0)
    g = (g @ w[2].T) * (z1 > 0)
    return [x.T @ g, g.sum(0), gW2, gb2, gW3, gb3]


def push(s, a, r, s2, term):
    global ptr, filled
    S[ptr], ACT[ptr], REW[ptr], S2[ptr], TERM[ptr] = s, a, r, s2, term
    PRIO[ptr] = PRIO[:filled].max() if filled else 1.0
    ptr = (ptr + 1) % CAP
    filled = min(filled + 1, CAP)


def learn(beta, n=32):
    p = PRIO[:filled] ** ALPHA
    p /= p.sum()
    idx = np.random.choice(filled, n, p=p)
    w_is = (filled * p[idx]) ** (-beta)
    w_is /= w_is.max()

    a_star = q_values(W, S2[idx]).argmax(1)
    nxt = q_values(WT, S2[idx])[np.arange(n), a_star]
    y = REW[idx] + GAMMA * (1 - TERM[idx]) * nxt

    q, cache = q_values(W, S[idx], cache=True)
    delta = q[np.arange(n), ACT[idx]] - y
    g = np.zeros_like(q)
    g[np.arange(n), ACT[idx]] = w_is * np.clip(delta, -1, 1) / n
    for i, grad in enumerate(backprop(W, cache, g)):
        VEL[i] = MOM * VEL[i] - LR * grad
        W[i] += VEL[i]
    PRIO[idx] = np.abs(delta) + 1e-3


obs, _ = env.reset(seed=0)
ret, returns = 0.0, []
for step in range(1, TOTAL_STEPS + 1):
    eps = 0.02 + 0.98 * np.exp(-step / 6000)
    a = np.random.randint(A) if np.random.rand() < eps else int(q_values(W, obs[None])[0].argmax())
    obs2, r, term, trunc, _ = env.step(a)
    push(obs, a, r, obs2, term)
    ret += r
    obs = obs2
    if term or trunc:
        returns.append(ret)
        ret = 0.0
        obs, _ = env.reset()
    if step > 1000:
        learn(beta=min(1.0, BETA0 + (1 - BETA0) * step / TOTAL_STEPS))
    if step % 400 == 0:
        WT[:] = [p.copy() for p in W]
    if step % 2000 == 0:
        print('step', step, 'eps %.3f' % eps, 'last20 %.1f' % np.mean(returns[-20:]))
