import gym
import numpy as np
import random
import torch
import torch.nn as nn
from collections import deque
import time

env = gym.make("MountainCar-v0")
env.seed(5)
print(env.observation_space, env.action_space)


class MountainCarNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 48), nn.Linear(48, 48), nn.Linear(48, 3)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


class MountainCarTrain:
    def __init__(self, env):
        self.env = env
        self.gamma = 0.99
        self.epsilon = 1.0
        self.epsilon_decay = 0.99
        self.epsilon_min = 0.02
        self.learning_rate = 0.001
        self.replay_buffer = deque(maxlen=40000)
        self.train_network = MountainCarNet()
        self.target_network = MountainCarNet()
        self.target_network.load_state_dict(self.train_network.state_dict())
        self.optimizer = torch.optim.Adam(self.train_network.parameters(), lr=self.learning_rate)
        self.episode_num = 1000
        self.iteration_num = 200
        self.pick_from_buffer = 64
        self.updates = 0

    def get_best_action(self, state):
        if np.random.rand(1) < self.epsilon:
            return np.random.randint(0, 3)
        with torch.no_grad():
            return int(self.train_network(torch.as_tensor(state, dtype=torch.float32)).argmax())

    def train_from_buffer(self):
        if len(self.replay_buffer) < 1000:
            return
        samples = random.sample(self.replay_buffer, self.pick_from_buffer)
        states = torch.as_tensor(np.array([s[0] for s in samples]), dtype=torch.float32)
        actions = torch.as_tensor([s[1] for s in samples])
        rewards = torch.as_tensor([s[2] for s in samples], dtype=torch.float32)
        new_states = torch.as_tensor(np.array([s[3] for s in samples]), dtype=torch.float32)
        dones = torch.as_tensor([float(s[4]) for s in samples])
        with torch.no_grad():
            targets = rewards + self.gamma * (1 - dones) * self.target_network(new_states).max(dim=1)[0]
        q = self.train_network(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = ((q - targets) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % 500 == 0:
            self.target_network.load_state_dict(self.train_network.state_dict())

    def play_episode(self, current_state, eps):
        reward_sum = 0
        max_position = -99
        for i in range(self.iteration_num):
            action = self.get_best_action(current_state)
            new_state, reward, done, _ = self.env.step(action)
            if new_state[0] > max_position:
                max_position = new_state[0]
            # a bonus for reaching the flag
            success = new_state[0] >= 0.5
            if success:
                reward += 10
            reward_sum += reward
            current_state = new_state
            self.replay_buffer.append([current_state, action, reward, new_state, success])
            self.train_from_buffer()
            if done:
                break
        print("episode {}: {} after {} steps, reward {}, epsilon {:.3f}, highest position {:.3f}".format(
            eps, "reached the flag" if success else "failed", i + 1, reward_sum, self.epsilon, max_position))
        if success:
            torch.save(self.train_network.state_dict(), "mountaincar_success.pt")
        self.epsilon = max(self.epsilon * self.epsilon_decay, self.epsilon_min)
        return success

    def start(self):
        wins = deque(maxlen=100)
        begin = time.time()
        for eps in range(self.episode_num):
            state = self.env.reset()
            wins.append(self.play_episode(state, eps))
            if eps % 50 == 0:
                print("=== {} wins in the last {} episodes, {:.0f} s".format(sum(wins), len(wins), time.time() - begin))


dqn = MountainCarTrain(env=env)
dqn.start()
