import random
from collections import deque
import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn

# settings live in a dictionary so that I can dump them together with the model
cfg = {
    "env": "CartPole-v1", "episodes": 600, "gamma": 0.99, "lr": 0.0005,
    "batch": 16, "memory": 5000, "eps": [1.0, 0.02, 0.985], "refresh": 10,
}

env = gym.make(cfg["env"])
model = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))
older = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))
older.load_state_dict(model.state_dict())
opt = torch.optim.Adam(model.parameters(), lr=cfg["lr"])
loss_fn = nn.MSELoss()

keys = ("state", "action", "reward", "next", "fin")
memory = {k: deque(maxlen=cfg["memory"]) for k in keys}


def remember(*values):
    for k, v in zip(keys, values):
        memory[k].append(v)


def recall(n):
    for i in random.sample(range(len(memory["state"])), n):
        yield [memory[k][i] for k in keys]


def vec(s):
    return torch.FloatTensor(s).reshape(1, -1)


def study():
    total = 0.0
    for state, action, reward, nxt, fin in recall(cfg["batch"]):
        with torch.no_grad():
            future = older(vec(nxt)).max().item()
        goal = reward + cfg["gamma"] * future
        prediction = model(vec(state))
        wanted = prediction.detach().clone()
        wanted[0][action] = goal
        loss = loss_fn(prediction, wanted)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    return total / cfg["batch"]


eps, eps_low, eps_rate = cfg["eps"]
lengths = []
for n in range(1, cfg["episodes"] + 1):
    state = env.reset()[0]
    steps, losses = 0, []
    while True:
        if random.random() < eps:
            action = random.choice([0, 1])
        else:
            with torch.no_grad():
                action = int(torch.argmax(model(vec(state))))
        nxt, reward, terminated, truncated, _ = env.step(action)
        remember(state.tolist(), action, reward, nxt.tolist(), terminated)
        state = nxt
        steps += 1
        if len(memory["state"]) >= 300 and steps % 2 == 0:
            losses.append(study())
        if terminated or truncated:
            break
    lengths.append(steps)
    eps = max(eps_low, eps * eps_rate)
    if n % cfg["refresh"] == 0:
        older.load_state_dict(model.state_dict())
        print(n, "steps", steps, "mean", np.mean(lengths[-50:]), "loss", np.mean(losses) if losses else None)

torch.save({"cfg": cfg, "weights": model.state_dict()}, "cartpole_small.pt")
