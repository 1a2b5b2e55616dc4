"""Q-learning with random Fourier features, a linear model per action and mini-batches."""
import numpy as np


class FourierFeatures:
    def __init__(self, n_obs, n_features, rng, bandwidth=1.0):
        self.omega = rng.normal(0, bandwidth, (n_obs, n_features))
        self.phase = rng.uniform(0, 2 * np.pi, n_features)
        self.scale = np.sqrt(2.0 / n_features)

    def __call__(self, obs):
        return self.scale * np.cos(obs @ self.omega + self.phase)


class ReplayMemory:
    def __init__(self, capacity, n_obs, rng):
        self.capacity, self.rng = capacity, rng
        self.obs = np.empty((capacity, n_obs))
        self.actions = np.empty(capacity, dtype=np.int64)
        self.rewards = np.empty(capacity)
        self.next_obs = np.empty((capacity, n_obs))
        self.terminals = np.empty(capacity)
        self.count = 0

    def __len__(self):
        return min(self.count, self.capacity)

    def push(self, obs, action, reward, next_obs, terminal):
        k = self.count % self.capacity
        self.obs[k] = obs
        self.actions[k] = action
        self.rewards[k] = reward
        self.next_obs[k] = next_obs
        self.terminals[k] = terminal
        self.count += 1

    def sample(self, n):
        k = self.rng.choice(len(self), size=n)
        return self.obs[k], self.actions[k], self.rewards[k], self.next_obs[k], self.terminals[k]


class LinearQ:
    def __init__(self, n_obs, n_actions, n_features=200, step_size=0.2, gamma=0.98, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        self.step_size = step_size
        self.gamma = gamma
        self.phi = FourierFeatures(n_obs, n_features, self.rng)
        self.w = np.zeros((n_actions, n_features))
        self.w_old = self.w.copy()
        self.memory = ReplayMemory(20_000, n_obs, self.rng)
        self.n_updates = 0

    def q(self, obs):
        return self.phi(obs) @ self.w.T

    def q_old(self, obs):
        return self.phi(obs) @ self.w_old.T

    def freeze(self):
        self.w_old = self.w.copy()

    def policy(self, obs, epsilon):
        if self.rng.uniform() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.q(obs)))

    def update(self, obs, actions, rewards, next_obs, terminals):
        phi = self.phi(obs)
        targets = rewards + self.gamma * (1 - terminals) * self.q_old(next_obs).max(axis=-1)
        deltas = targets - np.sum(phi * self.w[actions], axis=1)
        self.w[actions] += self.step_size * deltas[:, None] * phi / len(actions)
        self.n_updates += 1
        if self.n_updates % 100 == 0:
            self.freeze()
        return float(np.mean(deltas ** 2))

    def interact(self, env, n_steps, batch_size=32):
        obs, _ = env.reset()
        episode_return, returns = 0.0, []
        for step in range(n_steps):
            epsilon = max(0.05, 1 - 2 * step / n_steps)
            action = self.policy(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.push(obs, action, reward, next_obs, terminated)
            obs = next_obs
            episode_return += reward
            if terminated or truncated:
                returns.append(episode_return)
                episode_return = 0.0
                obs, _ = env.reset()
            if len(self.memory) >= batch_size:
                self.update(*self.memory.sample(batch_size))
        return returns


class Adapter:
    def __init__(self, learner, observation_size):
        self.learner = learner
        self.gamma = learner.gamma
        self.observation_size = observation_size

    def q_values(self, obs):
        return self.learner.q(obs)

    def target_q_values(self, obs):
        return self.learner.q_old(obs)

    def sync_target(self):
        self.learner.freeze()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def act(self, obs, epsilon):
        return self.learner.policy(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.memory.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.learner.memory.sample(n)

    def run(self, env, env_steps):
        return self.learner.interact(env, env_steps)

    def parameters(self):
        return {"w": self.learner.w}

    def target_parameters(self):
        return {"w": self.learner.w_old}


def make(seed=0):
    return Adapter(LinearQ(4, 2, seed=seed), 4)
