import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import collections

env = gym.make("LunarLander-v3")
device = "cuda" if torch.cuda.is_available() else "cpu"


class DQN(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(8, 256)
        self.l2 = nn.Linear(256, 128)
        self.out = nn.Linear(128, 4)

    def forward(self, x):
        x = torch.relu(self.l1(x))
        x = torch.relu(self.l2(x))
        return self.out(x)


q_net = DQN().to(device)
q_target = DQN().to(device)
q_target.load_state_dict(q_net.state_dict())
adam = torch.optim.Adam(q_net.parameters(), lr=3e-4)

memory = collections.deque(maxlen=100000)
batch_size = 64
gamma = 0.99
eps, eps_final, eps_rate = 1.0, 0.02, 0.993
frame = 0
history = []

for ep in range(700):
    state, _ = env.reset()
    score = 0.0
    done = False
    while not done:
        frame += 1
        if np.random.random() < eps:
            action = np.random.randint(4)
        else:
            with torch.no_grad():
                action = q_net(torch.as_tensor(state, device=device)).argmax().item()
        nstate, reward, terminated, truncated, _ = env.step(action)
        memory.append((state, action, reward, nstate, terminated))
        state = nstate
        score += reward
        done = terminated or truncated

        if len(memory) > 5000 and frame % 4 == 0:
            idx = np.random.randint(0, len(memory), batch_size)
            batch = [memory[i] for i in idx]
            S, A, R, S2, D = [np.array(c) for c in zip(*batch)]
            S = torch.as_tensor(S, device=device)
            S2 = torch.as_tensor(S2, device=device)
            A = torch.as_tensor(A, device=device).long()
            R = torch.as_tensor(R, device=device).float()
            D = torch.as_tensor(D, device=device).float()
            with torch.no_grad():
                y = R + gamma * (1 - D) * q_target(S2).max(1)[0]
            delta = y - q_net(S).gather(1, A.unsqueeze(1)).squeeze(1)
            delta = delta.clamp(-1, 1)
            loss = delta.pow(2).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()

        if frame % 2000 == 0:
            q_target.load_state_dict(q_net.state_dict())

    eps = max(eps_final, eps * eps_rate)
    history.append(score)
    print("Episode", ep, "Score", round(score, 1), "Mean", round(np.mean(history[-50:]), 1), "eps", round(eps, 3))
    if np.mean(history[-100:]) > 200 and len(history) >= 100:
        print("Solved!")
        break

torch.save(q_net.state_dict(), "lander.pth")
