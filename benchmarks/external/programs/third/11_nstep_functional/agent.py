"""Three-step DQN. The replay memory holds n-step transitions; the weights are a dict."""
from collections import deque

import numpy as np

N_STEP = 3
GAMMA = 0.98
LEARNING_RATE = 1e-3
MEMORY_SIZE = 10_000


def init(rng, n_obs, n_actions, width=96):
    return {
        "W1": rng.normal(0, np.sqrt(2 / n_obs), (n_obs, width)),
        "b1": np.zeros(width),
        "W2": rng.normal(0, np.sqrt(1 / width), (width, n_actions)),
        "b2": np.zeros(n_actions),
    }


def elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def predict(w, x):
    return elu(x @ w["W1"] + w["b1"]) @ w["W2"] + w["b2"]


def gradients(w, x, a, y):
    z = x @ w["W1"] + w["b1"]
    h = elu(z)
    q = h @ w["W2"] + w["b2"]
    n = len(a)
    dq = np.zeros_like(q)
    dq[np.arange(n), a] = (q[np.arange(n), a] - y) / n
    dz = dq @ w["W2"].T * np.where(z > 0, 1.0, h + 1.0)
    return {"W1": x.T @ dz, "b1": dz.sum(0), "W2": h.T @ dq, "b2": dq.sum(0)}


def adam(w, g, m, v, t, lr=LEARNING_RATE):
    for k in w:
        m[k] = 0.9 * m[k] + 0.1 * g[k]
        v[k] = 0.999 * v[k] + 0.001 * np.square(g[k])
        w[k] = w[k] - lr * (m[k] / (1 - 0.9 ** t)) / (np.sqrt(v[k] / (1 - 0.999 ** t)) + 1e-8)


class Learner:
    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions = n_obs, n_actions
        self.w = init(self.rng, n_obs, n_actions)
        self.w_target = {k: a.copy() for k, a in self.w.items()}
        self.m = {k: np.zeros_like(a) for k, a in self.w.items()}
        self.v = {k: np.zeros_like(a) for k, a in self.w.items()}
        self.t = 0
        self.memory = deque(maxlen=MEMORY_SIZE)
        self.window = deque()

    def act(self, obs, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(predict(self.w, obs[None]).argmax())

    def observe(self, obs, action, reward, next_obs, terminated, truncated):
        """Add one step; emit every n-step transition that is complete."""
        self.window.append((obs, action, reward))
        if terminated:
            while self.window:
                self.emit(next_obs, True)
        elif len(self.window) == N_STEP:
            self.emit(next_obs, False)
        if truncated:
            self.window.clear()

    def emit(self, next_obs, terminated):
        total = sum(GAMMA ** k * r for k, (_, _, r) in enumerate(self.window))
        obs, action, _ = self.window.popleft()
        self.memory.append((obs, action, total, next_obs, terminated))

    def sample(self, n):
        rows = [self.memory[i] for i in self.rng.integers(len(self.memory), size=n)]
        return [np.array(c) for c in zip(*rows)]

    def update(self, obs, action, returns, last_obs, terminated):
        y = returns + GAMMA ** N_STEP * ~terminated * predict(self.w_target, last_obs).max(axis=1)
        self.t += 1
        adam(self.w, gradients(self.w, obs, action, y), self.m, self.v, self.t)
        if self.t % 200 == 0:
            self.sync()

    def sync(self):
        self.w_target = {k: a.copy() for k, a in self.w.items()}

    def train(self, env, steps, batch_size=64):
        scores, score = [], 0.0
        obs, _ = env.reset()
        for step in range(steps):
            action = self.act(obs, max(0.04, 1 - step / 4000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.observe(obs, action, reward, next_obs, terminated, truncated)
            obs = next_obs
            score += reward
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
            if len(self.memory) >= batch_size:
                self.update(*self.sample(batch_size))
        return scores


class Adapter:
    gamma = GAMMA
    n_step = N_STEP

    def __init__(self, learner):
        self.learner = learner
        self.observation_size = learner.n_obs

    def q_values(self, obs):
        return predict(self.learner.w, obs)

    def target_q_values(self, obs):
        return predict(self.learner.w_target, obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=bool))

    def sync_target(self):
        self.learner.sync()

    def act(self, obs, epsilon):
        return self.learner.act(obs, epsilon)

    def parameters(self):
        return self.learner.w

    def target_parameters(self):
        return self.learner.w_target

    def run(self, env, env_steps):
        return self.learner.train(env, env_steps)


def make(seed=0):
    return Adapter(Learner(4, 2, seed))
