import numpy as np
import torch as T
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class ReplayBuffer(object):
    def __init__(self, max_size, input_shape):
        self.mem_size = max_size
        self.mem_cntr = 0
        self.state_memory = np.zeros((self.mem_size, *input_shape), dtype=np.float32)
        self.new_state_memory = np.zeros((self.mem_size, *input_shape), dtype=np.float32)
        self.action_memory = np.zeros(self.mem_size, dtype=np.int64)
        self.reward_memory = np.zeros(self.mem_size, dtype=np.float32)
        self.terminal_memory = np.zeros(self.mem_size, dtype=bool)

    def store_transition(self, state, action, reward, state_, done):
        index = self.mem_cntr % self.mem_size
        self.state_memory[index] = state
        self.new_state_memory[index] = state_
        self.action_memory[index] = action
        self.reward_memory[index] = reward
        self.terminal_memory[index] = done
        self.mem_cntr += 1

    def sample_buffer(self, batch_size):
        max_mem = min(self.mem_cntr, self.mem_size)
        batch = np.random.choice(max_mem, batch_size, replace=False)
        states = self.state_memory[batch]
        actions = self.action_memory[batch]
        rewards = self.reward_memory[batch]
        states_ = self.new_state_memory[batch]
        terminal = self.terminal_memory[batch]
        return states, actions, rewards, states_, terminal


class DeepQNetwork(nn.Module):
    def __init__(self, lr, n_actions, input_dims, fc1_dims=128, fc2_dims=128):
        super(DeepQNetwork, self).__init__()
        self.fc1 = nn.Linear(*input_dims, fc1_dims)
        self.fc2 = nn.Linear(fc1_dims, fc2_dims)
        self.q = nn.Linear(fc2_dims, n_actions)
        self.optimizer = optim.Adam(self.parameters(), lr=lr)
        self.loss = nn.MSELoss()
        self.device = T.device("cpu")
        self.to(self.device)

    def forward(self, state):
        x = F.relu(self.fc1(state))
        x = F.relu(self.fc2(x))
        return self.q(x)


class Agent(object):
    def __init__(self, gamma=0.99, epsilon=1.0, lr=5e-4, n_actions=2, input_dims=(4,), mem_size=20000,
                 batch_size=64, eps_min=0.02, eps_dec=2e-4, tau=0.005):
        self.gamma = gamma
        self.epsilon = epsilon
        self.lr = lr
        self.n_actions = n_actions
        self.input_dims = input_dims
        self.batch_size = batch_size
        self.eps_min = eps_min
        self.eps_dec = eps_dec
        self.tau = tau
        self.action_space = [i for i in range(n_actions)]

        self.memory = ReplayBuffer(mem_size, input_dims)
        self.q_eval = DeepQNetwork(self.lr, self.n_actions, input_dims=self.input_dims)
        self.q_next = DeepQNetwork(self.lr, self.n_actions, input_dims=self.input_dims)
        self.q_next.load_state_dict(self.q_eval.state_dict())

    def choose_action(self, observation, epsilon=None):
        epsilon = self.epsilon if epsilon is None else epsilon
        if np.random.random() > epsilon:
            state = T.tensor(np.array([observation]), dtype=T.float).to(self.q_eval.device)
            actions = self.q_eval.forward(state)
            action = T.argmax(actions).item()
        else:
            action = int(np.random.choice(self.action_space))
        return action

    def store_transition(self, state, action, reward, state_, done):
        self.memory.store_transition(state, action, reward, state_, done)

    def decrement_epsilon(self):
        self.epsilon = self.epsilon - self.eps_dec if self.epsilon > self.eps_min else self.eps_min

    def update_network_parameters(self, tau=None):
        tau = self.tau if tau is None else tau
        q_eval_state_dict = dict(self.q_eval.named_parameters())
        q_next_state_dict = dict(self.q_next.named_parameters())

        for name in q_eval_state_dict:
            q_eval_state_dict[name] = tau * q_eval_state_dict[name].clone() + \
                (1 - tau) * q_next_state_dict[name].clone()

        self.q_eval.load_state_dict(q_eval_state_dict)

    def learn(self):
        if self.memory.mem_cntr < self.batch_size:
            return
        self.train_on(*self.memory.sample_buffer(self.batch_size))
        self.update_network_parameters()
        self.decrement_epsilon()

    def train_on(self, state, action, reward, state_, done):
        self.q_eval.optimizer.zero_grad()
        states = T.tensor(state, dtype=T.float)
        rewards = T.tensor(reward, dtype=T.float)
        dones = T.tensor(done, dtype=T.bool)
        actions = T.tensor(action, dtype=T.int64)
        states_ = T.tensor(state_, dtype=T.float)

        indices = np.arange(len(states))
        q_pred = self.q_eval.forward(states)[indices, actions]
        q_next = self.q_next.forward(states_).max(dim=1)[0]
        q_next[dones] = 0.0
        q_target = (rewards + self.gamma * q_next).detach()

        loss = self.q_eval.loss(q_target, q_pred)
        loss.backward()
        self.q_eval.optimizer.step()


def play(agent, env, n_steps):
    scores = []
    score = 0
    observation, _ = env.reset()
    for _ in range(n_steps):
        action = agent.choose_action(observation)
        observation_, reward, terminated, truncated, info = env.step(action)
        score += reward
        agent.store_transition(observation, action, reward, observation_, terminated)
        agent.learn()
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
        self.observation_size = agent.input_dims[0]

    def q_values(self, obs):
        with T.no_grad():
            return self.agent.q_eval(T.as_tensor(obs, dtype=T.float32)).numpy()

    def target_q_values(self, obs):
        with T.no_grad():
            return self.agent.q_next(T.as_tensor(obs, dtype=T.float32)).numpy()

    def sync_target(self):
        self.agent.update_network_parameters()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train_on(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store_transition(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample_buffer(n)

    def run(self, env, env_steps):
        play(self.agent, env, env_steps)


def make(seed=0):
    np.random.seed(seed)
    T.manual_seed(seed)
    return Adapter(Agent())
