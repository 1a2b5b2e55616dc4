import random
from collections import deque

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class QNetwork(nn.Module):
    def __init__(self, state_size, action_size, hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(state_size, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, action_size)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class DQNAgent:
    def __init__(self, state_size, action_size, lr=1e-3, gamma=0.99):
        self.state_size, self.action_size = state_size, action_size
        self.gamma = gamma
        self.epsilon, self.epsilon_min, self.epsilon_decay = 1.0, 0.01, 0.99
        self.memory = deque(maxlen=10000)
        self.model = QNetwork(state_size, action_size)
        self.target_model = QNetwork(state_size, action_size)
        self.optimizer = optim.Adam(self.model.parameters(), lr=lr)
        self.init_weights(hidden=128)
        self.update_target()

    def init_weights(self, hidden):
        self.model = QNetwork(self.state_size, self.action_size, hidden)
        self.target_model = QNetwork(self.state_size, self.action_size, hidden)
        for m in self.model.modules():
            if isinstance(m, nn.Linear):
                nn.init.kaiming_uniform_(m.weight, nonlinearity="relu")
                nn.init.zeros_(m.bias)

    def update_target(self):
        self.target_model.load_state_dict(self.model.state_dict())

    def remember(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        if np.random.rand() <= self.epsilon:
            return random.randrange(self.action_size)
        with torch.no_grad():
            q = self.model(torch.as_tensor(state).float().unsqueeze(0))
        return q.argmax(dim=1).item()

    def replay(self, batch_size):
        minibatch = random.sample(self.memory, batch_size)
        states = torch.tensor(np.array([m[0] for m in minibatch]), dtype=torch.float32)
        actions = torch.tensor([m[1] for m in minibatch]).unsqueeze(1)
        rewards = torch.tensor([m[2] for m in minibatch], dtype=torch.float32)
        next_states = torch.tensor(np.array([m[3] for m in minibatch]), dtype=torch.float32)
        dones = torch.tensor([m[4] for m in minibatch], dtype=torch.float32)

        q = self.model(states).gather(1, actions).squeeze(1)
        with torch.no_grad():
            q_next = self.target_model(next_states).max(1)[0]
            target = rewards + self.gamma * q_next * (1 - dones)
        loss = F.mse_loss(q, target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def main():
    env = gym.make("CartPole-v1")
    agent = DQNAgent(env.observation_space.shape[0], env.action_space.n)
    batch_size, step = 64, 0
    for e in range(500):
        state, _ = env.reset()
        score, done = 0, False
        while not done:
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            agent.remember(state, action, reward, next_state, terminated)
            state = next_state
            score += reward
            step += 1
            if len(agent.memory) >= 1000:
                agent.replay(batch_size)
            if step % 500 == 0:
                agent.update_target()
        agent.epsilon = max(agent.epsilon_min, agent.epsilon * agent.epsilon_decay)
        print(f"episode: {e}/500, score: {score:.0f}, e: {agent.epsilon:.2}")
    torch.save(agent.model.state_dict(), "cartpole-dqn.pt")


if __name__ == "__main__":
    main()
