import numpy as np
import gymnasium as gym
import random
import pickle

# hyper parameters
H = 48
GAMMA = 0.98
LR = 1e-3
BATCH = 32
MEM = 10000
EPISODES = 1000
SYNC = 300
EPS, EPS_MIN, EPS_DECAY = 1.0, 0.02, 0.99

env = gym.make('CartPole-v1')
nS = env.observation_space.shape[0]
nA = env.action_space.n

params = {
    'W1': np.random.randn(nS, H) * np.sqrt(2.0 / nS),
    'b1': np.zeros(H),
    'W2': np.random.randn(H, H) * np.sqrt(2.0 / H),
    'b2': np.zeros(H),
    'W3': np.random.randn(H, nA) * np.sqrt(1.0 / H),
    'b3': np.zeros(nA),
}
target_params = {k: v.copy() for k, v in params.items()}
cache = {k: np.zeros_like(v) for k, v in params.items()}   # rmsprop
memory = []
mem_pos = 0


def forward(p, x):
    h1 = x @ p['W1'] + p['b1']
    a1 = np.maximum(h1, 0)
    h2 = a1 @ p['W2'] + p['b2']
    a2 = np.maximum(h2, 0)
    q = a2 @ p['W3'] + p['b3']
    return q, (x, a1, a2)


def backward(p, saved, dq):
    x, a1, a2 = saved
    g = {}
    g['W3'] = a2.T @ dq
    g['b3'] = dq.sum(0)
    d2 = dq @ p['W3'].T
    d2[a2 <= 0] = 0
    g['W2'] = a1.T @ d2
    g['b2'] = d2.sum(0)
    d1 = d2 @ p['W2'].T
    d1[a1 <= 0] = 0
    g['W1'] = x.T @ d1
    g['b1'] = d1.sum(0)
    return g


def rmsprop(g):
    for k in params:
        cache[k] = 0.95 * cache[k] + 0.05 * g[k] ** 2
        params[k] -= LR * g[k] / (np.sqrt(cache[k]) + 1e-5)


def sync_target():
    global target_params
    target_params = dict(params)


def store(item):
    global mem_pos
    if len(memory) < MEM:
        memory.append(item)
    else:
        memory[mem_pos] = item
        mem_pos = (mem_pos + 1) % MEM


def train_batch():
    batch = random.sample(memory, BATCH)
    s = np.array([b[0] for b in batch])
    a = np.array([b[1] for b in batch])
    r = np.array([b[2] for b in batch])
    s2 = np.array([b[3] for b in batch])
    d = np.array([b[4] for b in batch], dtype=float)
    q2, _ = forward(target_params, s2)
    y = r + GAMMA * q2.max(axis=1) * (1 - d)
    q, saved = forward(params, s)
    dq = np.zeros_like(q)
    err = q[np.arange(BATCH), a] - y
    dq[np.arange(BATCH), a] = np.clip(err, -1, 1) / BATCH
    rmsprop(backward(params, saved, dq))
    return np.mean(err ** 2)


step = 0
rewards_all = []
for ep in range(EPISODES):
    s, _ = env.reset()
    ep_r = 0
    done = False
    while not done:
        if np.random.rand() < EPS:
            a = env.action_space.sample()
        else:
            q, _ = forward(params, s[np.newaxis])
            a = int(q[0].argmax())
        s2, r, term, trunc, _ = env.step(a)
        done = term or trunc
        store((s, a, r, s2, term))
        s = s2
        ep_r += r
        step += 1
        if len(memory) >= 500:
            loss = train_batch()
            if step % SYNC == 0:
                sync_target()
    EPS = max(EPS_MIN, EPS * EPS_DECAY)
    rewards_all.append(ep_r)
    if ep % 20 == 0:
        print('episode', ep, 'reward', ep_r, 'mean', np.mean(rewards_all[-50:]), 'eps', round(EPS, 3))

with open('params.pkl', 'wb') as f:
    pickle.dump(params, f)
print('best mean over 50:', max(np.mean(rewards_all[i:i + 50]) for i in range(len(rewards_all) - 50)))
