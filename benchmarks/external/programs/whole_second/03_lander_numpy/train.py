import pickle
import numpy as np
import gymnasium as gym


class ReplayBuffer:
    def __init__(self, max_size, input_dim):
        self.mem_size = max_size
        self.mem_cntr = 0
        self.state_memory = np.zeros((max_size, input_dim), dtype=np.float32)
        self.new_state_memory = np.zeros((max_size, input_dim), dtype=np.float32)
        self.action_memory = np.zeros(max_size, dtype=np.int32)
        self.reward_memory = np.zeros(max_size, dtype=np.int32)
        self.terminal_memory = np.zeros(max_size, dtype=bool)

    def store_transition(self, state, action, reward, state_, done):
        index = self.mem_cntr % self.mem_size
        self.state_memory[index] = state
        self.new_state_memory[index] = state_
        self.action_memory[index] = action
        self.reward_memory[index] = reward
        self.terminal_memory[index] = done
        self.mem_cntr += 1

    def sample_buffer(self, batch_size):
        batch = np.random.choice(self.mem_size, batch_size)
        return (self.state_memory[batch], self.action_memory[batch],
                self.reward_memory[batch], self.new_state_memory[batch],
                self.terminal_memory[batch])


class MLP:
    def __init__(self, dims, lr):
        self.W = [np.random.randn(a, b) * np.sqrt(2 / a) for a, b in zip(dims[:-1], dims[1:])]
        self.b = [np.zeros(d) for d in dims[1:]]
        self.lr, self.t = lr, 0
        self.m = [np.zeros_like(p) for p in self.W + self.b]
        self.v = [np.zeros_like(p) for p in self.W + self.b]

    def predict(self, x):
        self.acts = [x]
        for i, (W, b) in enumerate(zip(self.W, self.b)):
            x = x @ W + b
            if i < len(self.W) - 1:
                x = np.maximum(x, 0)
            self.acts.append(x)
        return x

    def train(self, delta):
        gW, gb = [], []
        for i in range(len(self.W) - 1, -1, -1):
            gW.insert(0, self.acts[i].T @ delta)
            gb.insert(0, delta.sum(0))
            if i > 0:
                delta = (delta @ self.W[i].T) * (self.acts[i] > 0)
        self.t += 1
        for k, (p, g) in enumerate(zip(self.W + self.b, gW + gb)):
            self.m[k] = 0.9 * self.m[k] + 0.1 * g
            self.v[k] = 0.999 * self.v[k] + 0.001 * g ** 2
            mh = self.m[k] / (1 - 0.9 ** self.t)
            vh = self.v[k] / (1 - 0.999 ** self.t)
            p -= self.lr * mh / (np.sqrt(vh) + 1e-8)


class Agent:
    def __init__(self, lr=5e-4, gamma=0.99, n_actions=4, input_dim=8, batch_size=64,
                 mem_size=100000, eps_dec=0.995, eps_min=0.01, replace=500):
        self.gamma, self.n_actions, self.batch_size = gamma, n_actions, batch_size
        self.epsilon, self.eps_dec, self.eps_min = 1.0, eps_dec, eps_min
        self.replace, self.learn_step = replace, 0
        self.memory = ReplayBuffer(mem_size, input_dim)
        self.q_eval = MLP([input_dim, 128, 128, n_actions], lr)
        self.q_next = MLP([input_dim, 128, 128, n_actions], lr)
        self.sync()

    def sync(self):
        self.q_next.W = [w.copy() for w in self.q_eval.W]
        self.q_next.b = [b.copy() for b in self.q_eval.b]

    def choose_action(self, obs):
        if np.random.random() > self.epsilon:
            return int(np.argmax(self.q_eval.predict(obs[np.newaxis, :])))
        return np.random.choice(self.n_actions)

    def learn(self):
        if self.memory.mem_cntr < self.batch_size:
            return
        if self.learn_step % self.replace == 0:
            self.sync()
        s, a, r, s_, done = self.memory.sample_buffer(self.batch_size)
        q_next = self.q_next.predict(s_).max(axis=1)
        q_next[done] = 0.0
        target = r + self.gamma * q_next
        q = self.q_eval.predict(s)
        delta = np.zeros_like(q)
        i = np.arange(self.batch_size)
        delta[i, a] = (q[i, a] - target) / self.batch_size
        self.q_eval.train(delta)
        self.learn_step += 1


if __name__ == '__main__':
    env = gym.make('LunarLander-v3')
    agent = Agent()
    scores = []
    n_games = 500
    for i in range(n_games):
        done = False
        score = 0
        observation, info = env.reset()
        while not done:
            action = agent.choose_action(observation)
            observation_, reward, terminated, truncated, info = env.step(action)
            done = terminated or truncated
            score += reward
            agent.memory.store_transition(observation, action, reward, observation_, terminated)
            agent.learn()
            observation = observation_
        agent.epsilon = max(agent.eps_min, agent.epsilon * agent.eps_dec)
        scores.append(score)
        print('episode', i, 'score %.1f' % score, 'average %.1f' % np.mean(scores[-100:]),
              'epsilon %.2f' % agent.epsilon)
    with open('lander_agent.pkl', 'wb') as f:
        pickle.dump((agent.q_eval.W, agent.q_eval.b), f)
