"""Dueling Q-network written by hand."""
import numpy as np


class DuelingQNetwork:
    def __init__(self, n_states, n_actions, hidden_dim=64, seed=0):
        rng = np.random.default_rng(seed)
        self.n_actions = n_actions

        def init(m, n):
            return rng.normal(0, np.sqrt(2.0 / m), (m, n))
        self.weights = [init(n_states, hidden_dim), init(hidden_dim, hidden_dim), init(hidden_dim, 1),
                        init(hidden_dim, n_actions)]
        self.biases = [np.zeros(w.shape[1]) for w in self.weights]

    def forward(self, x):
        h = np.maximum(x @ self.weights[0] + self.biases[0], 0)
        g = np.maximum(h @ self.weights[1] + self.biases[1], 0)
        value = g @ self.weights[2] + self.biases[2]
        advantage = g @ self.weights[3] + self.biases[3]
        self.cache = (x, h, g)
        return value + advantage - advantage.mean()

    def backward(self, dq):
        x, h, g = self.cache
        d_value = dq.sum(axis=1, keepdims=True)
        d_adv = dq - dq.mean()
        dg = (d_value @ self.weights[2].T + d_adv @ self.weights[3].T) * (g > 0)
        dh = (dg @ self.weights[1].T) * (h > 0)
        dW = [x.T @ dh, h.T @ dg, g.T @ d_value, g.T @ d_adv]
        db = [dh.sum(axis=0), dg.sum(axis=0), d_value.sum(axis=0), d_adv.sum(axis=0)]
        return dW + db

    def parameters(self):
        return self.weights + self.biases

    def copy_from(self, other):
        for mine, theirs in zip(self.parameters(), other.parameters()):
            mine[...] = theirs


class ReplayBuffer:
    def __init__(self, capacity, seed):
        self.capacity = capacity
        self.buffer = []
        self.position = 0
        self.rng = np.random.default_rng(seed)

    def push(self, *transition):
        if len(self.buffer) < self.capacity:
            self.buffer.append(None)
        self.buffer[self.position] = transition
        self.position = (self.position + 1) % self.capacity

    def sample(self, batch_size):
        chosen = self.rng.choice(len(self.buffer), batch_size, replace=False)
        return [np.array(column) for column in zip(*(self.buffer[i] for i in chosen))]

    def __len__(self):
        return len(self.buffer)


class DuelingDQN:
    def __init__(self, n_states, n_actions, seed=0, gamma=0.95, lr=5e-4, batch_size=64, target_update=200):
        self.rng = np.random.default_rng(seed)
        self.n_actions, self.gamma, self.lr, self.batch_size = n_actions, gamma, lr, batch_size
        self.target_update = target_update
        self.policy_net = DuelingQNetwork(n_states, n_actions, seed=seed)
        self.target_net = DuelingQNetwork(n_states, n_actions, seed=seed)
        self.target_net.copy_from(self.policy_net)
        self.memory = ReplayBuffer(20_000, seed)
        self.m = [np.zeros_like(p) for p in self.policy_net.parameters()]
        self.v = [np.zeros_like(p) for p in self.policy_net.parameters()]
        self.updates = 0

    def sample_action(self, state, epsilon):
        if self.rng.random() > epsilon:
            return int(self.policy_net.forward(state[np.newaxis]).argmax())
        return int(self.rng.integers(self.n_actions))

    def update(self, states, actions, rewards, next_states, dones):
        next_q = self.target_net.forward(next_states).max(axis=1)
        expected = rewards + self.gamma * next_q * (1 - dones)
        q = self.policy_net.forward(states)
        rows = np.arange(len(actions))
        dq = np.zeros_like(q)
        dq[rows, actions] = (q[rows, actions] - expected) / len(actions)
        self.updates += 1
        for p, g, m, v in zip(self.policy_net.parameters(), self.policy_net.backward(dq), self.m, self.v):
            m[...] = 0.9 * m + 0.1 * g
            v[...] = 0.99 * v + 0.01 * g ** 2
            p -= self.lr * (m / (1 - 0.9 ** self.updates)) / (np.sqrt(v / (1 - 0.99 ** self.updates)) + 1e-8)
        if self.updates % self.target_update == 0:
            self.target_net.copy_from(self.policy_net)

    def train(self, env, steps):
        rewards, ep_reward = [], 0
        state, _ = env.reset()
        for i in range(steps):
            epsilon = 0.02 + 0.98 * np.exp(-i / 800)
            action = self.sample_action(state, epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.push(state, action, reward, next_state, float(terminated))
            state = next_state
            ep_reward += reward
            if len(self.memory) >= self.batch_size:
                self.update(*self.memory.sample(self.batch_size))
            if terminated or truncated:
                rewards.append(ep_reward)
                ep_reward = 0
                state, _ = env.reset()
        return rewards


class Adapter:
    def __init__(self, agent, n_obs):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, n_obs

    def q_values(self, obs):
        return self.agent.policy_net.forward(obs)

    def target_q_values(self, obs):
        return self.agent.target_net.forward(obs)

    def sync_target(self):
        self.agent.target_net.copy_from(self.agent.policy_net)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def act(self, obs, epsilon):
        return self.agent.sample_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.push(obs, action, reward, next_obs, float(terminated))

    def sample(self, n):
        return self.agent.memory.sample(n)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DuelingDQN(4, 2, seed=seed), 4)
