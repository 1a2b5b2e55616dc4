import gymnasium as gym
import numpy as np
import random
from collections import deque

env = gym.make('CartPole-v1')

n_in, n_hid, n_out = 4, 50, 2
lr = 0.002
gamma = 0.98
eps = 1.0
batch_size = 24
memory = deque(maxlen=8000)

W1 = np.asmatrix(np.random.randn(n_hid, n_in) * np.sqrt(2.0 / n_in))
B1 = np.asmatrix(np.zeros((n_hid, 1)))
W2 = np.asmatrix(np.random.randn(n_out, n_hid) * np.sqrt(1.0 / n_hid))
B2 = np.asmatrix(np.zeros((n_out, 1)))
T = [m.copy() for m in (W1, B1, W2, B2)]


def feed(x, w1, b1, w2, b2):
    z = w1 * x + b1
    h = np.maximum(z, 0)
    return z, h, w2 * h + b2


def learn_one(x, action, y):
    global W1, B1, W2, B2
    z, h, q = feed(x, W1, B1, W2, B2)
    err = float(q[action, 0] - y)
    err = max(-1.0, min(1.0, err))
    d_out = np.asmatrix(np.zeros((n_out, 1)))
    d_out[action, 0] = err
    d_hid = np.multiply(W2.T * d_out, z > 0)
    W2 = W2 - lr * d_out * h.T
    B2 = B2 - lr * d_out
    W1 = W1 - lr * d_hid * x.T
    B1 = B1 - lr * d_hid


counter = 0
last = deque(maxlen=50)
for episode in range(1000):
    obs, _ = env.reset()
    state = np.matrix(obs, dtype=float).T
    score = 0
    finished = False
    while not finished:
        if random.random() < eps:
            action = random.choice((0, 1))
        else:
            action = int(np.argmax(feed(state, W1, B1, W2, B2)[2]))
        obs, reward, terminated, truncated, _ = env.step(action)
        finished = terminated or truncated
        next_state = np.matrix(obs, dtype=float).T
        memory.append([state, action, reward, next_state, terminated])
        state[:] = next_state
        score += reward
        counter += 1

        if len(memory) > 400 and counter % 2 == 0:
            for x, a, r, x2, end in random.sample(memory, batch_size):
                y = r
                if not end:
                    y += gamma * float(feed(x2, *T)[2].max())
                learn_one(x, a, y)
        if counter % 400 == 0:
            T = [m.copy() for m in (W1, B1, W2, B2)]
    eps = max(0.02, eps * 0.99)
    last.append(score)
    if episode % 10 == 0:
        print('episode', episode, 'mean of last 50:', sum(last) / len(last), 'eps', round(eps, 2))
