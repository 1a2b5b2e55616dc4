"""DQN for CartPole, network and gradients written by hand with NumPy."""
import numpy as np

OBS_SCALE = np.array([2.4, 3.0, 0.21, 3.0])


class QNetwork:
    """Two hidden ReLU layers and a linear output."""

    def __init__(self, n_in, n_hidden, n_out, rng):
        self.params = {
            "W1": rng.normal(0.0, np.sqrt(2.0 / n_in), (n_in, n_hidden)),
            "b1": np.zeros(n_hidden),
            "W2": rng.normal(0.0, np.sqrt(2.0 / n_hidden), (n_hidden, n_hidden)),
            "b2": np.zeros(n_hidden),
            "W3": rng.normal(0.0, np.sqrt(1.0 / n_hidden), (n_hidden, n_out)),
            "b3": np.zeros(n_out),
        }

    def forward(self, obs):
        p = self.params
        obs /= OBS_SCALE
        x = obs
        z1 = x @ p["W1"] + p["b1"]
        h1 = z1 * (z1 > 0)
        z2 = h1 @ p["W2"] + p["b2"]
        h2 = z2 * (z2 > 0)
        q = h2 @ p["W3"] + p["b3"]
        return q, (x, z1, h1, z2, h2)

    def backward(self, dq, cache):
        p = self.params
        x, z1, h1, z2, h2 = cache
        grads = {"W3": h2.T @ dq, "b3": dq.sum(axis=0)}
        dz2 = (dq @ p["W3"].T) * (z2 > 0)
        grads["W2"] = h1.T @ dz2
        grads["b2"] = dz2.sum(axis=0)
        dz1 = (dz2 @ p["W2"].T) * (z1 > 0)
        grads["W1"] = x.T @ dz1
        grads["b1"] = dz1.sum(axis=0)
        return grads

    def copy_from(self, other):
        for name, value in other.params.items():
            self.params[name] = value.copy()


class Adam:
    def __init__(self, params, lr, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.m = {k: np.zeros_like(v) for k, v in params.items()}
        self.v = {k: np.zeros_like(v) for k, v in params.items()}
        self.t = 0

    def step(self, params, grads):
        self.t += 1
        for k, g in grads.items():
            self.m[k] = self.beta1 * self.m[k] + (1 - self.beta1) * g
            self.v[k] = self.beta2 * self.v[k] + (1 - self.beta2) * g**2
            m_hat = self.m[k] / (1 - self.beta1**self.t)
            v_hat = self.v[k] / (1 - self.beta2**self.t)
            params[k] -= self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


class ReplayBuffer:
    def __init__(self, capacity, obs_dim, rng):
        self.capacity, self.rng = capacity, rng
        self.obs = np.zeros((capacity, obs_dim))
        self.next_obs = np.zeros((capacity, obs_dim))
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity)
        self.terminated = np.zeros(capacity)
        self.pos, self.size = 0, 0

    def add(self, obs, action, reward, next_obs, terminated):
        i = self.pos
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.terminated[i] = action, reward, terminated
        self.pos = (self.pos + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n):
        i = self.rng.integers(0, self.size, size=n)
        return self.obs[i], self.actions[i], self.rewards[i], self.next_obs[i], self.terminated[i]


class Agent:
    def __init__(self, obs_dim, n_actions, seed=0, lr=1e-3, gamma=0.99, hidden=64,
                 batch_size=64, capacity=20000, sync_every=200, warmup=200):
        self.rng = np.random.default_rng(seed)
        self.n_actions, self.gamma = n_actions, gamma
        self.batch_size, self.sync_every, self.warmup = batch_size, sync_every, warmup
        self.online = QNetwork(obs_dim, hidden, n_actions, self.rng)
        self.target = QNetwork(obs_dim, hidden, n_actions, self.rng)
        self.target.copy_from(self.online)
        self.optimizer = Adam(self.online.params, lr)
        self.buffer = ReplayBuffer(capacity, obs_dim, self.rng)

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        q, _ = self.online.forward(obs[None, :])
        return int(q[0].argmax())

    def train_on_batch(self, obs, actions, rewards, next_obs, terminated):
        q_next, _ = self.target.forward(next_obs)
        y = rewards + self.gamma * (1.0 - terminated) * q_next.max(axis=1)
        q, cache = self.online.forward(obs)
        rows = np.arange(len(actions))
        error = q[rows, actions] - y
        dq = np.zeros_like(q)
        dq[rows, actions] = np.clip(error, -1.0, 1.0) / len(actions)
        self.optimizer.step(self.online.params, self.online.backward(dq, cache))

    def fit(self, env, n_steps):
        returns, episode_return = [], 0.0
        obs, _ = env.reset()
        for step in range(1, n_steps + 1):
            epsilon = max(0.05, 1.0 - step / 4000)
            action = self.act(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.buffer.add(obs, action, reward, next_obs, terminated)
            episode_return += reward
            obs = next_obs
            if terminated or truncated:
                returns.append(episode_return)
                episode_return = 0.0
                obs, _ = env.reset()
            if step > self.warmup:
                self.train_on_batch(*self.buffer.sample(self.batch_size))
            if step % self.sync_every == 0:
                self.target.copy_from(self.online)
        return returns


class Adapter:
    def __init__(self, agent, obs_dim):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = obs_dim

    def q_values(self, obs):
        return self.agent.online.forward(obs)[0]

    def target_q_values(self, obs):
        return self.agent.target.forward(obs)[0]

    def sync_target(self):
        self.agent.target.copy_from(self.agent.online)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train_on_batch(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.buffer.sample(n)

    def run(self, env, env_steps):
        self.agent.fit(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed=seed), 4)
