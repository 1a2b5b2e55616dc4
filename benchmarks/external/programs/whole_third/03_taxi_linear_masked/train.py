# Linear Q-function on one-hot states for Taxi-v4.
# Q(s, a) = phi(s) . W[:, a] with phi = one-hot, trained from a small replay memory.
# Uses info["action_mask"] so that the taxi does not drive into walls.
import time

import gymnasium as gym
import numpy as np

SEED = 11
EPISODES = 2000
GAMMA = 0.98
ALPHA = 0.25
BATCH = 16
CAPACITY = 20000
EPS0, EPS1, EPS_EPISODES = 1.0, 0.01, 1200

rng = np.random.default_rng(SEED)
env = gym.make("Taxi-v4")
nS, nA = env.observation_space.n, env.action_space.n

W = np.zeros((nS, nA))


def phi(states):
    x = np.zeros((len(states), nS))
    x[np.arange(len(states)), states] = 1.0
    return x


def q_values(states):
    return phi(states) @ W


def masked_max(q, mask):
    return np.where(mask, q, -np.inf).max(axis=1)


def pick(state, mask, eps):
    allowed = np.flatnonzero(mask)
    if rng.random() < eps:
        return int(rng.choice(allowed))
    q = q_values([state])[0]
    q = np.where(mask, q, -np.inf)
    best = np.flatnonzero(q == q.max())
    return int(rng.choice(best))


class Ring:
    def __init__(self, n):
        self.s = np.zeros(n, dtype=np.int64)
        self.a = np.zeros(n, dtype=np.int64)
        self.r = np.zeros(n, dtype=np.float64)
        self.s2 = np.zeros(n, dtype=np.int64)
        self.end = np.zeros(n, dtype=bool)
        self.mask2 = np.zeros((n, nA), dtype=bool)
        self.n, self.i, self.full = n, 0, False

    def put(self, s, a, r, s2, end, mask2):
        i = self.i
        self.s[i], self.a[i], self.r[i], self.s2[i], self.end[i] = s, a, r, s2, end
        self.mask2[i] = mask2
        self.i += 1
        if self.i == self.n:
            self.i, self.full = 0, True

    def size(self):
        return self.n if self.full else self.i

    def draw(self, k):
        j = rng.choice(self.size(), size=k, replace=False)
        return self.s[j], self.a[j], self.r[j], self.s2[j], self.end[j], self.mask2[j]


def learn(ring):
    s, a, r, s2, end, mask2 = ring.draw(BATCH)
    nxt = masked_max(q_values(s2), mask2)
    target = np.where(end, r, r + GAMMA * nxt)
    x = phi(s)
    delta = target - (x @ W)[np.arange(BATCH), a]
    # semi-gradient: one outer product per sample, summed over the batch
    G = np.zeros((BATCH, nA))
    G[np.arange(BATCH), a] = delta
    W[...] += ALPHA * (x.T @ G)
    return np.abs(delta).mean()


ring = Ring(CAPACITY)
history = []
t0 = time.time()
for ep in range(EPISODES):
    eps = max(EPS1, EPS0 - (EPS0 - EPS1) * ep / EPS_EPISODES)
    state, info = env.reset(seed=SEED if ep == 0 else None)
    mask = info["action_mask"].astype(bool)
    total, errs = 0, []
    while True:
        action = pick(state, mask, eps)
        nstate, reward, terminated, truncated, info = env.step(action)
        nmask = info["action_mask"].astype(bool)
        ring.put(state, action, reward, nstate, terminated, nmask)
        if ring.size() >= 500:
            errs.append(learn(ring))
        total += reward
        state, mask = nstate, nmask
        if terminated or truncated:
            break
    history.append(total)
    if (ep + 1) % 100 == 0:
        print(f"{ep + 1:5d}  reward {np.mean(history[-100:]):8.2f}  |td| {np.mean(errs) if errs else 0:.3f}"
              f"  eps {eps:.2f}  {time.time() - t0:.0f}s")

np.save("taxi_W.npy", W)
np.savetxt("taxi_rewards.csv", np.array(history), fmt="%d")

# greedy test
scores = []
for k in range(50):
    state, info = env.reset(seed=5000 + k)
    tot = 0
    while True:
        state, reward, terminated, truncated, info = env.step(pick(state, info["action_mask"].astype(bool), 0.0))
        tot += reward
        if terminated or truncated:
            break
    scores.append(tot)
print("greedy test reward:", np.mean(scores))
env.close()
