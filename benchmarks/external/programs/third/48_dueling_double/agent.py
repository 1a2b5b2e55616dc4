"""Dueling Double DQN."""
import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

ALPHA = 0.5           # learning rate
GAMMA = 0.99          # discount factor
EPSILON = 1.0
EPSILON_DECAY = 0.999
EPSILON_MIN = 0.05
BATCH_SIZE = 64
MEMORY_SIZE = 20000
REPLACE_TARGET = 200


class MemoryBuffer:
    def __init__(self, max_size, input_shape):
        self.mem_size = max_size
        self.mem_cntr = 0
        self.state_memory = np.zeros((max_size, input_shape), dtype=np.float32)
        self.new_state_memory = np.zeros((max_size, input_shape), dtype=np.float32)
        self.action_memory = np.zeros(max_size, dtype=np.int64)
        self.reward_memory = np.zeros(max_size, dtype=np.float32)
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
        max_mem = min(self.mem_cntr, self.mem_size)
        batch = np.random.choice(max_mem, batch_size, replace=False)
        return (self.state_memory[batch], self.action_memory[batch], self.reward_memory[batch],
                self.new_state_memory[batch], self.terminal_memory[batch])


class DuelingDeepQNetwork(nn.Module):
    def __init__(self, input_dims, n_actions, fc1_dims=128, fc2_dims=64):
        super().__init__()
        self.fc1 = nn.Linear(input_dims, fc1_dims)
        self.fc2 = nn.Linear(fc1_dims, fc2_dims)
        self.V = nn.Linear(fc2_dims, 1)
        self.A = nn.Linear(fc2_dims, n_actions)

    def forward(self, state):
        x = torch.relu(self.fc1(state))
        x = torch.relu(self.fc2(x))
        V, A = self.V(x), self.A(x)
        return V + (A - A.mean(dim=1, keepdim=True))


class Agent:
    def __init__(self, input_dims, n_actions):
        self.input_dims, self.n_actions = input_dims, n_actions
        self.epsilon = EPSILON
        self.learn_step_counter = 0
        self.memory = MemoryBuffer(MEMORY_SIZE, input_dims)
        self.q_eval = DuelingDeepQNetwork(input_dims, n_actions)
        self.q_next = DuelingDeepQNetwork(input_dims, n_actions)
        self.q_next.load_state_dict(self.q_eval.state_dict())
        self.optimizer = optim.Adam(self.q_eval.parameters(), lr=ALPHA)
        self.loss = nn.MSELoss()

    def choose_action(self, observation, epsilon):
        if np.random.random() < epsilon:
            return int(np.random.choice(self.n_actions))
        with torch.no_grad():
            return torch.argmax(self.q_eval(torch.tensor(np.array([observation]), dtype=torch.float))).item()

    def replace_target_network(self):
        self.q_next.load_state_dict(self.q_eval.state_dict())

    def learn(self, state, action, reward, new_state, done):
        states = torch.tensor(np.asarray(state), dtype=torch.float)
        actions = torch.tensor(np.asarray(action), dtype=torch.long)
        rewards = torch.tensor(np.asarray(reward), dtype=torch.float)
        states_ = torch.tensor(np.asarray(new_state), dtype=torch.float)
        dones = torch.tensor(np.asarray(done), dtype=torch.bool)
        indices = torch.arange(len(actions))

        q_pred = self.q_eval(states)[indices, actions]
        with torch.no_grad():
            max_actions = self.q_eval(states_).argmax(dim=1)
            q_next = self.q_next(states_)[indices, max_actions]
            q_next[dones] = 0.0
            q_target = rewards + GAMMA * q_next

        self.optimizer.zero_grad()
        loss = self.loss(q_pred, q_target)
        loss.backward()
        self.optimizer.step()
        self.learn_step_counter += 1

    def play(self, env, n_steps):
        observation, _ = env.reset()
        for _ in range(n_steps):
            action = self.choose_action(observation, self.epsilon)
            observation_, reward, terminated, truncated, _ = env.step(action)
            self.memory.store_transition(observation, action, reward, observation_, terminated)
            observation = observation_
            if self.memory.mem_cntr >= BATCH_SIZE:
                self.learn(*self.memory.sample_buffer(BATCH_SIZE))
                if self.learn_step_counter % REPLACE_TARGET == 0:
                    self.replace_target_network()
                self.epsilon = max(EPSILON_MIN, self.epsilon * EPSILON_DECAY)
            if terminated or truncated:
                observation, _ = env.reset()


class Adapter:
    gamma = GAMMA

    def __init__(self, agent):
        self.agent = agent
        self.observation_size = agent.input_dims

    def q_values(self, obs):
        return self.agent.q_eval(torch.tensor(np.asarray(obs), dtype=torch.float)).detach().numpy()

    def target_q_values(self, obs):
        return self.agent.q_next(torch.tensor(np.asarray(obs), dtype=torch.float)).detach().numpy()

    def sync_target(self):
        self.agent.replace_target_network()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.store_transition(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample_buffer(n)

    def run(self, env, env_steps):
        self.agent.play(env, env_steps)


def make(seed=0):
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(4, 2))
