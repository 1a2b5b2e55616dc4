import math, random
from collections import namedtuple, deque
from itertools import count
import gymnasium as gym
import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple('Transition', ['state', 'action', 'next_state', 'reward'])


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque(maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, k):
        return random.sample(self.memory, k)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, n_obs, n_act):
        super(DQN, self).__init__()
        self.fc1 = nn.Linear(n_obs, 128)
        self.fc2 = nn.Linear(128, 128)
        self.fc3 = nn.Linear(128, n_act)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


BATCH_SIZE = 64
GAMMA = 0.99
EPS_START, EPS_END, EPS_DECAY = 1.0, 0.02, 20000
TARGET_UPDATE = 2000
LR = 5e-4

env = gym.make('LunarLander-v3')
policy_net = DQN(8, 4)
target_net = DQN(8, 4)
target_net.load_state_dict(policy_net.state_dict())
target_net.eval()
optimizer = torch.optim.Adam(policy_net.parameters(), lr=LR)
memory = ReplayMemory(50000)
steps_done = 0


def select_action(state):
    global steps_done
    eps = EPS_END + (EPS_START - EPS_END) * math.exp(-1. * steps_done / EPS_DECAY)
    steps_done += 1
    if random.random() > eps:
        with torch.no_grad():
            return policy_net(state).max(1)[1].view(1, 1)
    return torch.tensor([[random.randrange(4)]], dtype=torch.long)


def optimize_model():
    if len(memory) < 1000:
        return
    transitions = memory.sample(BATCH_SIZE)
    batch = Transition(*zip(*transitions))
    non_final_mask = torch.tensor(tuple(map(lambda s: s is not None, batch.next_state)), dtype=torch.bool)
    non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
    state_batch = torch.cat(batch.state)
    action_batch = torch.cat(batch.action)
    reward_batch = torch.cat(batch.reward)

    q_values = policy_net(state_batch).gather(1, action_batch)
    next_values = torch.zeros(BATCH_SIZE)
    next_values[non_final_mask] = target_net(non_final_next_states).max(1)[0].detach()
    expected = reward_batch + GAMMA * next_values

    loss = F.smooth_l1_loss(q_values, expected.unsqueeze(1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy_net.parameters(), 10.0)
    optimizer.step()


def main():
    for i_episode in range(1000):
        obs, _ = env.reset()
        state = torch.tensor(obs).unsqueeze(0)
        total = 0
        for t in count():
            action = select_action(state)
            obs, reward, terminated, truncated, _ = env.step(action.item())
            total += reward
            next_state = None if terminated else torch.tensor(obs).unsqueeze(0)
            memory.push(state, action, next_state, torch.tensor([reward], dtype=torch.float32))
            state = next_state
            optimize_model()
            if (t + 1) % TARGET_UPDATE == 0:
                target_net.load_state_dict(policy_net.state_dict())
            if terminated or truncated:
                break
        print(f'Episode {i_episode}\tReward {total:.1f}\tSteps {steps_done}')
    torch.save(policy_net.state_dict(), 'policy.pt')


if __name__ == '__main__':
    main()
