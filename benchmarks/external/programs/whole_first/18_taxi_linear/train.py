"""
Taxi with linear Q-values over one-hot states (one weight vector per action),
experience replay and a slow copy of the weights.
"""
import random
import sys

import gymnasium as gym
import numpy as np

EPISODES = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
GAMMA = 0.95
ALPHA = 0.4
BATCH = 32
CAPACITY = 20000
COPY_EVERY = 500

env = gym.make("Taxi-v4")
N = env.observation_space.n
A = env.action_space.n
I = np.identity(N)

w = np.zeros((N, A))
w_slow = w.copy()
store = []
where = 0


def q_values(weights, s):
    return I[s] @ weights


def keep(t):
    global where
    if len(store) < CAPACITY:
        store.append(t)
    else:
        store[where] = t
        where = (where + 1) % CAPACITY


def replay():
    global w
    s, a, r, s2, end = map(np.array, zip(*random.sample(store, BATCH)))
    future = q_values(w_slow, s2).max(axis=1)
    future[end] = 0.0
    target = GAMMA * (r + future)
    phi = I[s]
    delta = target - (phi @ w)[np.arange(BATCH), a]
    err = np.zeros((BATCH, A))
    err[np.arange(BATCH), a] = delta
    w += ALPHA * phi.T @ err
    return float((delta ** 2).mean())


eps = 1.0
n = 0
scores = []
for ep in range(EPISODES):
    s, _ = env.reset()
    G = 0
    while True:
        a = random.randrange(A) if random.random() < eps else int(np.argmax(q_values(w, s)))
        s2, r, terminated, truncated, _ = env.step(a)
        keep((s, a, r, s2, terminated))
        G += r
        s = s2
        n += 1
        if n > 1000:
            loss = replay()
        if n % COPY_EVERY == 0:
            w_slow = w.copy()
        if terminated or truncated:
            break
    eps = max(0.05, eps * 0.997)
    scores.append(G)
    if (ep + 1) % 100 == 0:
        print("episode %d  mean score %.1f  eps %.2f  steps %d" % (ep + 1, np.mean(scores[-100:]), eps, n))

np.savetxt("taxi_weights.txt", w)
