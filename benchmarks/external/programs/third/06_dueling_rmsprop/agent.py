"""Dueling DQN with hand-written gradients, RMSProp and gradient norm clipping."""
import numpy as np


class DuelingAgent:
    hidden = 64

    def __init__(self, obs_dim, n_actions, seed=0, gamma=0.99, lr=7e-4, max_norm=10.0, memory_size=10_000):
        self.rng = np.random.default_rng(seed)
        self.obs_dim, self.n_actions, self.gamma = obs_dim, n_actions, gamma
        self.lr, self.max_norm = lr, max_norm
        h = self.hidden
        he = lambda i, o: self.rng.standard_normal((i, o)) * np.sqrt(2.0 / i)
        self.params = {
            "W": he(obs_dim, h), "b": np.zeros(h),
            "Wh": he(h, h), "bh": np.zeros(h),
            "Wv": he(h, 1) * 0.5, "bv": np.zeros(1),
            "Wa": he(h, n_actions) * 0.5, "ba": np.zeros(n_actions),
        }
        self.square_avg = {k: np.zeros_like(v) for k, v in self.params.items()}
        self.memory_size = memory_size
        self.mem = {
            "obs": np.zeros((memory_size, obs_dim)),
            "act": np.zeros(memory_size, dtype=int),
            "rew": np.zeros(memory_size),
            "nxt": np.zeros((memory_size, obs_dim)),
            "term": np.zeros(memory_size, dtype=bool),
        }
        self.count = 0
        self.n_updates = 0
        self.sync()

    def sync(self):
        self.target = {k: v.copy() for k, v in self.params.items()}

    def q(self, x, p=None, keep=False):
        p = self.params if p is None else p
        z1 = np.maximum(x @ p["W"] + p["b"], 0)
        z2 = np.maximum(z1 @ p["Wh"] + p["bh"], 0)
        value = z2 @ p["Wv"] + p["bv"]
        adv = z2 @ p["Wa"] + p["ba"]
        out = value + adv - adv.mean(axis=1, keepdims=True)
        return (out, z1, z2) if keep else out

    def act(self, obs, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(0, self.n_actions))
        return int(np.argmax(self.q(obs[np.newaxis])[0]))

    def store(self, obs, act, rew, nxt, term):
        i = self.count % self.memory_size
        for key, value in zip(("obs", "act", "rew", "nxt", "term"), (obs, act, rew, nxt, term)):
            self.mem[key][i] = value
        self.count += 1

    def sample(self, n):
        i = self.rng.integers(0, min(self.count, self.memory_size), n)
        return tuple(self.mem[k][i] for k in ("obs", "act", "rew", "nxt", "term"))

    def learn(self, obs, act, rew, nxt, term):
        n = len(act)
        bootstrap = np.where(term, 0.0, self.q(nxt, self.target).max(axis=1))
        y = rew + self.gamma * bootstrap
        out, z1, z2 = self.q(obs, keep=True)
        d = np.zeros_like(out)
        d[np.arange(n), act] = (out[np.arange(n), act] - y) / n
        d_value = d.sum(axis=1, keepdims=True)
        d_adv = d - d.mean(axis=1, keepdims=True)
        p, g = self.params, {}
        g["Wv"], g["bv"] = z2.T @ d_value, d_value.sum(axis=0)
        g["Wa"], g["ba"] = z2.T @ d_adv, d_adv.sum(axis=0)
        d2 = (d_value @ p["Wv"].T + d_adv @ p["Wa"].T) * (z2 > 0)
        g["Wh"], g["bh"] = z1.T @ d2, d2.sum(axis=0)
        d1 = (d2 @ p["Wh"].T) * (z1 > 0)
        g["W"], g["b"] = obs.T @ d1, d1.sum(axis=0)
        norm = np.sqrt(sum((v ** 2).sum() for v in g.values()))
        scale = min(1.0, self.max_norm / (norm + 1e-8))
        for k in p:
            grad = g[k] * scale
            self.square_avg[k] = 0.95 * self.square_avg[k] + 0.05 * grad ** 2
            p[k] -= self.lr * grad / (np.sqrt(self.square_avg[k]) + 1e-3)
        self.n_updates += 1
        if self.n_updates % 150 == 0:
            self.sync()

    def train(self, env, total_steps, batch=64, start=100):
        scores, score = [], 0.0
        obs, _ = env.reset()
        for step in range(total_steps):
            eps = 0.04 + 0.96 * np.exp(-step / 1500)
            a = self.act(obs, eps)
            nxt, r, terminated, truncated, _ = env.step(a)
            self.store(obs, a, r, nxt, terminated)
            score += r
            obs = nxt
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
            if self.count >= start:
                self.learn(*self.sample(batch))
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        return self.agent.q(obs)

    def target_q_values(self, obs):
        return self.agent.q(obs, self.agent.target)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, np.asarray(terminated, dtype=bool))

    def sync_target(self):
        self.agent.sync()

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DuelingAgent(4, 2, seed=seed))
