import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

##########################
# network.py
##########################


class DuelingNetwork(nn.Module):
    def __init__(self, input_dim, fc1_dim, fc2_dim, n_actions):
        super().__init__()
        self.fc1 = nn.Linear(input_dim, fc1_dim)
        self.fc2 = nn.Linear(fc1_dim, fc2_dim)
        self.V = nn.Linear(fc2_dim, 1)
        self.A = nn.Linear(fc2_dim, n_actions)

    def forward(self, state):
        x = F.relu(self.fc1(state))
        x = F.relu(self.fc2(x))
        V = self.V(x)
        A = self.A(x)
        return V + (A - A.mean(dim=0, keepdim=True))


##########################
# buffer.py
##########################


class ReplayBuffer:
    def __init__(self, max_size, input_dim, batch_size=32):
        self.mem_size = max_size
        self.batch_size = batch_size
        self.mem_cntr = 0
        self.state_memory = np.zeros((max_size, input_dim), dtype=np.float32)
        self.new_state_memory = np.zeros((max_size, input_dim), dtype=np.float32)
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

    def sample(self, n=None):
        max_mem = min(self.mem_cntr, self.mem_size)
        batch = np.random.choice(max_mem, n or self.batch_size, replace=False)
        return (
            self.state_memory[batch],
            self.action_memory[batch],
            self.reward_memory[batch],
            self.new_state_memory[batch],
            self.terminal_memory[batch],
        )


##########################
# agent.py
##########################


class Agent:
    def __init__(self, gamma, lr, n_actions, input_dim, mem_size=20000, eps_min=0.02, eps_dec=2.5e-4, replace=250):
        self.gamma = gamma
        self.n_actions = n_actions
        self.input_dim = input_dim
        self.epsilon = 1.0
        self.eps_min = eps_min
        self.eps_dec = eps_dec
        self.replace_target_cnt = replace
        self.learn_step_counter = 0
        self.memory = ReplayBuffer(mem_size, input_dim)
        self.q_eval = DuelingNetwork(input_dim, 64, 64, n_actions)
        self.q_next = DuelingNetwork(input_dim, 64, 64, n_actions)
        self.optimizer = torch.optim.Adam(self.q_eval.parameters(), lr=lr)
        self.replace_target_network()

    def choose_action(self, observation, epsilon):
        if np.random.random() < epsilon:
            return int(np.random.choice(self.n_actions))
        state = torch.tensor(np.array([observation]), dtype=torch.float32)
        with torch.no_grad():
            return self.q_eval(state).argmax().item()

    def replace_target_network(self):
        self.q_next.load_state_dict(self.q_eval.state_dict())

    def learn(self, batch):
        states, actions, rewards, states_, dones = batch
        states = torch.tensor(states, dtype=torch.float32)
        states_ = torch.tensor(states_, dtype=torch.float32)
        rewards = torch.tensor(rewards, dtype=torch.float32)
        actions = torch.tensor(actions, dtype=torch.int64)
        dones = torch.tensor(dones, dtype=torch.bool)

        indices = torch.arange(len(actions))
        q_pred = self.q_eval(states)[indices, actions]
        with torch.no_grad():
            max_actions = self.q_eval(states_).argmax(dim=1)
            q_next = self.q_next(states_)[indices, max_actions]
            q_next[dones] = 0.0
            q_target = rewards + self.gamma * q_next
        loss = F.mse_loss(q_pred, q_target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

        self.learn_step_counter += 1
        if self.learn_step_counter % self.replace_target_cnt == 0:
            self.replace_target_network()
        self.epsilon = max(self.eps_min, self.epsilon - self.eps_dec)


##########################
# main.py
##########################


def main(agent, env, n_steps):
    observation, _ = env.reset()
    for _ in range(n_steps):
        action = agent.choose_action(observation, agent.epsilon)
        observation_, reward, terminated, truncated, _ = env.step(action)
        agent.memory.store_transition(observation, action, reward, observation_, terminated)
        if agent.memory.mem_cntr >= 64:
            agent.learn(agent.memory.sample())
        observation = observation_
        if terminated or truncated:
            observation, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.input_dim

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.q_eval(torch.tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.q_next(torch.tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.replace_target_network()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn((obs, action, reward, next_obs, terminated))

    def act(self, obs, epsilon):
        return self.agent.choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.store_transition(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample(n)

    def run(self, env, env_steps):
        main(self.agent, env, env_steps)


def make(seed=0):
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(gamma=0.99, lr=5e-4, n_actions=2, input_dim=4))
