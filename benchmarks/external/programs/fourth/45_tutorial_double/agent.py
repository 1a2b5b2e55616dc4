# Based on the PyTorch DQN tutorial, with Double DQN, layer norm and a log-cosh loss.
import math
import random
from collections import deque, namedtuple
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward"))

BATCH_SIZE = 128
GAMMA = 0.99
EPS_START = 0.9
EPS_END = 0.02
EPS_DECAY = 1500
TAU = 0.005
LR = 5e-4


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
        self.norm1 = nn.LayerNorm(128)
        self.layer2 = nn.Linear(128, 128)
        self.norm2 = nn.LayerNorm(128)
        self.layer3 = nn.Linear(128, n_actions)

    def forward(self, x):
        x = F.silu(self.norm1(self.layer1(x)))
        x = F.silu(self.norm2(self.layer2(x)))
        return self.layer3(x)


def log_cosh_loss(prediction, target):
    error = prediction - target
    return (error + F.softplus(-2.0 * error) - math.log(2.0)).mean()


class Trainer:
    def __init__(self, n_observations, n_actions):
        self.n_observations = n_observations
        self.n_actions = n_actions
        self.policy_net = DQN(n_observations, n_actions)
        self.target_net = DQN(n_observations, n_actions)
        self.target_net.load_state_dict(self.policy_net.state_dict())
        self.optimizer = optim.AdamW(self.policy_net.parameters(), lr=LR, amsgrad=True)
        self.memory = ReplayMemory(10000)
        self.steps_done = 0

    def select_action(self, state, eps_threshold):
        if random.random() > eps_threshold:
            with torch.no_grad():
                return self.policy_net(state).max(1).indices.view(1, 1)
        return torch.tensor([[random.randrange(self.n_actions)]], dtype=torch.long)

    def epsilon(self):
        return EPS_END + (EPS_START - EPS_END) * math.exp(-1.0 * self.steps_done / EPS_DECAY)

    def optimize_model(self, transitions):
        batch = Transition(*zip(*transitions))
        non_final_mask = torch.tensor([s is not None for s in batch.next_state], dtype=torch.bool)
        state_batch = torch.cat(batch.state)
        action_batch = torch.cat(batch.action)
        reward_batch = torch.cat(batch.reward)

        state_action_values = self.policy_net(state_batch).gather(1, action_batch).squeeze(1)

        next_state_values = torch.zeros(len(transitions))
        if non_final_mask.any():
            non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
            with torch.no_grad():
                next_actions = self.policy_net(non_final_next_states).argmax(1, keepdim=True)
                next_values = self.target_net(non_final_next_states).gather(1, next_actions).squeeze(1)
            next_state_values[non_final_mask] = next_values
        expected_state_action_values = reward_batch + GAMMA * next_state_values

        loss = log_cosh_loss(state_action_values, expected_state_action_values)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(self.policy_net.parameters(), 100)
        self.optimizer.step()

    def soft_update(self):
        target_state = self.target_net.state_dict()
        policy_state = self.policy_net.state_dict()
        for key in policy_state:
            target_state[key] = policy_state[key] * TAU + target_state[key] * (1 - TAU)
        self.target_net.load_state_dict(target_state)

    def train(self, env, max_steps):
        durations = []
        while self.steps_done < max_steps:
            state, _ = env.reset()
            state = torch.tensor(np.asarray(state), dtype=torch.float32).unsqueeze(0)
            for t in count():
                action = self.select_action(state, self.epsilon())
                self.steps_done += 1
                observation, reward, terminated, truncated, _ = env.step(action.item())
                observation = torch.tensor(np.asarray(observation), dtype=torch.float32).unsqueeze(0)
                # only real ends of the task are final, not time limits
                next_state = None if terminated else observation
                self.memory.push(state, action, next_state, torch.tensor([reward], dtype=torch.float32))
                state = observation

                if len(self.memory) >= BATCH_SIZE:
                    self.optimize_model(self.memory.sample(BATCH_SIZE))
                    self.soft_update()

                if terminated or truncated or self.steps_done >= max_steps:
                    durations.append(t + 1)
                    break
        return durations


def as_transition(obs, action, reward, next_obs, terminated):
    return Transition(
        torch.as_tensor(np.asarray(obs), dtype=torch.float32).unsqueeze(0),
        torch.tensor([[int(action)]]),
        None if terminated else torch.as_tensor(np.asarray(next_obs), dtype=torch.float32).unsqueeze(0),
        torch.tensor([float(reward)]),
    )


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

    def train_batch(self, *columns):
        self.trainer.optimize_model([as_transition(*row) for row in zip(*columns)])

    def act(self, obs, epsilon):
        return self.trainer.select_action(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0), epsilon).item()

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.trainer.memory.push(*as_transition(obs, action, reward, next_obs, terminated))

    def sample(self, n):
        batch = Transition(*zip(*self.trainer.memory.sample(n)))
        next_obs = torch.cat([s if n is None else n for s, n in zip(batch.state, batch.next_state)])
        terminated = np.array([s is None for s in batch.next_state])
        return (torch.cat(batch.state).numpy(), torch.cat(batch.action).numpy()[:, 0],
                torch.cat(batch.reward).numpy(), next_obs.numpy(), terminated)

    def run(self, env, env_steps):
        self.trainer.train(env, self.trainer.steps_done + env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Trainer(4, 2))
