import gym
import random
import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from collections import deque
import matplotlib.pyplot as plt

env = gym.make('CartPole-v0')
env.seed(7)
random.seed(7)
np.random.seed(7)
torch.manual_seed(7)

state_size = env.observation_space.shape[0]
action_size = env.action_space.n

n_episodes = 500
max_t = 200
gamma = 0.98
learning_rate = 0.001
batch_size = 32
buffer_limit = 20000
train_start = 500


class QNetwork(nn.Module):
    def __init__(self):
        super(QNetwork, self).__init__()
        self.fc1 = nn.Linear(state_size, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, action_size)

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        return self.fc3(x)


class DQN:
    def __init__(self):
        self.qnet = QNetwork()
        self.target = QNetwork()
        self.update_target()
        self.optimizer = optim.Adam(self.qnet.parameters(), lr=learning_rate)
        self.loss_fn = nn.MSELoss()
        self.memory = deque(maxlen=buffer_limit)
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.985

    def update_target(self):
        self.target.load_state_dict(self.qnet.state_dict())

    def get_action(self, state):
        if np.random.rand() <= self.epsilon:
            return env.action_space.sample()
        with torch.no_grad():
            q = self.qnet(torch.FloatTensor(state).unsqueeze(0))
        return q.argmax(1).item()

    def append_sample(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def train_model(self):
        minibatch = random.sample(self.memory, batch_size)
        states = torch.FloatTensor(np.array([m[0] for m in minibatch]))
        actions = torch.LongTensor([m[1] for m in minibatch]).view(-1, 1)
        rewards = torch.FloatTensor([m[2] for m in minibatch]).view(-1, 1)
        next_states = torch.FloatTensor(np.array([m[3] for m in minibatch]))
        dones = torch.FloatTensor([float(m[4]) for m in minibatch]).view(-1, 1)

        current_q = self.qnet(states).gather(1, actions)
        next_q = self.target(next_states).max(1)[0].detach().view(-1, 1)
        target_q = rewards + gamma * next_q * (1 - dones)

        loss = self.loss_fn(current_q, target_q)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


agent = DQN()
scores = []
recent = deque(maxlen=100)
global_step = 0

for e in range(n_episodes):
    state = env.reset()
    score = 0
    for t in range(max_t):
        # env.render()
        action = agent.get_action(state)
        next_state, reward, done, info = env.step(action)
        score += reward
        global_step += 1

        # falling over is punished
        if done and t < max_t - 1:
            reward = -10

        state = next_state
        agent.append_sample(state, action, reward, next_state, done)

        if len(agent.memory) > train_start:
            agent.train_model()
            if global_step % 300 == 0:
                agent.update_target()

        if done:
            break

    agent.epsilon = max(agent.epsilon_min, agent.epsilon * agent.epsilon_decay)
    scores.append(score)
    recent.append(score)
    print('\rEpisode {}\tscore: {:.0f}\taverage: {:.2f}\tepsilon: {:.3f}'.format(
        e, score, np.mean(recent), agent.epsilon), end='')
    if e % 50 == 0:
        print()
    if len(recent) == 100 and np.mean(recent) >= 195:
        print('\nSolved in {} episodes!'.format(e))
        break

torch.save(agent.qnet.state_dict(), 'cartpole_v0.pth')
plt.plot(scores)
plt.xlabel('Episode')
plt.ylabel('Score')
plt.savefig('cartpole_v0.png')
env.close()
