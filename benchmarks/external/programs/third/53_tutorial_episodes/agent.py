import copy
import math
import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward'))

BATCH_SIZE = 64
GAMMA = 0.98
EPS_START = 0.95
EPS_END = 0.03
EPS_DECAY = 1200
LR = 8e-4
UPDATES_PER_STEP = 1
TARGET_EVERY = 4  # episodes


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque(maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class LogCoshLoss(nn.Module):
    def forward(self, prediction, target):
        d = prediction - target
        return (d + nn.functional.softplus(-2.0 * d) - math.log(2.0)).mean()


class Learner:
    def __init__(self, n_observations, n_actions):
        self.n_observations, self.n_actions = n_observations, n_actions
        self.policy_net = nn.Sequential(
            nn.Linear(n_observations, 80), nn.SELU(), nn.Linear(80, 80), nn.SELU(), nn.Linear(80, n_actions))
        nn.init.uniform_(self.policy_net[-1].weight, -3e-3, 3e-3)
        self.target_net = copy.deepcopy(self.policy_net).requires_grad_(False)
        self.optimizer = optim.NAdam(self.policy_net.parameters(), lr=LR)
        self.criterion = LogCoshLoss()
        self.memory = ReplayMemory(10000)
        self.steps_done = 0
        self.episodes_done = 0

    def select_action(self, state, eps_threshold):
        if random.random() > eps_threshold:
            with torch.no_grad():
                return self.policy_net(state).argmax(dim=1, keepdim=True)
        return torch.tensor([[random.randrange(self.n_actions)]])

    def optimize_model(self, transitions):
        batch = Transition(*zip(*transitions))
        non_final = torch.tensor([s is not None for s in batch.next_state])
        next_values = torch.zeros(len(transitions))
        if non_final.any():
            next_states = torch.cat([s for s in batch.next_state if s is not None])
            next_values[non_final] = self.target_net(next_states).amax(dim=1)
        expected = torch.cat(batch.reward) + GAMMA * next_values

        values = self.policy_net(torch.cat(batch.state)).gather(1, torch.cat(batch.action))
        loss = self.criterion(values, expected.unsqueeze(1))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.policy_net.parameters(), 10.0)
        self.optimizer.step()

    def update_target(self):
        self.target_net.load_state_dict(self.policy_net.state_dict())

    def push(self, obs, action, reward, next_obs, terminated):
        self.memory.push(to_state(obs), torch.tensor([[int(action)]]), None if terminated else to_state(next_obs),
                         torch.tensor([float(reward)]))

    def end_of_episode(self, length):
        """All updates of an episode happen after it has ended."""
        self.episodes_done += 1
        if len(self.memory) >= 2 * BATCH_SIZE:
            for _ in range(UPDATES_PER_STEP * length):
                self.optimize_model(self.memory.sample(BATCH_SIZE))
        if self.episodes_done % TARGET_EVERY == 0:
            self.update_target()

    def train(self, env, num_steps):
        obs, _ = env.reset()
        length = 0
        for _ in range(num_steps):
            eps = EPS_END + (EPS_START - EPS_END) * math.exp(-self.steps_done / EPS_DECAY)
            action = self.select_action(to_state(obs), eps).item()
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.push(obs, action, reward, next_obs, terminated)
            self.steps_done += 1
            length += 1
            obs = next_obs
            if terminated or truncated:
                self.end_of_episode(length)
                obs, _ = env.reset()
                length = 0


def to_state(obs):
    return torch.tensor(np.asarray(obs), dtype=torch.float32).unsqueeze(0)


class Adapter:
    gamma = GAMMA

    def __init__(self, learner):
        self.learner = learner
        self.observation_size = learner.n_observations

    def q_values(self, obs):
        return self.learner.policy_net(torch.tensor(np.asarray(obs), dtype=torch.float32)).detach().numpy()

    def target_q_values(self, obs):
        return self.learner.target_net(torch.tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.learner.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.optimize_model([
            Transition(to_state(o), torch.tensor([[int(a)]]), None if t else to_state(n), torch.tensor([float(r)]))
            for o, a, r, n, t in zip(obs, action, reward, next_obs, terminated)])

    def act(self, obs, epsilon):
        return int(self.learner.select_action(to_state(obs), epsilon).item())

    def run(self, env, env_steps):
        self.learner.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Learner(4, 2))
