import random
from collections import namedtuple
from itertools import count

import gymnasium as gym
import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple("Transition", "state action reward next_state")

env = gym.make("Acrobot-v1")
device = torch.device("cpu")


class ReplayMemory:
    def __init__(self, capacity):
        self.capacity = capacity
        self.memory = []
        self.position = 0

    def push(self, *args):
        if len(self.memory) < self.capacity:
            self.memory.append(None)
        self.memory[self.position] = Transition(*args)
        self.position = (self.position + 1) % self.capacity

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 64)
        self.norm = nn.LayerNorm(64)
        self.fc2 = nn.Linear(64, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x = F.silu(self.norm(self.fc1(x)))
        x = F.silu(self.fc2(x))
        return self.head(x)


BATCH_SIZE = 64
GAMMA = 0.99
EPS_START, EPS_END, EPS_FRAMES = 1.0, 0.02, 30000
TARGET_UPDATE = 5        # episodes
WARMUP = 1000

policy_net = Net().to(device)
target_net = Net().to(device)
target_net.load_state_dict(policy_net.state_dict())
target_net.eval()
optimizer = torch.optim.RMSprop(policy_net.parameters(), lr=3e-4, alpha=0.95, eps=0.01)
memory = ReplayMemory(50000)
frames = 0


def to_tensor(obs):
    return torch.tensor(obs, dtype=torch.float32, device=device)[None]


def select_action(state):
    global frames
    eps = EPS_END + (EPS_START - EPS_END) * max(0.0, 1 - frames / EPS_FRAMES)
    frames += 1
    if random.random() < eps:
        return torch.tensor([[random.randrange(3)]], device=device)
    with torch.no_grad():
        return policy_net(state).max(1)[1].view(1, 1)


def optimize_model():
    if len(memory) < WARMUP:
        return
    batch = Transition(*zip(*memory.sample(BATCH_SIZE)))
    non_final_mask = torch.tensor([s is not None for s in batch.next_state], dtype=torch.bool, device=device)
    next_values = torch.zeros(BATCH_SIZE, device=device)
    if non_final_mask.any():
        non_final = torch.cat([s for s in batch.next_state if s is not None])
        with torch.no_grad():
            chosen = policy_net(non_final).argmax(1, keepdim=True)
            next_values[non_final_mask] = target_net(non_final).gather(1, chosen)[:, 0]
    expected = torch.cat(batch.reward) + GAMMA * next_values
    values = policy_net(torch.cat(batch.state)).gather(1, torch.cat(batch.action))
    loss = F.smooth_l1_loss(values, expected[:, None])

    optimizer.zero_grad()
    loss.backward()
    for param in policy_net.parameters():
        param.grad.data.clamp_(-1, 1)
    optimizer.step()


def main():
    lengths = []
    for i_episode in range(500):
        state = to_tensor(env.reset()[0])
        for t in count(1):
            action = select_action(state)
            obs, reward, terminated, truncated, _ = env.step(action.item())
            following = to_tensor(obs)
            memory.push(state, action, torch.tensor([reward], dtype=torch.float32), None if terminated else following)
            state = following
            optimize_model()
            if terminated or truncated:
                lengths.append(t)
                break
        if i_episode % TARGET_UPDATE == 0:
            target_net.load_state_dict(policy_net.state_dict())
        if (i_episode + 1) % 10 == 0:
            recent = lengths[-10:]
            print(f"{i_episode + 1:4d} episodes, {frames} frames, mean length of the last 10: {sum(recent) / len(recent):.1f}")
    torch.save(policy_net.state_dict(), "acrobot_policy.pt")
    env.close()


main()
