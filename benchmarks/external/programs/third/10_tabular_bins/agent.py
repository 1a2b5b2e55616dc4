"""Tabular Q-learning on a discretized observation."""
import numpy as np


class Discretizer:
    def __init__(self, bounds, n_bins):
        self.edges = [np.linspace(lo, hi, n + 1)[1:-1] for (lo, hi), n in zip(bounds, n_bins)]
        self.shape = tuple(n_bins)

    def __call__(self, obs):
        return tuple(int(np.digitize(x, e)) for x, e in zip(obs, self.edges))


class QTable:
    def __init__(self, bounds, n_bins, n_actions, alpha=0.1, gamma=0.99, seed=0):
        self.discretize = Discretizer(bounds, n_bins)
        self.n_actions = n_actions
        self.alpha, self.gamma = alpha, gamma
        self.table = np.zeros(self.discretize.shape + (n_actions,))
        self.rng = np.random.default_rng(seed)
        self.epsilon = 1.0

    def q(self, obs):
        return self.table[self.discretize(obs)]

    def act(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        return int(np.argmax(self.q(obs)))

    def update(self, obs, action, reward, next_obs, terminated):
        cell = self.discretize(obs)
        best_next = np.max(self.q(next_obs))
        td_target = reward + self.gamma * best_next
        td_error = td_target - self.table[cell][action]
        self.table[cell][action] += self.alpha * td_error

    def train(self, env, n_steps):
        rewards, episode_reward = [], 0.0
        obs, _ = env.reset()
        for _ in range(n_steps):
            action = self.act(obs, self.epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.update(obs, action, reward, next_obs, terminated)
            episode_reward += reward
            if terminated or truncated:
                rewards.append(episode_reward)
                episode_reward = 0.0
                self.epsilon = max(0.02, self.epsilon * 0.995)
                obs, _ = env.reset()
            else:
                obs = next_obs
        return rewards


CARTPOLE_BOUNDS = [(-2.4, 2.4), (-2.5, 2.5), (-0.21, 0.21), (-2.5, 2.5)]


class Adapter:
    online = True

    def __init__(self, agent, observation_size):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = observation_size

    def q_values(self, obs):
        return np.stack([self.agent.q(o) for o in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for o, a, r, o2, t in zip(obs, action, reward, next_obs, terminated):
            self.agent.update(o, int(a), float(r), o2, bool(t))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(QTable(CARTPOLE_BOUNDS, (3, 4, 8, 6), 2, seed=seed), 4)


if __name__ == "__main__":
    import gymnasium as gym

    scores = QTable(CARTPOLE_BOUNDS, (3, 4, 8, 6), 2).train(gym.make("CartPole-v1"), 200_000)
    print(np.mean(scores[-50:]))
