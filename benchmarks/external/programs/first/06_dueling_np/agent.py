"""Dueling Double DQN in plain NumPy: shared trunk, value stream, advantage stream."""
import numpy as np


class DuelingNet:
    def __init__(self, d, h, n_actions, rng):
        def he(fan_in, fan_out):
            return rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)

        self.W = he(d, h)
        self.b = np.zeros(h)
        self.Wv = he(h, 1) * 0.5
        self.bv = np.zeros(1)
        self.Wa = he(h, n_actions) * 0.5
        self.ba = np.zeros(n_actions)

    def weights(self):
        return [self.W, self.b, self.Wv, self.bv, self.Wa, self.ba]

    def q(self, s):
        h = np.maximum(0, s @ self.W + self.b)
        v = h @ self.Wv + self.bv
        a = h @ self.Wa + self.ba
        return v + a - a.mean(axis=1, keepdims=True)

    def grad(self, s, dq):
        h = np.maximum(0, s @ self.W + self.b)
        dv = dq.sum(axis=1, keepdims=True)
        da = dq - dq.mean(axis=1, keepdims=True)
        dh = (dv @ self.Wv.T + da @ self.Wa.T) * (h > 0)
        return [s.T @ dh, dh.sum(0), h.T @ dv, dv.sum(0), h.T @ da, da.sum(0)]


class DuelingDoubleDQN:
    def __init__(self, d, n_actions, gamma=0.99, lr=5e-4, tau=0.01, hidden=128, batch=64,
                 memory=30000, max_norm=5.0, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_actions, self.gamma, self.lr, self.tau = n_actions, gamma, lr, tau
        self.batch, self.max_norm = batch, max_norm
        self.net = DuelingNet(d, hidden, n_actions, self.rng)
        self.target_net = DuelingNet(d, hidden, n_actions, self.rng)
        self.soft_update(1.0)
        self.sq = [np.zeros_like(w) for w in self.net.weights()]
        self.memory = np.zeros((memory, 2 * d + 3))
        self.d, self.count = d, 0

    def soft_update(self, tau):
        for wt, w in zip(self.target_net.weights(), self.net.weights()):
            wt *= 1 - tau
            wt += tau * w

    def rmsprop(self, grads, decay=0.95, eps=1e-5):
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        scale = min(1.0, self.max_norm / (norm + 1e-12))
        for w, g, s in zip(self.net.weights(), grads, self.sq):
            g = g * scale
            s *= decay
            s += (1 - decay) * g * g
            w -= self.lr * g / (np.sqrt(s) + eps)

    def store(self, s, a, r, s2, terminal):
        self.memory[self.count % len(self.memory)] = np.concatenate([s, [a, r, terminal], s2])
        self.count += 1

    def draw(self, n):
        filled = min(self.count, len(self.memory))
        m = self.memory[self.rng.choice(filled, size=n)]
        d = self.d
        return m[:, :d], m[:, d].astype(int), m[:, d + 1], m[:, d + 3:], m[:, d + 2]

    def update(self, s, a, r, s2, terminal):
        i = np.arange(len(a))
        best = self.net.q(s2).argmax(axis=1)
        y = r + self.gamma * (1 - terminal) * self.target_net.q(s2)[i, best]
        q = self.net.q(s)
        dq = np.zeros_like(q)
        dq[i, a] = 2 * (q[i, a] - y) / len(a)
        self.rmsprop(self.net.grad(s, dq))

    def policy(self, s, eps):
        if self.rng.uniform() < eps:
            return int(self.rng.integers(0, self.n_actions))
        return int(np.argmax(self.net.q(s.reshape(1, -1))[0]))

    def interact(self, env, steps, eps_end=0.02, eps_steps=5000):
        scores, score = [], 0
        s, _ = env.reset()
        for t in range(steps):
            eps = 1.0 + (eps_end - 1.0) * min(1.0, t / eps_steps)
            a = self.policy(s, eps)
            s2, r, terminated, truncated, _ = env.step(a)
            self.store(s, a, r, s2, terminated)
            score += r
            if t >= self.batch:
                self.update(*self.draw(self.batch))
                self.soft_update(self.tau)
            s = s2
            if terminated or truncated:
                scores.append(score)
                score = 0
                s, _ = env.reset()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma, self.observation_size = agent.gamma, agent.d

    def q_values(self, obs):
        return self.agent.net.q(obs)

    def target_q_values(self, obs):
        return self.agent.target_net.q(obs)

    def sync_target(self):
        self.agent.soft_update(self.agent.tau)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.policy(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.draw(n)

    def run(self, env, env_steps):
        self.agent.interact(env, env_steps)


def make(seed=0):
    return Adapter(DuelingDoubleDQN(4, 2, seed=seed))
