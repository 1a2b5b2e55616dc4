import random
import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
from collections import deque

random.seed(3)
np.random.seed(3)
torch.manual_seed(3)

env = gym.make("MountainCar-v0")
low = torch.tensor(env.observation_space.low)
high = torch.tensor(env.observation_space.high)

net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
tgt = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
tgt.load_state_dict(net.state_dict())
opt = torch.optim.Adam(net.parameters(), lr=1e-3)

buffer = deque(maxlen=50000)
gamma = 0.99
eps = 1.0
batch_size = 64
total_steps = 0
returns = []


def norm(s):
    s = torch.as_tensor(s, dtype=torch.float32)
    return 2 * (s - low) / (high - low) - 1


for episode in range(1, 1001):
    s, _ = env.reset()
    done = False
    ret = 0
    best_x = -1.2
    while not done:
        if random.random() < eps:
            a = env.action_space.sample()
        else:
            with torch.no_grad():
                a = net(norm(s)).argmax().item()
        s2, r, terminated, truncated, _ = env.step(a)
        done = terminated or truncated
        ret += r
        best_x = max(best_x, s2[0])
        buffer.append((s, a, r, s2, done))
        s = s2
        total_steps += 1

        if len(buffer) >= 2000:
            batch = random.sample(buffer, batch_size)
            bs = norm(np.stack([b[0] for b in batch]))
            ba = torch.tensor([b[1] for b in batch])
            br = torch.tensor([b[2] for b in batch], dtype=torch.float32)
            bs2 = norm(np.stack([b[3] for b in batch]))
            bd = torch.tensor([b[4] for b in batch], dtype=torch.float32)

            with torch.no_grad():
                y = br + gamma * (1 - bd) * tgt(bs2).max(dim=1).values
            q = net(bs)[torch.arange(batch_size), ba]
            loss = nn.functional.smooth_l1_loss(q, y)
            opt.zero_grad()
            loss.backward()
            opt.step()

        if total_steps % 1000 == 0:
            tgt.load_state_dict(net.state_dict())

    eps = max(0.05, eps * 0.995)
    returns.append(ret)
    if episode % 10 == 0:
        print(f"ep {episode}  return {ret:.0f}  mean {np.mean(returns[-50:]):.1f}  best x {best_x:.2f}  eps {eps:.2f}")

torch.save(net.state_dict(), "mountaincar.pt")
env.close()
