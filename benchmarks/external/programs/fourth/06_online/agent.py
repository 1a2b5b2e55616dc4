"""Semi-gradient Q-learning with a one-hidden-layer network, one transition at a time."""
import numpy as np


class OnlineQAgent:
    def __init__(self, num_inputs, num_actions, hidden=64, alpha=0.003, gamma=0.95, seed=0):
        self.rng = np.random.RandomState(seed)
        self.num_actions = num_actions
        self.alpha = alpha
        self.gamma = gamma
        self.epsilon = 0.3
        self.W1 = self.rng.randn(num_inputs, hidden) / np.sqrt(num_inputs)
        self.b1 = self.rng.uniform(-1, 1, hidden)
        self.W2 = np.zeros((hidden, num_actions))
        self.b2 = np.zeros(num_actions)
        self.target = None
        self.learn_calls = 0
        self.copy_to_target()

    def copy_to_target(self):
        self.target = (self.W1.copy(), self.b1.copy(), self.W2.copy(), self.b2.copy())

    def q(self, s):
        return np.tanh(s @ self.W1 + self.b1) @ self.W2 + self.b2

    def q_target(self, s):
        W1, b1, W2, b2 = self.target
        return np.tanh(s @ W1 + b1) @ W2 + b2

    def choose_action(self, s, epsilon):
        if self.rng.rand() < epsilon:
            return int(self.rng.randint(self.num_actions))
        q = self.q(s)
        return int(self.rng.choice(np.flatnonzero(q == q.max())))

    def learn(self, s, a, r, s_next, terminal):
        y = r
        if not terminal:
            y = r + self.gamma * np.max(self.q_target(s_next))
        h = np.tanh(s @ self.W1 + self.b1)
        td_error = y - (h @ self.W2[:, a] + self.b2[a])
        grad_h = self.W2[:, a] * (1 - h ** 2)
        self.W2[:, a] += self.alpha * td_error * h
        self.b2[a] += self.alpha * td_error
        self.W1 += self.alpha * td_error * np.outer(s, grad_h)
        self.b1 += self.alpha * td_error * grad_h
        self.learn_calls += 1
        if self.learn_calls % 100 == 0:
            self.copy_to_target()
        return td_error

    def train(self, env, total_steps):
        lengths = []
        length = 0
        state, _ = env.reset()
        for _ in range(total_steps):
            action = self.choose_action(state, self.epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            if done:
                reward = -10.0
            self.learn(state, action, reward, next_state, terminated)
            state = next_state
            length += 1
            self.epsilon = max(0.02, self.epsilon * 0.9998)
            if done:
                env.reset()
                lengths.append(length)
                length = 0
        return lengths


class Adapter:
    online = True

    def __init__(self, agent, observation_size):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = observation_size

    def q_values(self, obs):
        return self.agent.q(obs)

    def target_q_values(self, obs):
        return self.agent.q_target(obs)

    def sync_target(self):
        self.agent.copy_to_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for s, a, r, s_next, terminal in zip(obs, action, reward, next_obs, terminated):
            self.agent.learn(s, int(a), float(r), s_next, bool(terminal))

    def act(self, obs, epsilon):
        return self.agent.choose_action(obs, epsilon)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(OnlineQAgent(4, 2, seed=seed), 4)
