import math
import random
from collections import namedtuple, deque
import gymnasium as gym
import matplotlib
import matplotlib.pyplot as plt
import torch
import torch.nn as nn
import torch.optim as optim

Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward'))

BATCH_SIZE = 100
GAMMA = 0.99
EPS_START, EPS_END, EPS_DECAY = 0.95, 0.04, 8000
TARGET_UPDATE = 3      # in episodes
NUM_EPISODES = 350

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class ReplayMemory:
    def __init__(self, capacity):
        self.capacity, self.memory, self.position = capacity, [], 0

    def push(self, *args):
        if len(self.memory) < self.capacity:
            self.memory.append(None)
        self.memory[self.position] = Transition(*args)
        self.position = (self.position + 1) % self.capacity

    def sample(self, n):
        return random.sample(self.memory, n)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.seq = nn.Sequential(nn.Linear(inputs, 80), nn.ELU(), nn.Linear(80, 80), nn.ELU())
        self.head = nn.Linear(80, outputs)

    def forward(self, x):
        return self.head(self.seq(x))


env = gym.make("Acrobot-v1")
n_actions = env.action_space.n
policy_net = DQN(6, n_actions).to(device)
target_net = DQN(6, n_actions).to(device)
target_net.load_state_dict(policy_net.state_dict())
target_net.eval()
optimizer = optim.Adam(policy_net.parameters(), lr=8e-4)
memory = ReplayMemory(30000)
steps_done = 0
scores = []


def to_tensor(obs):
    return torch.tensor(obs, device=device, dtype=torch.float32)[None, :]


def select_action(state):
    global steps_done
    sample = random.random()
    eps = EPS_END + (EPS_START - EPS_END) * math.exp(-steps_done / EPS_DECAY)
    steps_done += 1
    if sample < eps:
        return torch.tensor([[random.randrange(n_actions)]], device=device)
    with torch.no_grad():
        return policy_net(state).max(1)[1].view(1, 1)


def optimize_model():
    if len(memory) < 10 * BATCH_SIZE:
        return
    batch = Transition(*zip(*memory.sample(BATCH_SIZE)))
    non_final_mask = torch.tensor([s is not None for s in batch.next_state], device=device)
    non_final_next = torch.cat([s for s in batch.next_state if s is not None])
    states, actions, rewards = torch.cat(batch.state), torch.cat(batch.action), torch.cat(batch.reward)

    q = policy_net(states).gather(1, actions)

    # Double DQN
    next_values = torch.zeros(BATCH_SIZE, device=device)
    with torch.no_grad():
        arg = policy_net(non_final_next).argmax(1, keepdim=True)
        next_values[non_final_mask] = target_net(non_final_next).gather(1, arg).squeeze(1)
    expected = (next_values * GAMMA + rewards).unsqueeze(1)

    loss = nn.functional.smooth_l1_loss(q, expected)
    optimizer.zero_grad()
    loss.backward()
    for param in policy_net.parameters():
        param.grad.data.clamp_(-1, 1)
    optimizer.step()


for i_episode in range(NUM_EPISODES):
    obs, _ = env.reset()
    state = to_tensor(obs)
    score = 0
    while True:
        action = select_action(state)
        obs, reward, terminated, truncated, _ = env.step(action.item())
        score += reward
        next_state = to_tensor(obs)
        memory.push(state, action, None if terminated else next_state,
                    torch.tensor([reward], device=device, dtype=torch.float32))
        state = next_state
        optimize_model()
        if terminated or truncated:
            break
    scores.append(score)
    if i_episode % TARGET_UPDATE == 0:
        target_net.load_state_dict(policy_net.state_dict())
    print(i_episode, score)

plt.figure(2)
plt.title('Result')
plt.plot(torch.tensor(scores).numpy())
plt.savefig('acrobot.png')
