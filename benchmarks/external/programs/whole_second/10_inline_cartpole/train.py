import gymnasium as gym
import torch
import numpy as np
import random
import matplotlib.pyplot as plt

env = gym.make("CartPole-v1")
torch.manual_seed(3)
random.seed(3)

policy = torch.nn.Sequential(
    torch.nn.Linear(4, 128), torch.nn.ReLU(),
    torch.nn.Linear(128, 128), torch.nn.ReLU(),
    torch.nn.Linear(128, 2),
)
target = torch.nn.Sequential(
    torch.nn.Linear(4, 128), torch.nn.ReLU(),
    torch.nn.Linear(128, 128), torch.nn.ReLU(),
    torch.nn.Linear(128, 2),
)
target.load_state_dict(policy.state_dict())
target.eval()

optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=100, gamma=0.5)
loss_fn = torch.nn.SmoothL1Loss()

buffer = []
buffer_size = 20000
batch_size = 64
gamma = 0.99
epsilon = 1.0
num_episodes = 600
returns = []
step_count = 0

for episode in range(num_episodes):
    state, info = env.reset()
    done = False
    total = 0
    while not done:
        if random.random() < epsilon:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                action = int(torch.argmax(policy(torch.tensor(state))))
        next_state, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        buffer.append((state, action, reward, next_state, terminated))
        if len(buffer) > buffer_size:
            del buffer[0]
        state = next_state
        total += reward
        step_count += 1

        if len(buffer) > 500:
            sample = random.sample(buffer, batch_size)
            s = torch.tensor(np.array([x[0] for x in sample]))
            a = torch.tensor([x[1] for x in sample])
            r = torch.tensor([x[2] for x in sample])
            ns = torch.tensor(np.array([x[3] for x in sample]))
            t = torch.tensor([x[4] for x in sample])
            q = policy(s).gather(1, a[:, None])[:, 0]
            with torch.no_grad():
                y = r + gamma * target(ns).max(1).values * (~t)
            loss = loss_fn(q, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()

        if step_count % 400 == 0:
            target.load_state_dict(policy.state_dict())

    epsilon = max(0.02, epsilon * 0.985)
    returns.append(total)
    if episode % 20 == 0:
        print(f"Episode {episode:4d}  average {np.mean(returns[-20:]):6.1f}  epsilon {epsilon:.2f}")

plt.plot(returns)
plt.xlabel("episode")
plt.savefig("returns.png")
