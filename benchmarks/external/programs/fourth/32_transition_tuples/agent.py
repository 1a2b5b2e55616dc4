# Adapted from the PyTorch reinforcement learning (DQN) tutorial.
import math
import random
from collections import deque, namedtuple
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

device = torch.device("cpu")

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward"))


class ReplayMemory(object):
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        """Save a transition"""
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
    def __init__(self, n_observations, n_actions):
        self.n_observations = n_observations
        self.n_actions = n_actions
        self.policy_net = DQN(n_observations, n_actions).to(device)
        self.target_net = DQN(n_observations, n_actions).to(device)
        self.target_net.load_state_dict(self.policy_net.state_dict())
        self.optimizer = optim.AdamW(self.policy_net.parameters(), lr=LR, amsgrad=True)
        self.memory = ReplayMemory(10000)
        self.steps_done = 0

    def select_action(self, state, eps_threshold=None):
        if eps_threshold is None:
            eps_threshold = EPS_END + (EPS_START - EPS_END) * math.exp(-1.0 * self.steps_done / EPS_DECAY)
            self.steps_done += 1
        if random.random() > eps_threshold:
            with torch.no_grad():
                return self.policy_net(state).max(1).indices.view(1, 1)
        return torch.tensor([[random.randrange(self.n_actions)]], device=device, dtype=torch.long)

    def optimize_model(self, transitions=None):
        if transitions is None:
            if len(self.memory) < BATCH_SIZE:
                return
            transitions = self.memory.sample(BATCH_SIZE)
        batch = Transition(*zip(*transitions))

        non_final_mask = torch.tensor(
            tuple(map(lambda s: s is not None, batch.next_state)), device=device, dtype=torch.bool
        )
        state_batch = torch.cat(batch.state)
        action_batch = torch.cat(batch.action)
        reward_batch = torch.cat(batch.reward)

        state_action_values = self.policy_net(state_batch).gather(1, action_batch)

        next_state_values = torch.zeros(len(transitions), device=device)
        if non_final_mask.any():
            non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
            with torch.no_grad():
                next_state_values[non_final_mask] = self.target_net(non_final_next_states).max(1).values
        expected_state_action_values = (next_state_values * GAMMA) + reward_batch

        criterion = nn.SmoothL1Loss()
        loss = criterion(state_action_values, expected_state_action_values.unsqueeze(1))

        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(self.policy_net.parameters(), 100)
        self.optimizer.step()

    def soft_update(self):
        target_net_state_dict = self.target_net.state_dict()
        policy_net_state_dict = self.policy_net.state_dict()
        for key in policy_net_state_dict:
            target_net_state_dict[key] = policy_net_state_dict[key] * TAU + target_net_state_dict[key] * (1 - TAU)
        self.target_net.load_state_dict(target_net_state_dict)

    def train(self, env, max_steps):
        episode_durations = []
        total = 0
        while total < max_steps:
            state, info = env.reset()
            state = torch.tensor(state, dtype=torch.float32, device=device).unsqueeze(0)
            for t in count():
                action = self.select_action(state)
                observation, reward, terminated, truncated, _ = env.step(action.item())
                total += 1
                reward = torch.tensor([reward], dtype=torch.float32, device=device)
                done = terminated or truncated
                next_state = torch.tensor(observation, dtype=torch.float32, device=device).unsqueeze(0)

                self.memory.push(state, action, next_state, reward)

                if terminated:
                    next_state = None
                state = next_state

                self.optimize_model()
                self.soft_update()

                if done or total >= max_steps:
                    episode_durations.append(t + 1)
                    break
        return episode_durations


def to_transitions(obs, action, reward, next_obs, terminated):
    obs = torch.as_tensor(np.asarray(obs), dtype=torch.float32)
    next_obs = torch.as_tensor(np.asarray(next_obs), dtype=torch.float32)
    return [
        Transition(
            obs[i : i + 1],
            torch.tensor([[int(action[i])]]),
            None if terminated[i] else next_obs[i : i + 1],
            torch.tensor([float(reward[i])]),
        )
        for i in range(len(obs))
    ]


class Adapter:
    def __init__(self, trainer):
        self.trainer = trainer
        self.gamma = GAMMA
        self.observation_size = trainer.n_observations

    def q_values(self, obs):
        with torch.no_grad():
            return self.trainer.policy_net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.trainer.target_net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.trainer.soft_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.trainer.optimize_model(to_transitions(obs, action, reward, next_obs, terminated))

    def act(self, obs, epsilon):
        state = torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)
        return self.trainer.select_action(state, epsilon).item()

    def run(self, env, env_steps):
        self.trainer.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Trainer(4, 2))
