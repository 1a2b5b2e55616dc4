"""Online Q-learning, linear in quadratic features of the scaled observation."""
import numpy as np

SCALE = np.array([2.4, 2.5, 0.21, 2.5])


class ScaleObservation:
    def __init__(self, env, scale):
        self.env = env
        self.scale = scale
        self.action_space = env.action_space

    def observation(self, obs):
        return np.clip(np.asarray(obs, dtype=float) / self.scale, -2.0, 2.0)

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self.observation(obs), reward, terminated, truncated, info


def features(obs):
    upper = np.triu_indices(len(obs))
    return np.concatenate([[1.0], obs, np.outer(obs, obs)[upper]])


class LinearQ:
    def __init__(self, n_obs, n_actions, alpha=0.02, gamma=0.95, seed=0):
        self.n_obs, self.n_actions = n_obs, n_actions
        self.alpha, self.gamma = alpha, gamma
        self.theta = np.zeros((n_actions, 1 + n_obs + n_obs * (n_obs + 1) // 2))
        self.rng = np.random.default_rng(seed)

    def q(self, obs):
        return self.theta @ features(obs)

    def epsilon_greedy(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(0, self.n_actions - 1))
        return int(np.argmax(self.q(obs)))

    def learn(self, obs, action, reward, next_obs, terminated):
        phi = features(obs)
        target = reward + (0.0 if terminated else self.gamma * self.q(next_obs).max())
        delta = target - self.theta[action] @ phi
        self.theta[action] += self.alpha * delta * phi / (1.0 + self.alpha * phi @ phi)

    def train(self, env, steps):
        env = ScaleObservation(env, np.resize(SCALE, self.n_obs))
        scores, score, epsilon = [], 0.0, 0.5
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.epsilon_greedy(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.learn(obs, action, reward, next_obs, terminated)
            obs = next_obs
            score += reward
            epsilon = max(0.02, epsilon * 0.9995)
            if terminated or truncated:
                scores.append(score)
                score = 0.0
                obs, _ = env.reset()
        return scores


class Adapter:
    online = True

    def __init__(self, agent):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, agent.n_obs

    def q_values(self, obs):
        return np.array([self.agent.q(o) for o in obs])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for step in zip(obs, action, reward, next_obs, terminated):
            self.agent.learn(*step)

    def act(self, obs, epsilon):
        return self.agent.epsilon_greedy(obs, epsilon)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(LinearQ(4, 2, seed=seed))
