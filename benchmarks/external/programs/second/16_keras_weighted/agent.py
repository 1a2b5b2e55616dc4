"""Double DQN with proportional prioritized replay; sample_weight goes to train_on_batch, as in Keras."""
import numpy as np


class Model:
    def __init__(self, n_in, n_hidden, n_out, rng, lr=0.001):
        self.lr = lr
        self.w = [
            rng.normal(0, np.sqrt(2 / n_in), (n_in, n_hidden)),
            np.zeros(n_hidden),
            rng.normal(0, np.sqrt(1 / n_hidden), (n_hidden, n_out)),
            np.zeros(n_out),
        ]
        self.m = [np.zeros_like(w) for w in self.w]
        self.u = [np.zeros_like(w) for w in self.w]
        self.t = 0

    def predict(self, x):
        return np.maximum(x @ self.w[0] + self.w[1], 0) @ self.w[2] + self.w[3]

    def train_on_batch(self, x, y, sample_weight=None):
        h = np.maximum(x @ self.w[0] + self.w[1], 0)
        e = h @ self.w[2] + self.w[3] - y
        d = np.tanh(e) / len(x)  # derivative of log(cosh(e))
        if sample_weight is not None:
            d = d * sample_weight[:, None]
        dh = (d @ self.w[2].T) * (h > 0)
        self._adamax([x.T @ dh, dh.sum(0), h.T @ d, d.sum(0)])

    def _adamax(self, grads):
        self.t += 1
        for i, g in enumerate(grads):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.u[i] = np.maximum(0.999 * self.u[i], np.abs(g))
            self.w[i] -= 2 * self.lr / (1 - 0.9**self.t) * self.m[i] / (self.u[i] + 1e-7)

    def get_weights(self):
        return [w.copy() for w in self.w]

    def set_weights(self, weights):
        self.w = [w.copy() for w in weights]


class PrioritizedMemory:
    def __init__(self, size, n_obs, rng, alpha=0.6, beta=0.4):
        self.size, self.rng, self.alpha, self.beta = size, rng, alpha, beta
        self.obs = np.zeros((size, n_obs))
        self.next_obs = np.zeros((size, n_obs))
        self.action = np.zeros(size, dtype=np.int64)
        self.reward = np.zeros(size)
        self.terminated = np.zeros(size, dtype=bool)
        self.priority = np.zeros(size)
        self.pos = self.count = 0

    def add(self, obs, action, reward, next_obs, terminated):
        i = self.pos
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.action[i], self.reward[i], self.terminated[i] = action, reward, terminated
        self.priority[i] = self.priority[:self.count].max() if self.count else 1.0
        self.pos = (i + 1) % self.size
        self.count = min(self.count + 1, self.size)

    def sample(self, n):
        p = self.priority[:self.count] ** self.alpha
        p /= p.sum()
        i = self.rng.choice(self.count, n, p=p)
        weight = (self.count * p[i]) ** -self.beta
        batch = self.obs[i], self.action[i], self.reward[i], self.next_obs[i], self.terminated[i]
        return batch, weight / weight.max(), i

    def update(self, i, td):
        self.priority[i] = np.abs(td) + 1e-3


class Agent:
    def __init__(self, n_obs=4, n_actions=2, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_obs, self.n_actions = n_obs, n_actions
        self.gamma = 0.99
        self.model = Model(n_obs, 64, n_actions, self.rng)
        self.target = Model(n_obs, 64, n_actions, self.rng)
        self.sync()
        self.memory = PrioritizedMemory(10_000, n_obs, self.rng)
        self.step = 0

    def sync(self):
        self.target.set_weights(self.model.get_weights())

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.model.predict(obs[None])))

    def learn(self, batch, weight):
        obs, action, reward, next_obs, terminated = batch
        rows = np.arange(len(action))
        best = self.model.predict(next_obs).argmax(axis=1)
        y = reward + self.gamma * ~terminated * self.target.predict(next_obs)[rows, best]
        targets = self.model.predict(obs)
        td = y - targets[rows, action]
        targets[rows, action] = y
        self.model.train_on_batch(obs, targets, sample_weight=weight)
        return td

    def train(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            a = self.act(obs, max(0.05, 1 - self.step / 4000))
            nxt, r, terminated, truncated, _ = env.step(a)
            self.memory.add(obs, a, r, nxt, terminated)
            self.step += 1
            if self.memory.count > 100:
                self.memory.beta = min(1.0, self.memory.beta + 3e-5)
                batch, weight, i = self.memory.sample(32)
                self.memory.update(i, self.learn(batch, weight))
            if self.step % 250 == 0:
                self.sync()
            obs = env.reset()[0] if terminated or truncated else nxt


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_obs

    def q_values(self, obs):
        return self.agent.model.predict(obs)

    def target_q_values(self, obs):
        return self.agent.target.predict(obs)

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        batch = obs, action, reward, next_obs, np.asarray(terminated, dtype=bool)
        self.agent.learn(batch, np.ones(len(action)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample(n)[0]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(Agent(seed=seed))
