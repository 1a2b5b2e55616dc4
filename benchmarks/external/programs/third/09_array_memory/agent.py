"""DQN agent, replay memory in preallocated arrays."""
import numpy as np


class Memory:
    def __init__(self, capacity, obs_dim, rng):
        self.capacity = capacity
        self.rng = rng
        self.states = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.next_states = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.dones = np.zeros(capacity, dtype=np.float32)
        self.counter = 0

    def __len__(self):
        return min(self.counter, self.capacity)

    def store_transition(self, state, action, reward, next_state, done):
        index = self.counter % self.capacity
        self.states[index] = state
        self.next_states[index] = next_state
        self.actions[index] = action
        self.rewards[index] = reward
        self.dones[index] = done
        self.counter += 1

    def sample_buffer(self, batch_size):
        batch = self.rng.integers(0, self.capacity, batch_size)
        return self.states[batch], self.actions[batch], self.rewards[batch], self.next_states[batch], self.dones[batch]


class Network:
    def __init__(self, n_in, n_hidden, n_out, rng):
        bound1, bound2 = 1 / np.sqrt(n_in), 1 / np.sqrt(n_hidden)
        self.w1 = rng.uniform(-bound1, bound1, (n_in, n_hidden))
        self.b1 = rng.uniform(-bound1, bound1, n_hidden)
        self.w2 = rng.uniform(-bound2, bound2, (n_hidden, n_out))
        self.b2 = rng.uniform(-bound2, bound2, n_out)

    def arrays(self):
        return [self.w1, self.b1, self.w2, self.b2]

    def hidden(self, x):
        return np.maximum(x @ self.w1 + self.b1, 0)

    def __call__(self, x):
        return self.hidden(x) @ self.w2 + self.b2

    def load_from(self, other):
        for mine, theirs in zip(self.arrays(), other.arrays()):
            np.copyto(mine, theirs)


class Agent:
    def __init__(self, input_dims, n_actions, gamma=0.99, lr=1e-3, batch_size=64, mem_size=50_000, replace=200, seed=0):
        self.rng = np.random.default_rng(seed)
        self.input_dims, self.n_actions = input_dims, n_actions
        self.gamma, self.lr, self.batch_size, self.replace = gamma, lr, batch_size, replace
        self.epsilon, self.eps_min, self.eps_dec = 1.0, 0.03, 2.5e-4
        self.memory = Memory(mem_size, input_dims, self.rng)
        self.q_eval = Network(input_dims, 128, n_actions, self.rng)
        self.q_next = Network(input_dims, 128, n_actions, self.rng)
        self.q_next.load_from(self.q_eval)
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in self.q_eval.arrays()]
        self.learn_step_counter = 0

    def choose_action(self, observation, epsilon):
        if self.rng.random() > epsilon:
            return int(np.argmax(self.q_eval(observation)))
        return int(self.rng.choice(self.n_actions))

    def replace_target_network(self):
        self.q_next.load_from(self.q_eval)

    def learn_from(self, states, actions, rewards, next_states, dones):
        if self.learn_step_counter % self.replace == 0:
            self.replace_target_network()
        indices = np.arange(len(actions))
        q_target = rewards + self.gamma * (1 - dones) * self.q_next(next_states).max(axis=1)
        h = self.q_eval.hidden(states)
        q_pred = h @ self.q_eval.w2 + self.q_eval.b2
        grad_q = np.zeros_like(q_pred)
        grad_q[indices, actions] = 2 * (q_pred[indices, actions] - q_target) / len(actions)
        grad_h = (grad_q @ self.q_eval.w2.T) * (h > 0)
        grads = [states.T @ grad_h, grad_h.sum(0), h.T @ grad_q, grad_q.sum(0)]
        self.learn_step_counter += 1
        k = self.learn_step_counter
        for p, g, (m, v) in zip(self.q_eval.arrays(), grads, self.moments):
            m += 0.1 * (g - m)
            v += 0.001 * (g ** 2 - v)
            p -= self.lr * (m / (1 - 0.9 ** k)) / (np.sqrt(v / (1 - 0.999 ** k)) + 1e-8)

    def learn(self):
        if self.memory.counter < self.batch_size:
            return
        self.learn_from(*self.memory.sample_buffer(self.batch_size))
        self.epsilon = max(self.epsilon - self.eps_dec, self.eps_min)

    def play(self, env, steps):
        scores, score = [], 0
        observation, _ = env.reset()
        for _ in range(steps):
            action = self.choose_action(observation, self.epsilon)
            observation_, reward, terminated, truncated, _ = env.step(action)
            score += reward
            self.memory.store_transition(observation, action, reward, observation_, terminated)
            self.learn()
            observation = observation_
            if terminated or truncated:
                scores.append(score)
                score = 0
                observation, _ = env.reset()
        return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.input_dims

    def q_values(self, obs):
        return self.agent.q_eval(obs)

    def target_q_values(self, obs):
        return self.agent.q_next(obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn_from(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def sync_target(self):
        self.agent.replace_target_network()

    def act(self, obs, epsilon):
        return self.agent.choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.store_transition(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample_buffer(n)

    def run(self, env, env_steps):
        return self.agent.play(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed=seed))
