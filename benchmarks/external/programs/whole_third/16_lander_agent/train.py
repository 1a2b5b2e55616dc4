import random
from collections import deque, namedtuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class QNetwork(nn.Module):
    """Actor (Policy) Model."""

    def __init__(self, state_size, action_size, fc1_units=64, fc2_units=64):
        super(QNetwork, self).__init__()
        self.fc1 = nn.Linear(state_size, fc1_units)
        self.fc2 = nn.Linear(fc1_units, fc2_units)
        self.fc3 = nn.Linear(fc2_units, action_size)

    def forward(self, state):
        x = F.relu(self.fc1(state))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class ReplayBuffer:
    """Fixed-size buffer to store experience tuples."""

    def __init__(self, buffer_size, batch_size):
        self.memory = deque(maxlen=buffer_size)
        self.batch_size = batch_size
        self.experience = namedtuple("Experience", field_names=["state", "action", "reward", "next_state", "done"])

    def add(self, state, action, reward, next_state, done):
        self.memory.append(self.experience(state, action, reward, next_state, done))

    def sample(self):
        experiences = random.sample(self.memory, k=self.batch_size)
        states = torch.from_numpy(np.vstack([e.state for e in experiences])).float().to(device)
        actions = torch.from_numpy(np.vstack([e.action for e in experiences])).long().to(device)
        rewards = torch.from_numpy(np.vstack([e.reward for e in experiences])).float().to(device)
        next_states = torch.from_numpy(np.vstack([e.next_state for e in experiences])).float().to(device)
        dones = torch.from_numpy(np.vstack([e.done for e in experiences]).astype(np.uint8)).float().to(device)
        return states, actions, rewards, next_states, dones

    def __len__(self):
        return len(self.memory)


class DQNAgent:
    def __init__(self, state_size, action_size):
        self.state_size = state_size
        self.action_size = action_size
        self.gamma = 0.99
        self.lr = 5e-4
        self.batch_size = 64
        self.learn_every = 4
        self.target_every = 2000
        self.epsilon = 1.0
        self.epsilon_min = 0.01
        self.epsilon_decay = 0.995

        self.model = QNetwork(state_size, action_size).to(device)
        self.target_model = QNetwork(state_size, action_size).to(device)
        self.target_model.load_state_dict(self.model.state_dict())
        self.memory = ReplayBuffer(100000, self.batch_size)
        self.t_step = 0

    def act(self, state):
        if np.random.rand() <= self.epsilon:
            return random.randrange(self.action_size)
        state = torch.from_numpy(state).float().unsqueeze(0).to(device)
        with torch.no_grad():
            return int(self.model(state).argmax(1))

    def remember(self, state, action, reward, next_state, done):
        self.memory.add(state, action, reward, next_state, done)
        self.t_step += 1

    def replay(self):
        if len(self.memory) < 2000 or self.t_step % self.learn_every != 0:
            return
        states, actions, rewards, next_states, dones = self.memory.sample()

        q_next = self.target_model(next_states).detach().max(1)[0].unsqueeze(1)
        q_targets = rewards + self.gamma * q_next * (1 - dones)
        q_expected = self.model(states).gather(1, actions)
        loss = F.mse_loss(q_expected, q_targets)

        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def end_episode(self):
        if self.t_step % self.target_every == 0:
            self.target_model.load_state_dict(self.model.state_dict())
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    def save(self, name):
        torch.save(self.model.state_dict(), name)


def train(n_episodes=1500, max_t=1000):
    env = gym.make("LunarLander-v3")
    agent = DQNAgent(env.observation_space.shape[0], env.action_space.n)
    scores, window = [], deque(maxlen=100)

    for e in range(1, n_episodes + 1):
        state, _ = env.reset()
        score = 0
        for t in range(max_t):
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            agent.remember(state, action, reward, next_state, done)
            agent.replay()
            state = next_state
            score += reward
            if done:
                break
        agent.end_episode()

        scores.append(score)
        window.append(score)
        print('\rEpisode {}\tAverage Score: {:.2f}'.format(e, np.mean(window)), end="")
        if e % 50 == 0:
            print('\rEpisode {}\tAverage Score: {:.2f}\tEpsilon: {:.3f}'.format(e, np.mean(window), agent.epsilon))
            agent.save('lander-dqn.pth')
        if len(window) == 100 and np.mean(window) >= 200.0:
            print('\nSolved after {} episodes'.format(e))
            agent.save('lander-dqn-solved.pth')
            break
    env.close()
    return scores


if __name__ == "__main__":
    random.seed(10)
    np.random.seed(10)
    torch.manual_seed(10)
    scores = train()
    plt.plot(scores)
    plt.xlabel('Episode #')
    plt.ylabel('Score')
    plt.savefig('lander_scores.png')
