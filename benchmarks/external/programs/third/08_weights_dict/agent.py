"""DQN in plain functions. Weights: {'w0', 'b0', 'w1', 'b1', 'w2', 'b2'}."""
from collections import deque

import numpy as np

config = dict(gamma=0.99, lr=1e-3, batch_size=64, memory=15_000, hidden=(64, 64), sync=300, warmup=300, beta=0.9, rho=0.99)


def make_weights(sizes, rng):
    w = {}
    for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:])):
        w[f"w{i}"] = rng.standard_normal((n, m)) * np.sqrt(2 / n)
        w[f"b{i}"] = np.zeros(m)
    return w


def copy_weights(w):
    return dict(w)


def q_function(w, x):
    depth = len(w) // 2
    for i in range(depth):
        x = x @ w[f"w{i}"] + w[f"b{i}"]
        if i + 1 < depth:
            x = np.maximum(x, 0.0)
    return x


def q_gradient(w, x, action, error):
    """Gradient of 0.5 * mean(error ** 2) with respect to each array of w."""
    depth = len(w) // 2
    inputs = [x]
    for i in range(depth - 1):
        inputs.append(np.maximum(inputs[-1] @ w[f"w{i}"] + w[f"b{i}"], 0.0))
    d = np.zeros((len(x), w[f"b{depth - 1}"].size))
    d[np.arange(len(x)), action] = error / len(x)
    grads = {}
    for i in range(depth - 1, -1, -1):
        grads[f"w{i}"] = inputs[i].T @ d
        grads[f"b{i}"] = d.sum(0)
        if i:
            d = d @ w[f"w{i}"].T * (inputs[i] > 0)
    return grads


def apply_gradient(w, grads, state, lr):
    state["n"] += 1
    for k, g in grads.items():
        m = state["m"].setdefault(k, np.zeros_like(g))
        s = state["s"].setdefault(k, np.zeros_like(g))
        m[:] = config["beta"] * m + (1 - config["beta"]) * g
        s[:] = config["rho"] * s + (1 - config["rho"]) * g * g
        m_hat = m / (1 - config["beta"] ** state["n"])
        s_hat = s / (1 - config["rho"] ** state["n"])
        w[k] -= lr * m_hat / (np.sqrt(s_hat) + 1e-7)


class Trainer:
    """Holds what the functions share."""

    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions = n_obs, n_actions
        self.online = make_weights([n_obs, *config["hidden"], n_actions], self.rng)
        self.target = copy_weights(self.online)
        self.opt = {"n": 0, "m": {}, "s": {}}
        self.memory = deque(maxlen=config["memory"])

    def policy(self, obs, eps):
        if self.rng.uniform() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(q_function(self.online, obs)))

    def sample(self, n):
        picks = self.rng.choice(len(self.memory), n, replace=False)
        return [np.array(c) for c in zip(*[self.memory[i] for i in picks])]

    def update(self, obs, action, reward, next_obs, terminal):
        best_next = q_function(self.target, next_obs).max(axis=1)
        y = np.where(terminal, reward, reward + config["gamma"] * best_next)
        error = q_function(self.online, obs)[np.arange(len(y)), action] - y
        grads = q_gradient(self.online, obs, action, error)
        apply_gradient(self.online, grads, self.opt, config["lr"])

    def sync(self):
        self.target = copy_weights(self.online)


def train(trainer, env, steps):
    scores, score = [], 0.0
    obs, _ = env.reset()
    for step in range(steps):
        action = trainer.policy(obs, max(0.05, 1.0 - step / 4000))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        trainer.memory.append((obs, action, reward, next_obs, terminated))
        score += reward
        obs = next_obs
        if terminated or truncated:
            scores.append(score)
            score = 0.0
            obs, _ = env.reset()
        if len(trainer.memory) >= max(config["batch_size"], min(config["warmup"], steps // 3)):
            trainer.update(*trainer.sample(config["batch_size"]))
        if step % config["sync"] == 0:
            trainer.sync()
    return scores


class Adapter:
    gamma = config["gamma"]

    def __init__(self, trainer):
        self.trainer = trainer
        self.observation_size = trainer.n_obs

    def q_values(self, obs):
        return q_function(self.trainer.online, obs)

    def target_q_values(self, obs):
        return q_function(self.trainer.target, obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.trainer.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=bool))

    def sync_target(self):
        self.trainer.sync()

    def act(self, obs, epsilon):
        return self.trainer.policy(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.trainer.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return self.trainer.sample(n)

    def run(self, env, env_steps):
        return train(self.trainer, env, env_steps)


def make(seed=0):
    return Adapter(Trainer(4, 2, seed))
