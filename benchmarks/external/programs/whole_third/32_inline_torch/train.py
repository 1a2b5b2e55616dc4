# DQN, everything in one go. Env: CartPole-v1
import random
import collections
import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import matplotlib.pyplot as plt

env = gym.make("CartPole-v1")
obs_dim = env.observation_space.shape[0]
act_dim = env.action_space.n

EPISODES = 1000
GAMMA = 0.98
LR = 0.0005
BATCH = 32
START = 1000
UPDATE_TARGET = 20      # episodes

model = nn.Sequential(
    nn.Linear(obs_dim, 128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Linear(128, act_dim),
)
target_model = nn.Sequential(
    nn.Linear(obs_dim, 128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Linear(128, act_dim),
)
target_model.load_state_dict(model.state_dict())

optimizer = torch.optim.Adam(model.parameters(), lr=LR)
criterion = nn.MSELoss()
replay = collections.deque(maxlen=50000)
all_scores = []
all_losses = []
eps = 1.0

for ep in range(EPISODES):
    state, info = env.reset()
    score = 0
    done = False

    while not done:
        # epsilon greedy
        if random.random() < eps:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                action = model(torch.from_numpy(state)).argmax().item()

        next_state, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        replay.append((state, action, reward, next_state, terminated))
        state = next_state
        score += reward

        if len(replay) < START:
            continue

        batch = random.sample(replay, BATCH)
        predicted = []
        wanted = []
        for (s, a, r, s2, term) in batch:
            q = model(torch.from_numpy(s))
            with torch.no_grad():
                q2 = target_model(torch.from_numpy(s2)).max()
            predicted.append(q[a])
            wanted.append(r if term else r + GAMMA * q2.item())

        predicted = torch.tensor(predicted, requires_grad=True)
        wanted = torch.tensor(wanted, dtype=torch.float32)

        loss = criterion(predicted, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        all_losses.append(loss.item())

    if ep % UPDATE_TARGET == 0:
        target_model.load_state_dict(model.state_dict())

    eps = max(0.01, eps - 0.9 / 300)
    all_scores.append(score)
    if ep % 10 == 0:
        l = np.mean(all_losses[-200:]) if all_losses else 0
        print("ep", ep, "score", score, "avg", round(float(np.mean(all_scores[-50:])), 1),
              "loss", round(float(l), 4), "eps", round(eps, 3))

env.close()
torch.save(model, "model_final.pt")

plt.subplot(211)
plt.plot(all_scores)
plt.ylabel("score")
plt.subplot(212)
plt.plot(all_losses)
plt.ylabel("loss")
plt.savefig("training.png")
plt.show()
