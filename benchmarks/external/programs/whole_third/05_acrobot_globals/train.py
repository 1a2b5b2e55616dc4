"""Acrobot-v1 with Q-learning and a small network written in plain numpy."""
import collections
import random
import numpy as np
import gymnasium as gym

env = gym.make('Acrobot-v1')
n_states = env.observation_space.shape[0]
n_actions = env.action_space.n

# ---- settings -------------------------------------------------------------
n_episodes = 400
hidden = 100
gamma = 0.99
lr = 0.0005
batch_size = 64
memory_size = 50000
min_memory = 2000
copy_every = 500
eps, eps_end, eps_step = 1.0, 0.05, 2e-5
scale = np.array([1., 1., 1., 1., 4 * np.pi, 9 * np.pi])

random.seed(0)
np.random.seed(0)

memory = collections.deque(maxlen=memory_size)


def init_weights():
    return {
        'W1': np.random.randn(n_states, hidden) * np.sqrt(2 / n_states),
        'b1': np.zeros((1, hidden)),
        'W2': np.random.randn(hidden, hidden) * np.sqrt(2 / hidden),
        'b2': np.zeros((1, hidden)),
        'W3': np.random.randn(hidden, n_actions) * np.sqrt(1 / hidden),
        'b3': np.zeros((1, n_actions)),
    }


theta = init_weights()
theta_old = {k: v.copy() for k, v in theta.items()}
adam_m = {k: np.zeros_like(v) for k, v in theta.items()}
adam_v = {k: np.zeros_like(v) for k, v in theta.items()}
adam_t = 0


def forward(w, x):
    h1 = x.dot(w['W1']) + w['b1']
    h1[h1 < 0] = 0
    h2 = h1.dot(w['W2']) + w['b2']
    h2[h2 < 0] = 0
    return h2.dot(w['W3']) + w['b3'], h1, h2


def backward(w, x, h1, h2, dq):
    g = {}
    g['W3'] = h2.T.dot(dq)
    g['b3'] = dq.sum(0, keepdims=True)
    d2 = dq.dot(w['W3'].T)
    d2[h2 <= 0] = 0
    g['W2'] = h1.T.dot(d2)
    g['b2'] = d2.sum(0, keepdims=True)
    d1 = d2.dot(w['W2'].T)
    d1[h1 <= 0] = 0
    g['W1'] = x.T.dot(d1)
    g['b1'] = d1.sum(0, keepdims=True)
    return g


def adam_update(g):
    global adam_t
    adam_t += 1
    for k in theta:
        adam_m[k] = 0.9 * adam_m[k] + 0.1 * g[k]
        adam_v[k] = 0.999 * adam_v[k] + 0.001 * g[k] ** 2
        mh = adam_m[k] / (1 - 0.9 ** adam_t)
        vh = adam_v[k] / (1 - 0.999 ** adam_t)
        theta[k] -= lr * mh / (np.sqrt(vh) + 1e-8)


def select_action(s):
    if np.random.uniform() < eps:
        return np.random.randint(0, n_actions - 1)
    q, _, _ = forward(theta, s.reshape(1, -1))
    return int(np.argmax(q))


def learn():
    batch = random.sample(memory, batch_size)
    S = np.array([b[0] for b in batch])
    A = np.array([b[1] for b in batch])
    R = np.array([b[2] for b in batch])
    S2 = np.array([b[3] for b in batch])
    T = np.array([b[4] for b in batch])

    q2, _, _ = forward(theta_old, S2)
    y = R + gamma * q2.max(axis=1) * np.logical_not(T)

    q, h1, h2 = forward(theta, S)
    dq = np.zeros_like(q)
    dq[range(batch_size), A] = (q[range(batch_size), A] - y) / batch_size
    adam_update(backward(theta, S, h1, h2, dq))


steps = 0
all_rewards = []
for episode in range(n_episodes):
    s, info = env.reset()
    s = s / scale
    total = 0
    while True:
        a = select_action(s)
        s2, r, terminated, truncated, info = env.step(a)
        s2 = s2 / scale
        memory.append((s, a, r, s2, terminated))
        s = s2
        total += r
        steps += 1
        eps = max(eps_end, eps - eps_step)

        if len(memory) >= min_memory:
            learn()
            if steps % copy_every == 0:
                theta_old = {k: v.copy() for k, v in theta.items()}
        if terminated or truncated:
            break
    all_rewards.append(total)
    print('episode', episode, 'reward', total, 'last 20:', round(np.mean(all_rewards[-20:]), 1), 'eps', round(eps, 3))

np.savez('acrobot_weights.npz', **theta)
env.close()
