# -*- coding: utf-8 -*-
"""
Reinforcement learning (DQN) on LunarLander, following the well-known PyTorch tutorial
"""
import math
import random
from collections import namedtuple
from itertools import count

import gymnasium as gym
import numpy as np
import matplotlib.pyplot as plt
import torch
import torch.nn as nn
import torch.optim as optim
import torch.nn.functional as F

env = gym.make('LunarLander-v3')
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')

Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward'))


class ReplayMemory(object):

    def __init__(self, capacity):
        self.capacity = capacity
        self.memory = []

    def push(self, *args):
        self.memory.append(Transition(*args))
        if len(self.memory) > self.capacity:
            del self.memory[0]

    def sample(self, batch_size):
        return self.memory[-batch_size:]

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):

    def __init__(self, inputs, outputs):
        super(DQN, self).__init__()
        self.l1 = nn.Linear(inputs, 128)
        self.l2 = nn.Linear(128, 128)
        self.l3 = nn.Linear(128, outputs)

    def forward(self, x):
        x = F.relu(self.l1(x))
        x = F.relu(self.l2(x))
        return self.l3(x)


BATCH_SIZE = 64
GAMMA = 0.99
EPS_START = 0.95
EPS_END = 0.02
EPS_DECAY = 15000
TARGET_UPDATE = 4

n_actions = env.action_space.n
policy_net = DQN(env.observation_space.shape[0], n_actions).to(device)
target_net = DQN(env.observation_space.shape[0], n_actions).to(device)
target_net.load_state_dict(policy_net.state_dict())
target_net.eval()

optimizer = optim.Adam(policy_net.parameters(), lr=5e-4)
memory = ReplayMemory(50000)
steps_done = 0
episode_rewards = []


def select_action(state):
    global steps_done
    sample = random.random()
    eps_threshold = EPS_END + (EPS_START - EPS_END) * math.exp(-1. * steps_done / EPS_DECAY)
    steps_done += 1
    if sample > eps_threshold:
        with torch.no_grad():
            return policy_net(state).max(1)[1].view(1, 1)
    return torch.tensor([[random.randrange(n_actions)]], device=device, dtype=torch.long)


def plot_rewards():
    plt.figure(2)
    plt.clf()
    plt.title('Training...')
    plt.xlabel('Episode')
    plt.ylabel('Reward')
    plt.plot(episode_rewards)
    if len(episode_rewards) >= 100:
        means = np.convolve(episode_rewards, np.ones(100) / 100, mode='valid')
        plt.plot(np.arange(99, len(episode_rewards)), means)
    plt.savefig('rewards.png')


def optimize_model():
    if len(memory) < 1000:
        return
    transitions = memory.sample(BATCH_SIZE)
    batch = Transition(*zip(*transitions))

    non_final_mask = torch.tensor(tuple(map(lambda s: s is not None, batch.next_state)),
                                  device=device, dtype=torch.bool)
    non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
    state_batch = torch.cat(batch.state)
    action_batch = torch.cat(batch.action)
    reward_batch = torch.cat(batch.reward)

    state_action_values = policy_net(state_batch).gather(1, action_batch)

    next_state_values = torch.zeros(BATCH_SIZE, device=device)
    next_state_values[non_final_mask] = policy_net(non_final_next_states).max(1)[0]
    expected_state_action_values = (next_state_values * GAMMA) + reward_batch

    loss = F.smooth_l1_loss(state_action_values, expected_state_action_values.unsqueeze(1))

    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(policy_net.parameters(), 1.0)


num_episodes = 800
for i_episode in range(num_episodes):
    observation, _ = env.reset()
    state = torch.tensor(observation, dtype=torch.float32, device=device).unsqueeze(0)
    total = 0
    for t in count():
        action = select_action(state)
        observation, reward, terminated, truncated, _ = env.step(action.item())
        total += reward
        reward = torch.tensor([reward], device=device, dtype=torch.float32)
        if not terminated:
            next_state = torch.tensor(observation, dtype=torch.float32, device=device).unsqueeze(0)
        else:
            next_state = None
        memory.push(state, action, next_state, reward)
        state = next_state
        optimize_model()
        if terminated or truncated:
            episode_rewards.append(total)
            break
    if i_episode % TARGET_UPDATE == 0:
        target_net.load_state_dict(policy_net.state_dict())
    if i_episode % 20 == 0:
        print(i_episode, 'reward', round(total, 1), 'mean', round(sum(episode_rewards[-20:]) / len(episode_rewards[-20:]), 1))
        plot_rewards()

print('Complete')
torch.save(policy_net.state_dict(), 'lander.pt')
env.close()
