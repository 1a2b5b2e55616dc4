# DQN on the cart pole with nothing but numpy
import gymnasium as gym
import numpy as np
import random

GAMMA = 0.99
LR = 0.001
BATCH_SIZE = 32
MEMORY = []
MEMORY_MAX = 10000
HIDDEN = 48
EPISODES = 800

env = gym.make("CartPole-v1")
n_obs = env.observation_space.shape[0]
n_act = env.action_space.n

adam_m, adam_v, adam_t = {}, {}, 0


def init_weights():
    return {
        "W1": np.random.randn(n_obs, HIDDEN) / np.sqrt(n_obs),
        "b1": np.zeros(HIDDEN),
        "W2": np.random.randn(HIDDEN, HIDDEN) / np.sqrt(HIDDEN),
        "b2": np.zeros(HIDDEN),
        "W3": np.random.randn(HIDDEN, n_act) / np.sqrt(HIDDEN),
        "b3": np.zeros(n_act),
    }


def forward(w, x):
    h1 = np.tanh(x @ w["W1"] + w["b1"])
    h2 = np.tanh(h1 @ w["W2"] + w["b2"])
    return h1, h2, h2 @ w["W3"] + w["b3"]


def gradients(w, x, h1, h2, dq):
    g = {}
    g["W3"], g["b3"] = h2.T @ dq, dq.sum(0)
    d2 = (dq @ w["W3"].T) * (1 - h2 ** 2)
    g["W2"], g["b2"] = h1.T @ d2, d2.sum(0)
    d1 = (d2 @ w["W2"].T) * (1 - h1 ** 2)
    g["W1"], g["b1"] = x.T @ d1, d1.sum(0)
    return g


def adam(w, g):
    global adam_t
    adam_t += 1
    for k in w:
        adam_m[k] = 0.9 * adam_m.get(k, 0) + 0.1 * g[k]
        adam_v[k] = 0.999 * adam_v.get(k, 0) + 0.001 * g[k] ** 2
        w[k] -= LR * (adam_m[k] / (1 - 0.9 ** adam_t)) / (np.sqrt(adam_v[k] / (1 - 0.999 ** adam_t)) + 1e-8)


def remember(item):
    MEMORY.append(item)
    if len(MEMORY) > MEMORY_MAX:
        MEMORY.pop(0)


def train_on_batch(w, wt):
    batch = random.sample(MEMORY, BATCH_SIZE)
    s, a, r, s2, d = map(np.array, zip(*batch))
    h1, h2, q = forward(w, s)
    best_next = np.max(forward(wt, s2)[2])
    y = r + GAMMA * best_next * (1 - d)
    dq = np.zeros_like(q)
    rows = np.arange(BATCH_SIZE)
    dq[rows, a] = (q[rows, a] - y) / BATCH_SIZE
    adam(w, gradients(w, s, h1, h2, dq))
    return np.mean((q[rows, a] - y) ** 2)


weights = init_weights()
target_weights = {k: v.copy() for k, v in weights.items()}
epsilon = 1.0
total_steps = 0
rewards_log = []

for episode in range(EPISODES):
    obs, _ = env.reset()
    ep_reward, losses = 0, []
    while True:
        if np.random.rand() < epsilon:
            action = env.action_space.sample()
        else:
            action = int(np.argmax(forward(weights, obs[None])[2]))
        obs2, reward, terminated, truncated, _ = env.step(action)
        remember((obs, action, reward, obs2, float(terminated)))
        obs = obs2
        ep_reward += reward
        total_steps += 1
        if len(MEMORY) >= 1000:
            losses.append(train_on_batch(weights, target_weights))
        if total_steps % 500 == 0:
            target_weights = {k: v.copy() for k, v in weights.items()}
        if terminated or truncated:
            break
    epsilon = max(0.01, epsilon * 0.99)
    rewards_log.append(ep_reward)
    if episode % 20 == 0:
        print(episode, "mean reward", np.mean(rewards_log[-20:]), "loss", np.mean(losses) if losses else None)

np.savez("cartpole_weights.npz", **weights)
