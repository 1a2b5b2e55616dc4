import random
from types import SimpleNamespace

import numpy as np

# settings
STATE_SIZE = 4
ACTIONS = 2
HIDDEN = 64
GAMMA = 0.99
LR = 0.001
BATCH = 32
MEMORY = 10000
SYNC = 200
SCALE = np.array([2.4, 3.0, 0.21, 3.0])  # typical magnitude of each input


def setup(seed):
    """Everything that used to be a global variable of the script."""
    random.seed(seed)
    np.random.seed(seed)
    g = SimpleNamespace()
    g.net = {
        "w1": np.random.randn(STATE_SIZE, HIDDEN) * np.sqrt(2 / STATE_SIZE),
        "b1": np.zeros(HIDDEN),
        "w2": np.random.randn(HIDDEN, ACTIONS) * np.sqrt(2 / HIDDEN),
        "b2": np.zeros(ACTIONS),
    }
    g.target = {k: v.copy() for k, v in g.net.items()}
    g.m = {k: np.zeros_like(v) for k, v in g.net.items()}
    g.v = {k: np.zeros_like(v) for k, v in g.net.items()}
    g.updates = 0
    g.memory = []
    g.frame = 0
    return g


def preprocess(obs):
    return np.asarray(obs, dtype=float) / SCALE


def q(net, x):
    return np.maximum(x @ net["w1"] + net["b1"], 0) @ net["w2"] + net["b2"]


def act(g, obs, eps):
    if random.random() < eps:
        return random.randrange(ACTIONS)
    return int(np.argmax(q(g.net, preprocess(obs))))


def remember(g, *transition):
    g.memory.append(transition)
    if len(g.memory) > MEMORY:
        g.memory.pop(0)


def sample(g, n):
    return [np.array(c) for c in zip(*random.sample(g.memory, n))]


def adam(g, grads):
    g.updates += 1
    for k, grad in grads.items():
        g.m[k] += 0.1 * (grad - g.m[k])
        g.v[k] += 0.001 * (grad**2 - g.v[k])
        step = (g.m[k] / (1 - 0.9**g.updates)) / (np.sqrt(g.v[k] / (1 - 0.999**g.updates)) + 1e-8)
        g.net[k] -= LR * step


def learn(g, obs, action, reward, next_obs, done):
    n = len(obs)
    x = preprocess(obs)
    next_value = q(g.target, next_obs).max(axis=1)
    y = reward + GAMMA * next_value * (1 - np.asarray(done, dtype=float))
    hidden = np.maximum(x @ g.net["w1"] + g.net["b1"], 0)
    out = hidden @ g.net["w2"] + g.net["b2"]
    d_out = np.zeros_like(out)
    d_out[np.arange(n), action] = np.clip(out[np.arange(n), action] - y, -1, 1) / n
    d_hidden = (d_out @ g.net["w2"].T) * (hidden > 0)
    adam(g, {"w1": x.T @ d_hidden, "b1": d_hidden.sum(0), "w2": hidden.T @ d_out, "b2": d_out.sum(0)})


def sync(g):
    g.target = {k: v.copy() for k, v in g.net.items()}


def train(g, env, steps):
    obs, _ = env.reset()
    for _ in range(steps):
        action = act(g, obs, max(0.05, 1 - g.frame / 4000))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        remember(g, obs, action, reward, next_obs, terminated)
        g.frame += 1
        if len(g.memory) > 3 * BATCH:
            learn(g, *sample(g, BATCH))
        if g.frame % SYNC == 0:
            sync(g)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()


class Adapter:
    gamma = GAMMA
    observation_size = STATE_SIZE

    def __init__(self, g):
        self.g = g

    def q_values(self, obs):
        return q(self.g.net, preprocess(obs))

    def target_q_values(self, obs):
        return q(self.g.target, preprocess(obs))

    def sync_target(self):
        sync(self.g)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        learn(self.g, obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return act(self.g, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        remember(self.g, obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated))

    def sample(self, n):
        return sample(self.g, n)

    def run(self, env, env_steps):
        train(self.g, env, env_steps)


def make(seed=0):
    return Adapter(setup(seed))
