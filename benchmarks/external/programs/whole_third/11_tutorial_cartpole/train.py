# DQN for CartPole after the well-known PyTorch tutorial
import gymnasium as gym
import math
import random
import sys
from collections import namedtuple, deque

import torch
import torch.nn as nn
import torch.optim as optim
import torch.nn.functional as F

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward'))


class ReplayMemory(object):

    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):

    def __init__(self, n_observations, n_actions):
        super(DQN, self).__init__()
        self.layer1 = nn.Linear(n_observations, 128)
        self.layer2 = nn.Linear(128, 128)
        self.layer3 = nn.Linear(128, n_actions)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


BATCH_SIZE = 128
GAMMA = 0.99
EPS_START = 0.9
EPS_END = 0.05
EPS_DECAY = 1000
TAU = 0.005
LR = 1e-4


class Trainer:
    def __init__(self, env):
        self.env = env
        state, _ = env.reset()
        n_obs, n_actions = len(state), env.action_space.n
        self.policy_net = DQN(n_obs, n_actions).to(device)
        self.target_net = DQN(n_obs, n_actions).to(device)
        self.target_net.load_state_dict(self.policy_net.state_dict())
        self.optimizer = optim.AdamW(self.policy_net.parameters(), lr=LR, amsgrad=True)
        self.memory = ReplayMemory(10000)
        self.steps_done = 0
        self.durations = []

    def select_action(self, state):
        eps = EPS_END + (EPS_START - EPS_END) * math.exp(-self.steps_done / EPS_DECAY)
        self.steps_done += 1
        if random.random() > eps:
            with torch.no_grad():
                return self.policy_net(state).max(1)[1].view(1, 1)
        return torch.tensor([[self.env.action_space.sample()]], device=device, dtype=torch.long)

    def optimize_model(self):
        if len(self.memory) < BATCH_SIZE:
            return
        batch = Transition(*zip(*self.memory.sample(BATCH_SIZE)))

        non_final_mask = torch.tensor([s is not None for s in batch.next_state], device=device, dtype=torch.bool)
        non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
        state_batch = torch.cat(batch.state)
        action_batch = torch.cat(batch.action)
        reward_batch = torch.cat(batch.reward)

        state_action_values = self.policy_net(state_batch).gather(1, action_batch)

        next_state_values = torch.zeros(BATCH_SIZE, device=device)
        with torch.no_grad():
            next_state_values[non_final_mask] = self.target_net(non_final_next_states).max(1)[0]
        expected = (next_state_values * GAMMA) + reward_batch

        loss = F.smooth_l1_loss(state_action_values, expected.unsqueeze(1))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(self.policy_net.parameters(), 100)
        self.optimizer.step()

    def update_target(self):
        target = self.target_net.state_dict()
        policy = self.policy_net.state_dict()
        for key in policy:
            target[key] = policy[key] * TAU + target[key] * (1 - TAU)
        self.target_net.load_state_dict(target)

    def to_tensor(self, obs):
        return torch.tensor(obs, dtype=torch.float32, device=device).unsqueeze(0)

    def run(self, num_episodes):
        for i_episode in range(num_episodes):
            obs, _ = self.env.reset()
            state = self.to_tensor(obs)
            t, done = 0, False
            while not done:
                action = self.select_action(state)
                obs, reward, terminated, truncated, _ = self.env.step(action.item())
                reward = torch.tensor([reward], device=device, dtype=torch.float32)
                state = self.to_tensor(obs)
                next_state = None if terminated else state

                self.memory.push(state, action, next_state, reward)

                self.optimize_model()
                self.update_target()
                done = terminated or truncated
                t += 1
            self.durations.append(t)
            if (i_episode + 1) % 20 == 0:
                last = self.durations[-20:]
                print("episode %d, mean duration of the last 20: %.1f" % (i_episode + 1, sum(last) / len(last)))
                sys.stdout.flush()


if __name__ == "__main__":
    env = gym.make("CartPole-v1")
    trainer = Trainer(env)
    trainer.run(600 if torch.cuda.is_available() else 400)
    torch.save(trainer.policy_net.state_dict(), "policy.pt")
    with open("durations.txt", "w") as f:
        f.write("\n".join(map(str, trainer.durations)))
    print('Complete')
