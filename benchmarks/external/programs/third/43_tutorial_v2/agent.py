import math
import random
from collections import namedtuple, deque
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
import torch.nn.functional as F

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Transition = namedtuple('Transition', ('state', 'action', 'reward', 'next_state', 'done'))

BATCH_SIZE = 128
GAMMA = 0.99
EPS_START = 0.9
EPS_END = 0.05
EPS_DECAY = 800
TARGET_UPDATE = 200
LR = 3e-4

policy_net = None
target_net = None
optimizer = None
memory = None
steps_done = 0


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
        self.n_actions = n_actions
        self.fc1 = nn.Linear(n_observations, 128)
        self.fc2 = nn.Linear(128, 128)
        self.fc3 = nn.Linear(128, n_actions)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def setup(n_observations, n_actions):
    global policy_net, target_net, optimizer, memory, steps_done
    policy_net = DQN(n_observations, n_actions).to(device)
    target_net = DQN(n_observations, n_actions).to(device)
    target_net.load_state_dict(policy_net.state_dict())
    optimizer = optim.Adam(policy_net.parameters(), lr=LR)
    memory = ReplayMemory(10000)
    steps_done = 0


def select_action(state, eps_threshold):
    sample = random.random()
    if sample > eps_threshold:
        with torch.no_grad():
            return policy_net(state).max(1)[1].view(1, 1)
    else:
        return torch.tensor([[random.randrange(policy_net.n_actions)]], device=device, dtype=torch.long)


def optimize_model(transitions):
    batch = Transition(*zip(*transitions))
    state_batch = torch.cat(batch.state)
    action_batch = torch.cat(batch.action)
    reward_batch = torch.cat(batch.reward)
    next_state_batch = torch.cat(batch.next_state)
    done_batch = torch.cat(batch.done)

    # Q(s_t, a)
    state_action_values = policy_net(state_batch).gather(1, action_batch)

    # V(s_{t+1})
    next_state_values = target_net(next_state_batch).max(1)[0].detach()
    expected_state_action_values = reward_batch + GAMMA * next_state_values * (1 - done_batch)

    loss = ((state_action_values - expected_state_action_values) ** 2).mean()

    optimizer.zero_grad()
    loss.backward()
    for param in policy_net.parameters():
        param.grad.data.clamp_(-1, 1)
    optimizer.step()


def update_target():
    target_net.load_state_dict(policy_net.state_dict())


def to_state(obs):
    return torch.tensor(np.asarray(obs), dtype=torch.float32, device=device).unsqueeze(0)


def push(obs, action, reward, next_obs, terminated):
    memory.push(to_state(obs), torch.tensor([[int(action)]], device=device),
                torch.tensor([float(reward)], device=device), to_state(next_obs),
                torch.tensor([float(terminated)], device=device))


def training(env, num_steps):
    global steps_done
    first = steps_done
    for i_episode in count():
        obs, _ = env.reset()
        for t in count():
            eps = EPS_END + (EPS_START - EPS_END) * math.exp(-1. * steps_done / EPS_DECAY)
            action = select_action(to_state(obs), eps).item()
            next_obs, reward, terminated, truncated, _ = env.step(action)
            steps_done += 1
            push(obs, action, reward, next_obs, terminated)
            obs = next_obs
            if len(memory) >= BATCH_SIZE:
                optimize_model(memory.sample(BATCH_SIZE))
            if steps_done % TARGET_UPDATE == 0:
                update_target()
            if steps_done - first >= num_steps:
                return
            if terminated or truncated:
                break


class Adapter:
    gamma = GAMMA
    observation_size = 4

    def __init__(self):
        setup(4, 2)
        self.state = (policy_net, target_net, optimizer, memory, steps_done)

    def _enter(self):
        global policy_net, target_net, optimizer, memory, steps_done
        policy_net, target_net, optimizer, memory, steps_done = self.state

    def q_values(self, obs):
        self._enter()
        with torch.no_grad():
            return policy_net(torch.tensor(np.asarray(obs), dtype=torch.float32, device=device)).cpu().numpy()

    def target_q_values(self, obs):
        self._enter()
        with torch.no_grad():
            return target_net(torch.tensor(np.asarray(obs), dtype=torch.float32, device=device)).cpu().numpy()

    def sync_target(self):
        self._enter()
        update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self._enter()
        optimize_model([
            Transition(to_state(o), torch.tensor([[int(a)]], device=device), torch.tensor([float(r)], device=device),
                       to_state(n), torch.tensor([float(d)], device=device))
            for o, a, r, n, d in zip(obs, action, reward, next_obs, terminated)])

    def act(self, obs, epsilon):
        self._enter()
        return int(select_action(to_state(obs), epsilon).item())

    def run(self, env, env_steps):
        self._enter()
        training(env, env_steps)
        self.state = (policy_net, target_net, optimizer, memory, steps_done)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter()
