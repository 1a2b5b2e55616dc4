# -*- coding: utf-8 -*-
import random
import gym
import numpy as np
from collections import deque
import torch
import torch.nn as nn
import torch.optim as optim

ENV_NAME = "CartPole-v0"
GAMMA = 0.95
LEARNING_RATE = 0.001
MEMORY_SIZE = 2000
TRAIN_START = 5000
BATCH_SIZE = 32
EXPLORATION_MAX = 1.0
EXPLORATION_MIN = 0.01
EXPLORATION_DECAY = 0.995


class DQNSolver:

    def __init__(self, observation_space, action_space):
        self.exploration_rate = EXPLORATION_MAX
        self.action_space = action_space
        self.memory = deque(maxlen=MEMORY_SIZE)
        self.model = nn.Sequential(nn.Linear(observation_space, 24), nn.ReLU(),
                                   nn.Linear(24, 24), nn.ReLU(),
                                   nn.Linear(24, action_space))
        self.target = nn.Sequential(nn.Linear(observation_space, 24), nn.ReLU(),
                                    nn.Linear(24, 24), nn.ReLU(),
                                    nn.Linear(24, action_space))
        self.copy_weights()
        self.optimizer = optim.Adam(self.model.parameters(), lr=LEARNING_RATE)

    def copy_weights(self):
        self.target.load_state_dict(self.model.state_dict())

    def remember(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        if np.random.rand() < self.exploration_rate:
            return random.randrange(self.action_space)
        with torch.no_grad():
            return int(self.model(torch.FloatTensor(state)).argmax(1)[0])

    def experience_replay(self):
        if len(self.memory) < TRAIN_START:
            return
        batch = random.sample(self.memory, BATCH_SIZE)
        states = torch.FloatTensor(np.concatenate([b[0] for b in batch]))
        actions = torch.LongTensor([b[1] for b in batch])
        rewards = torch.FloatTensor([b[2] for b in batch])
        nexts = torch.FloatTensor(np.concatenate([b[3] for b in batch]))
        dones = torch.BoolTensor([b[4] for b in batch])
        with torch.no_grad():
            q_next = self.target(nexts).max(1)[0]
            q_next[dones] = 0.0
        y = rewards + GAMMA * q_next
        q = self.model(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = nn.functional.mse_loss(q, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def cartpole():
    env = gym.make(ENV_NAME)
    env.seed(0)
    observation_space = env.observation_space.shape[0]
    action_space = env.action_space.n
    solver = DQNSolver(observation_space, action_space)
    scores = deque(maxlen=100)
    run = 0
    while run < 1000:
        run += 1
        state = env.reset()
        state = np.reshape(state, [1, observation_space])
        step = 0
        while True:
            step += 1
            action = solver.act(state)
            state_next, reward, terminal, info = env.step(action)
            state_next = np.reshape(state_next, [1, observation_space])
            solver.remember(state, action, reward, state_next, terminal)
            solver.experience_replay()
            state = state_next
            if terminal:
                scores.append(step)
                print("Run: " + str(run) + ", exploration: " + str(solver.exploration_rate) + ", score: " + str(step))
                break
        solver.exploration_rate = max(EXPLORATION_MIN, solver.exploration_rate * EXPLORATION_DECAY)
        if run % 5 == 0:
            solver.copy_weights()
        if len(scores) == 100 and np.mean(scores) >= 195:
            print("Solved in", run, "runs")
            break


if __name__ == "__main__":
    cartpole()
