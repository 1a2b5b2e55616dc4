import os

import gymnasium as gym
import numpy as np
import torch as T
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class DeepQNetwork(nn.Module):
    def __init__(self, lr, input_dims, fc1_dims, fc2_dims, n_actions):
        super(DeepQNetwork, self).__init__()
        self.fc1 = nn.Linear(*input_dims, fc1_dims)
        self.fc2 = nn.Linear(fc1_dims, fc2_dims)
        self.fc3 = nn.Linear(fc2_dims, n_actions)
        self.optimizer = optim.Adam(self.parameters(), lr=lr)
        self.loss = nn.MSELoss()
        self.device = T.device('cuda:0' if T.cuda.is_available() else 'cpu')
        self.to(self.device)

    def forward(self, state):
        x = F.relu(self.fc1(state))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class Agent():
    def __init__(self, gamma, epsilon, lr, input_dims, batch_size, n_actions,
                 max_mem_size=100000, eps_end=0.02, eps_dec=2e-5, replace=1000):
        self.gamma = gamma
        self.epsilon = epsilon
        self.eps_min = eps_end
        self.eps_dec = eps_dec
        self.action_space = [i for i in range(n_actions)]
        self.mem_size = max_mem_size
        self.batch_size = batch_size
        self.mem_cntr = 0
        self.learn_cntr = 0
        self.replace = replace

        self.Q_eval = DeepQNetwork(lr, input_dims, 128, 128, n_actions)
        self.Q_next = DeepQNetwork(lr, input_dims, 128, 128, n_actions)
        self.Q_next.load_state_dict(self.Q_eval.state_dict())

        self.state_memory = np.zeros((self.mem_size, *input_dims), dtype=np.int32)
        self.new_state_memory = np.zeros((self.mem_size, *input_dims), dtype=np.int32)
        self.action_memory = np.zeros(self.mem_size, dtype=np.int32)
        self.reward_memory = np.zeros(self.mem_size, dtype=np.float32)
        self.terminal_memory = np.zeros(self.mem_size, dtype=bool)

    def store_transition(self, state, action, reward, state_, terminal):
        index = self.mem_cntr % self.mem_size
        self.state_memory[index] = state
        self.new_state_memory[index] = state_
        self.reward_memory[index] = reward
        self.action_memory[index] = action
        self.terminal_memory[index] = terminal
        self.mem_cntr += 1

    def choose_action(self, observation):
        if np.random.random() > self.epsilon:
            state = T.tensor(np.array([observation]), dtype=T.float32).to(self.Q_eval.device)
            actions = self.Q_eval.forward(state)
            return T.argmax(actions).item()
        return np.random.choice(self.action_space)

    def learn(self):
        if self.mem_cntr < 10 * self.batch_size:
            return
        self.Q_eval.optimizer.zero_grad()
        max_mem = min(self.mem_cntr, self.mem_size)
        batch = np.random.choice(max_mem, self.batch_size, replace=False)
        batch_index = np.arange(self.batch_size, dtype=np.int32)

        device = self.Q_eval.device
        state_batch = T.tensor(self.state_memory[batch], dtype=T.float32).to(device)
        new_state_batch = T.tensor(self.new_state_memory[batch], dtype=T.float32).to(device)
        reward_batch = T.tensor(self.reward_memory[batch]).to(device)
        terminal_batch = T.tensor(self.terminal_memory[batch]).to(device)
        action_batch = self.action_memory[batch]

        q_eval = self.Q_eval.forward(state_batch)[batch_index, action_batch]
        with T.no_grad():
            q_next = self.Q_next.forward(new_state_batch)
            q_next[terminal_batch] = 0.0
            q_target = reward_batch + self.gamma * T.max(q_next, dim=1)[0]

        loss = self.Q_eval.loss(q_eval, q_target)
        loss.backward()
        self.Q_eval.optimizer.step()

        self.learn_cntr += 1
        if self.learn_cntr % self.replace == 0:
            self.Q_next.load_state_dict(self.Q_eval.state_dict())
        self.epsilon = max(self.epsilon - self.eps_dec, self.eps_min)


if __name__ == '__main__':
    env = gym.make('Acrobot-v1')
    agent = Agent(gamma=0.99, epsilon=1.0, batch_size=64, n_actions=3, eps_end=0.02,
                  input_dims=[6], lr=5e-4)
    os.makedirs('tmp', exist_ok=True)
    scores, eps_history = [], []
    n_games = 400
    best = -np.inf

    for i in range(n_games):
        score = 0
        done = False
        observation, info = env.reset(seed=42)
        while not done:
            action = agent.choose_action(observation)
            observation_, reward, terminated, truncated, info = env.step(action)
            done = terminated or truncated
            score += reward
            agent.store_transition(observation, action, reward, observation_, terminated)
            agent.learn()
            observation = observation_
        scores.append(score)
        eps_history.append(agent.epsilon)

        avg_score = np.mean(scores[-100:])
        if i >= 50 and avg_score > best:
            best = avg_score
            T.save(agent.Q_eval.state_dict(), 'tmp/acrobot_best.pt')
        print('episode ', i, 'score %.2f' % score, 'average score %.2f' % avg_score, 'epsilon %.2f' % agent.epsilon)
