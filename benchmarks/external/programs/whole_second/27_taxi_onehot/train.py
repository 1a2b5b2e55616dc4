import random
from collections import deque

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn

NUM_EPISODES = 2000
GAMMA = 0.97
BATCH = 64
SYNC = 500

env = gym.make("Taxi-v4")
N_S, N_A = int(env.observation_space.n), int(env.action_space.n)


def one_hot(states):
    out = torch.zeros(len(states), N_S)
    out[torch.arange(len(states)), torch.as_tensor(states)] = 1.0
    return out


net = nn.Sequential(nn.Linear(N_S, 64), nn.ReLU(), nn.Linear(64, N_A))
target = nn.Sequential(nn.Linear(N_S, 64), nn.ReLU(), nn.Linear(64, N_A))
target.load_state_dict(net.state_dict())
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
memory = deque(maxlen=30000)
epsilon, steps = 1.0, 0
all_rewards = []


def choose(s):
    if random.random() < epsilon:
        return random.randrange(N_A)
    with torch.no_grad():
        return net(one_hot([s])).argmax().item()


def learn():
    s, a, r, s2, term = zip(*random.sample(memory, BATCH))
    q = net(one_hot(s)).gather(1, torch.tensor(a).unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        y = torch.tensor(r, dtype=torch.float32) + GAMMA * target(one_hot(s2)).max(1).values * (1 - torch.tensor(term, dtype=torch.float32))
    loss = nn.functional.smooth_l1_loss(q, y)
    opt.zero_grad()
    loss.backward()
    opt.step()


state, _ = env.reset(seed=0)
for ep in range(NUM_EPISODES):
    total = 0
    while True:
        action = choose(state)
        new_state, reward, terminated, truncated, _ = env.step(action)
        memory.append((state, action, reward, new_state, terminated))
        state = new_state
        total += reward
        steps += 1
        if len(memory) > 2000:
            learn()
        if steps % SYNC == 0:
            target.load_state_dict(net.state_dict())
        if terminated or truncated:
            env.reset()
            break
    epsilon = max(0.03, epsilon * 0.997)
    all_rewards.append(total)
    if ep % 50 == 0:
        print("episode %5d   reward (last 50) %7.1f   epsilon %.2f" % (ep, np.mean(all_rewards[-50:]), epsilon))

torch.save(net, "taxi.pt")
