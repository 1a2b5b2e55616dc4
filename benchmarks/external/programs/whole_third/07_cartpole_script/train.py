import random
import time
import collections
import numpy as np
import torch
import torch.nn as nn
import gymnasium as gym

ENV_NAME = "CartPole-v1"
EPISODES = 1000
GAMMA = 0.99
LR = 1e-3
BATCH = 64
BUFFER = 100_000
START_AFTER = 1000
TARGET_EVERY = 1000
EPS_START, EPS_END, EPS_DECAY = 1.0, 0.05, 0.995

torch.manual_seed(123)
np.random.seed(123)
random.seed(123)

env = gym.make(ENV_NAME)
n_in = env.observation_space.shape[0]
n_out = env.action_space.n

net = nn.Sequential(
    nn.Linear(n_in, 128), nn.ReLU(),
    nn.Linear(128, 128), nn.ReLU(),
    nn.Linear(128, n_out),
)
tgt = nn.Sequential(
    nn.Linear(n_in, 128), nn.ReLU(),
    nn.Linear(128, 128), nn.ReLU(),
    nn.Linear(128, n_out),
)
tgt.load_state_dict(net.state_dict())
opt = torch.optim.Adam(net.parameters(), lr=LR)

buffer = collections.deque(maxlen=BUFFER)
epsilon = EPS_START
frame = 0
best = -float("inf")
rewards_log = []
start = time.time()

for episode in range(1, EPISODES + 1):
    state, _ = env.reset()
    ep_reward = 0.0

    while True:
        if random.random() < epsilon:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                action = int(net(torch.from_numpy(state).unsqueeze(0)).argmax())

        next_state, reward, terminated, truncated, _ = env.step(action)
        buffer.append((state, action, reward, terminated, next_state))
        state = next_state
        ep_reward += reward
        frame += 1

        if len(buffer) > START_AFTER:
            batch = random.sample(buffer, BATCH)
            states = torch.from_numpy(np.array([t[0] for t in batch]))
            actions = torch.tensor([t[1] for t in batch])
            rewards = torch.tensor([t[2] for t in batch], dtype=torch.float32)
            dones = torch.tensor([t[3] for t in batch], dtype=torch.bool)
            next_states = torch.from_numpy(np.array([t[4] for t in batch]))

            q = net(states).gather(1, actions.unsqueeze(1))
            with torch.no_grad():
                q_next = tgt(next_states).max(dim=1)[0]
                q_next[dones] = 0.0
                expected = rewards + GAMMA * q_next

            loss = ((q - expected) ** 2).mean()

            opt.zero_grad()
            loss.backward()
            opt.step()

        if frame % TARGET_EVERY == 0:
            tgt.load_state_dict(net.state_dict())

        if terminated or truncated:
            break

    epsilon = min(EPS_END, epsilon * EPS_DECAY)
    rewards_log.append(ep_reward)

    mean_100 = np.mean(rewards_log[-100:])
    if episode % 10 == 0:
        print(f"{frame:7d} frames, {episode:4d} games, mean reward {mean_100:.2f}, "
              f"eps {epsilon:.2f}, {frame / (time.time() - start):.0f} f/s")
    if len(rewards_log) >= 100 and mean_100 > best:
        best = mean_100
        torch.save(net.state_dict(), ENV_NAME + "-best.dat")
    if mean_100 >= 475 and len(rewards_log) >= 100:
        print("Solved in", episode, "games!")
        break

env.close()
