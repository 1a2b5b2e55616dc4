import random
import numpy as np
import torch
from torch import nn
import gymnasium as gym
from collections import deque

# Deterministic FrozenLake with a neural net, based on one-hot states.
env = gym.make('FrozenLake-v1', map_name='4x4', is_slippery=False)
n_states = env.observation_space.n
n_actions = env.action_space.n
ACTIONS = ['L', 'D', 'R', 'U']

EPISODES = 2000
SYNC_RATE = 20
BATCH = 32
GAMMA = 0.9
LR = 1e-3


class DQN(nn.Module):
    def __init__(self, in_states, h1_nodes, out_actions):
        super().__init__()
        self.fc1 = nn.Linear(in_states, h1_nodes)
        self.out = nn.Linear(h1_nodes, out_actions)

    def forward(self, x):
        return self.out(torch.relu(self.fc1(x)))


def one_hot(state):
    x = torch.zeros(n_states)
    x[state] = 1.0
    return x


policy = DQN(n_states, n_states, n_actions)
target = DQN(n_states, n_states, n_actions)
target.load_state_dict(policy.state_dict())
optimizer = torch.optim.Adam(policy.parameters(), lr=LR)
loss_fn = nn.MSELoss()
memory = deque(maxlen=5000)


def optimize(mini_batch):
    current, wanted = [], []
    for state, action, new_state, reward, terminated in mini_batch:
        if terminated:
            y = torch.tensor(float(reward))
        else:
            with torch.no_grad():
                y = reward + GAMMA * target(one_hot(new_state)).max()
        q = policy(one_hot(state))
        # only the chosen action has an error, the other entries are their own targets
        t = q.detach().clone()
        t[action] = y
        current.append(q)
        wanted.append(t)
    loss = loss_fn(torch.stack(current), torch.stack(wanted))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def print_policy(net):
    for s in range(n_states):
        q = net(one_hot(s)).tolist()
        print('%02d,%s,[%s]' % (s, ACTIONS[int(np.argmax(q))], ' '.join('%+.2f' % v for v in q)), end='  ')
        if (s + 1) % 4 == 0:
            print()


epsilon = 1.0
rewards = np.zeros(EPISODES)
eps_hist = []
episodes_since_sync = 0

for i in range(EPISODES):
    state = env.reset()[0]
    terminated = truncated = False
    while not (terminated or truncated):
        if random.random() < epsilon:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                action = policy(one_hot(state)).argmax().item()
        new_state, reward, terminated, truncated, _ = env.step(action)
        memory.append((state, action, new_state, reward, terminated))
        state = new_state
    if reward == 1:
        rewards[i] = 1

    if len(memory) > 200:
        for _ in range(3):
            optimize(random.sample(memory, BATCH))
    epsilon = max(epsilon - 1 / EPISODES, 0.05)
    eps_hist.append(epsilon)
    episodes_since_sync += 1
    if episodes_since_sync >= SYNC_RATE:
        target.load_state_dict(policy.state_dict())
        episodes_since_sync = 0
    if (i + 1) % 100 == 0:
        print('Episode', i + 1, 'successes in last 100:', int(rewards[i - 99:i + 1].sum()), 'epsilon %.2f' % epsilon)

env.close()
print_policy(policy)
torch.save(policy.state_dict(), 'frozen_lake_dql.pt')
