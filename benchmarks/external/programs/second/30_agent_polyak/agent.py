import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

BUFFER_SIZE = int(1e4)
BATCH_SIZE = 64
GAMMA = 0.99
TAU = 1e-2
LR = 5e-4
UPDATE_EVERY = 2


# model.py
class QNetwork(nn.Module):
    def __init__(self, state_size, action_size, fc1_units=64, fc2_units=64):
        super().__init__()
        self.fc1 = nn.Linear(state_size, fc1_units)
        self.fc2 = nn.Linear(fc1_units, fc2_units)
        self.fc3 = nn.Linear(fc2_units, action_size)

    def forward(self, state):
        x = F.relu(self.fc1(state))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


# dqn_agent.py
class ReplayBuffer:
    def __init__(self, buffer_size, batch_size):
        self.memory = deque(maxlen=buffer_size)
        self.batch_size = batch_size
        self.experience = namedtuple("Experience", ["state", "action", "reward", "next_state", "done"])

    def add(self, *args):
        self.memory.append(self.experience(*args))

    def sample(self, n=None):
        experiences = random.sample(self.memory, k=n or self.batch_size)
        states = torch.from_numpy(np.vstack([e.state for e in experiences])).float()
        actions = torch.from_numpy(np.vstack([e.action for e in experiences])).long()
        rewards = torch.from_numpy(np.vstack([e.reward for e in experiences])).float()
        next_states = torch.from_numpy(np.vstack([e.next_state for e in experiences])).float()
        dones = torch.from_numpy(np.vstack([e.done for e in experiences]).astype(np.uint8)).float()
        return states, actions, rewards, next_states, dones

    def __len__(self):
        return len(self.memory)


class Agent:
    def __init__(self, state_size, action_size):
        self.state_size = state_size
        self.action_size = action_size
        self.qnetwork_local = QNetwork(state_size, action_size)
        self.qnetwork_target = QNetwork(state_size, action_size)
        self.qnetwork_target.load_state_dict(self.qnetwork_local.state_dict())
        self.optimizer = optim.Adam(self.qnetwork_local.parameters(), lr=LR)
        self.memory = ReplayBuffer(BUFFER_SIZE, BATCH_SIZE)
        self.t_step = 0

    def step(self, state, action, reward, next_state, done):
        self.memory.add(state, action, reward, next_state, done)
        self.t_step = (self.t_step + 1) % UPDATE_EVERY
        if self.t_step == 0 and len(self.memory) > BATCH_SIZE:
            self.learn(self.memory.sample(), GAMMA)

    def act(self, state, eps=0.0):
        state = torch.from_numpy(np.asarray(state)).float().unsqueeze(0)
        self.qnetwork_local.eval()
        with torch.no_grad():
            action_values = self.qnetwork_local(state)
        self.qnetwork_local.train()
        if random.random() > eps:
            return int(np.argmax(action_values.numpy()))
        return random.choice(range(self.action_size))

    def learn(self, experiences, gamma):
        states, actions, rewards, next_states, dones = experiences
        best = self.qnetwork_local(next_states).detach().argmax(1, keepdim=True)
        q_targets_next = self.qnetwork_target(next_states).detach().gather(1, best)
        q_targets = rewards + gamma * q_targets_next * (1 - dones)
        q_expected = self.qnetwork_local(states).gather(1, actions)
        loss = F.mse_loss(q_expected, q_targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.update_target()

    def update_target(self):
        self.soft_update(self.qnetwork_target, self.qnetwork_local, TAU)

    def soft_update(self, local_model, target_model, tau):
        for target_param, local_param in zip(target_model.parameters(), local_model.parameters()):
            target_param.data.copy_(tau * local_param.data + (1.0 - tau) * target_param.data)


def dqn(agent, env, n_steps, eps_start=1.0, eps_end=0.02, eps_decay=0.999):
    eps = eps_start
    state, _ = env.reset()
    for _ in range(n_steps):
        action = agent.act(state, eps)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.step(state, action, reward, next_state, terminated)
        state = next_state
        eps = max(eps_end, eps_decay * eps)
        if terminated or truncated:
            state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = GAMMA
        self.observation_size = agent.state_size

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.qnetwork_local(torch.as_tensor(obs).float()).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.qnetwork_target(torch.as_tensor(obs).float()).numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        column = lambda x: torch.as_tensor(np.asarray(x)).reshape(len(obs), -1)
        batch = (column(obs).float(), column(action).long(), column(reward).float())
        self.agent.learn(batch + (column(next_obs).float(), column(terminated).float()), GAMMA)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.add(np.array(obs), action, reward, np.array(next_obs), terminated)

    def sample(self, n):
        states, actions, rewards, next_states, dones = self.agent.memory.sample(n)
        return states.numpy(), actions.numpy()[:, 0], rewards.numpy()[:, 0], next_states.numpy(), dones.numpy()[:, 0]

    def run(self, env, env_steps):
        dqn(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(4, 2))
