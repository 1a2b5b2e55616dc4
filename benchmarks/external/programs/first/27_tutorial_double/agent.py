import math
import random
from collections import deque, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

device = torch.device("cpu")

# BATCH_SIZE is the number of transitions sampled from the replay buffer
# GAMMA is the discount factor
# EPS_START, EPS_END and EPS_DECAY control the exponential decay of epsilon
# TARGET_UPDATE is the number of updates between two copies to the target network
# LR is the learning rate of Adam
BATCH_SIZE = 128
GAMMA = 0.99
EPS_START = 0.9
EPS_END = 0.01
EPS_DECAY = 1500
TARGET_UPDATE = 200
LR = 5e-4

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


class Trainer:

    def __init__(self, n_observations, n_actions, seed=0):
        random.seed(seed)
        torch.manual_seed(seed)
        self.n_observations, self.n_actions = n_observations, n_actions
        self.policy_net = DQN(n_observations, n_actions).to(device)
        self.target_net = DQN(n_observations, n_actions).to(device)
        self.target_net.load_state_dict(self.policy_net.state_dict())
        self.optimizer = optim.Adam(self.policy_net.parameters(), lr=LR, eps=1.5e-4)
        self.memory = ReplayMemory(10000)
        self.steps_done = 0
        self.updates = 0
        self.episode_durations = []

    def select_action(self, state, eps_threshold=None):
        if eps_threshold is None:
            eps_threshold = EPS_END + (EPS_START - EPS_END) * math.exp(-1. * self.steps_done / EPS_DECAY)
            self.steps_done += 1
        if random.random() > eps_threshold:
            with torch.no_grad():
                return self.policy_net(state).max(1).indices.view(1, 1)
        return torch.tensor([[random.randrange(self.n_actions)]], device=device, dtype=torch.long)

    def optimize_model(self, transitions):
        # Transpose the batch: from a list of Transitions to a Transition of lists
        batch = Transition(*zip(*transitions))

        # Mask of the transitions whose next state is not final
        non_final_mask = torch.tensor(tuple(s is not None for s in batch.next_state), device=device, dtype=torch.bool)
        non_final_next_states = [s for s in batch.next_state if s is not None]
        state_batch = torch.cat(batch.state)
        action_batch = torch.cat(batch.action)
        reward_batch = torch.cat(batch.reward)

        # Q(s_t, a) of the actions that were taken
        state_action_values = self.policy_net(state_batch).gather(1, action_batch)

        # V(s_{t+1}), zero for final states
        next_state_values = torch.zeros(len(transitions), device=device)
        if non_final_next_states:
            with torch.no_grad():
                non_final = torch.cat(non_final_next_states)
                best_actions = self.policy_net(non_final).max(1).indices.unsqueeze(1)
                next_state_values[non_final_mask] = self.target_net(non_final).gather(1, best_actions).squeeze(1)
        expected_state_action_values = (next_state_values * GAMMA) + reward_batch

        criterion = nn.SmoothL1Loss()
        loss = criterion(state_action_values, expected_state_action_values.unsqueeze(1))

        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy_net.parameters(), 10)
        self.optimizer.step()

    def update_target(self):
        self.target_net.load_state_dict(self.policy_net.state_dict())

    def train(self, env, num_steps):
        observation, info = env.reset()
        state = torch.tensor(observation, dtype=torch.float32, device=device).unsqueeze(0)
        duration = 0
        for _ in range(num_steps):
            action = self.select_action(state)
            observation, reward, terminated, truncated, _ = env.step(action.item())
            reward = torch.tensor([reward], dtype=torch.float32, device=device)
            duration += 1

            next_state = None
            if not terminated:
                next_state = torch.tensor(observation, dtype=torch.float32, device=device).unsqueeze(0)
            self.memory.push(state, action, next_state, reward)
            state = next_state

            if len(self.memory) >= BATCH_SIZE:
                self.optimize_model(self.memory.sample(BATCH_SIZE))
                self.updates += 1
                if self.updates % TARGET_UPDATE == 0:
                    self.update_target()

            if terminated or truncated:
                self.episode_durations.append(duration)
                duration = 0
                observation, info = env.reset()
                state = torch.tensor(observation, dtype=torch.float32, device=device).unsqueeze(0)
        return self.episode_durations


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
        self.trainer.update_target()

    @staticmethod
    def transition(obs, action, reward, next_obs, terminated):
        row = lambda x: torch.as_tensor(x, dtype=torch.float32).reshape(1, -1)
        return Transition(row(obs), torch.tensor([[int(action)]]), None if terminated else row(next_obs),
                          torch.tensor([float(reward)]))

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.trainer.optimize_model([self.transition(*t) for t in zip(obs, action, reward, next_obs, terminated)])

    def act(self, obs, epsilon):
        state = torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)
        return self.trainer.select_action(state, epsilon).item()

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.trainer.memory.push(*self.transition(obs, action, reward, next_obs, terminated))

    def sample(self, n):
        batch = Transition(*zip(*self.trainer.memory.sample(n)))
        final = torch.tensor([s is None for s in batch.next_state])
        next_obs = torch.cat([torch.zeros_like(batch.state[0]) if s is None else s for s in batch.next_state])
        return (torch.cat(batch.state).numpy(), torch.cat(batch.action)[:, 0].numpy(), torch.cat(batch.reward).numpy(),
                next_obs.numpy(), final.float().numpy())

    def run(self, env, env_steps):
        self.trainer.train(env, env_steps)


def make(seed=0):
    return Adapter(Trainer(4, 2, seed=seed))
