import random
from collections import deque
import numpy as np
import torch
import torch.nn as nn
import gymnasium as gym


class Brain(nn.Module):
    def __init__(self):
        super(Brain, self).__init__()
        self.layers = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, x):
        return self.layers(x)


class MountainCarAgent:
    def __init__(self):
        self.env = gym.make("MountainCar-v0")
        self.gamma = 0.99
        self.epsilon = 1.0
        self.epsilon_decay = 0.9975
        self.epsilon_min = 0.05
        self.memory = deque(maxlen=50000)
        self.batch_size = 64
        self.brain = Brain()
        self.target = Brain()
        self.target.load_state_dict(self.brain.state_dict())
        self.optim = torch.optim.Adam(self.brain.parameters(), lr=1e-3)
        self.loss_fn = nn.MSELoss()
        self.best = -0.6

    def act(self, state):
        if random.random() < self.epsilon:
            return self.env.action_space.sample()
        with torch.no_grad():
            return torch.argmax(self.brain(torch.tensor(state, dtype=torch.float32))).item()

    def remember(self, s, a, r, s2, done):
        self.memory.append([s, a, r, s2, done])

    def replay(self):
        if len(self.memory) < 2000:
            return
        s, a, r, s2, done = zip(*random.sample(self.memory, self.batch_size))
        s = torch.tensor(np.array(s), dtype=torch.float32)
        a = torch.tensor(a, dtype=torch.int64).view(-1, 1)
        r = torch.tensor(r, dtype=torch.float32)
        s2 = torch.tensor(np.array(s2), dtype=torch.float32)
        done = torch.tensor(done, dtype=torch.float32)

        predicted = self.brain(s).gather(1, a)
        with torch.no_grad():
            nxt = self.target(s2).max(dim=1).values
        expected = r + self.gamma * nxt * (1 - done)
        loss = self.loss_fn(predicted, expected)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()

    def run(self, episodes):
        for ep in range(episodes):
            state, _ = self.env.reset()
            ep_reward, max_pos, done = 0, -1.2, False
            while not done:
                action = self.act(state)
                state2, reward, terminated, truncated, _ = self.env.step(action)
                done = terminated or truncated
                ep_reward += reward
                max_pos = max(max_pos, state2[0])
                self.remember(state, action, reward, state2, done)
                self.replay()
                state = state2
            if ep % 5 == 0:
                self.target.load_state_dict(self.brain.state_dict())
            self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)
            if max_pos > self.best:
                self.best = max_pos
                print("new furthest position", max_pos)
            print("episode %d reward %d epsilon %.3f" % (ep, ep_reward, self.epsilon))


MountainCarAgent().run(1500)
