# DQN in one file, after the layout of CleanRL's dqn.py
import random
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    """seed of the experiment"""
    torch_deterministic: bool = True
    """if toggled, `torch.backends.cudnn.deterministic=True`"""
    learning_rate: float = 5e-4
    """the learning rate of the optimizer"""
    buffer_size: int = 50000
    """the replay memory buffer size"""
    gamma: float = 0.99
    """the discount factor gamma"""
    tau: float = 1.0
    """the target network update rate"""
    target_network_frequency: int = 250
    """the timesteps it takes to update the target network"""
    batch_size: int = 128
    """the batch size of sample from the replay memory"""
    start_e: float = 1.0
    """the starting epsilon for exploration"""
    end_e: float = 0.05
    """the ending epsilon for exploration"""
    exploration_steps: int = 20000
    """the number of steps it takes from start-e to end-e"""
    learning_starts: int = 250
    """timestep to start learning"""
    train_frequency: int = 2
    """the frequency of training"""


ReplayBufferSamples = namedtuple("ReplayBufferSamples", "observations actions next_observations dones rewards")


class ReplayBuffer:
    def __init__(self, buffer_size, obs_size):
        self.buffer_size = buffer_size
        self.observations = np.zeros((buffer_size, obs_size), dtype=np.float32)
        self.next_observations = np.zeros((buffer_size, obs_size), dtype=np.float32)
        self.actions = np.zeros((buffer_size, 1), dtype=np.int64)
        self.rewards = np.zeros((buffer_size, 1), dtype=np.int32)
        self.dones = np.zeros((buffer_size, 1), dtype=np.float32)
        self.pos = 0
        self.full = False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def sample(self, batch_size):
        upper_bound = self.buffer_size if self.full else self.pos
        batch_inds = np.random.randint(0, upper_bound, size=batch_size)
        return ReplayBufferSamples(*map(torch.from_numpy, (
            self.observations[batch_inds],
            self.actions[batch_inds],
            self.next_observations[batch_inds],
            self.dones[batch_inds],
            self.rewards[batch_inds],
        )))


class QNetwork(nn.Module):
    def __init__(self, obs_size, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_size, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, n_actions),
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e: float, end_e: float, duration: int, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


class Experiment:
    def __init__(self, args, obs_size, n_actions):
        # TRY NOT TO MODIFY: seeding
        random.seed(args.seed)
        np.random.seed(args.seed)
        torch.manual_seed(args.seed)
        torch.backends.cudnn.deterministic = args.torch_deterministic

        self.args, self.obs_size, self.n_actions = args, obs_size, n_actions
        self.q_network = QNetwork(obs_size, n_actions)
        self.optimizer = optim.Adam(self.q_network.parameters(), lr=args.learning_rate)
        self.target_network = self.q_network
        self.rb = ReplayBuffer(args.buffer_size, obs_size)

    def select_action(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            q_values = self.q_network(torch.Tensor(obs).unsqueeze(0))
        return torch.argmax(q_values, dim=1).item()

    def update(self, data):
        with torch.no_grad():
            target_max, _ = self.target_network(data.next_observations).max(dim=1)
            td_target = data.rewards.flatten() + self.args.gamma * target_max
        old_val = self.q_network(data.observations).gather(1, data.actions).squeeze(1)
        loss = F.mse_loss(td_target, old_val)

        # optimize the model
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def update_target_network(self):
        for target_param, q_param in zip(self.target_network.parameters(), self.q_network.parameters()):
            target_param.data.copy_(self.args.tau * q_param.data + (1.0 - self.args.tau) * target_param.data)

    def train(self, env, total_timesteps):
        args = self.args
        episodic_returns, episodic_return = [], 0.0

        # TRY NOT TO MODIFY: start the game
        obs, _ = env.reset()
        for global_step in range(total_timesteps):
            # ALGO LOGIC: put action logic here
            epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_steps, global_step)
            action = self.select_action(obs, epsilon)

            # TRY NOT TO MODIFY: execute the game
            next_obs, reward, termination, truncation, infos = env.step(action)
            episodic_return += reward

            # TRY NOT TO MODIFY: save data to replay buffer
            self.rb.add(obs, next_obs, action, reward, termination)

            # TRY NOT TO MODIFY: CRUCIAL step easy to overlook
            obs = next_obs
            if termination or truncation:
                episodic_returns.append(episodic_return)
                episodic_return = 0.0
                obs, _ = env.reset()

            # ALGO LOGIC: training
            if global_step > args.learning_starts:
                if global_step % args.train_frequency == 0:
                    self.update(self.rb.sample(args.batch_size))

                # update target network
                if global_step % args.target_network_frequency == 0:
                    self.update_target_network()
        return episodic_returns


class Adapter:
    def __init__(self, experiment):
        self.experiment = experiment
        self.gamma = experiment.args.gamma
        self.observation_size = experiment.obs_size

    @torch.no_grad()
    def q_values(self, obs):
        return self.experiment.q_network(torch.Tensor(obs)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.experiment.target_network(torch.Tensor(obs)).numpy()

    def sync_target(self):
        self.experiment.update_target_network()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        column = lambda x, dtype: torch.as_tensor(x, dtype=dtype).reshape(-1, 1)
        self.experiment.update(ReplayBufferSamples(
            torch.Tensor(obs), column(action, torch.int64), torch.Tensor(next_obs),
            column(terminated, torch.float32), column(reward, torch.float32)))

    def act(self, obs, epsilon):
        return self.experiment.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.experiment.rb.add(obs, next_obs, action, reward, terminated)

    def sample(self, n):
        data = self.experiment.rb.sample(n)
        return (data.observations.numpy(), data.actions.flatten().numpy(), data.rewards.flatten().numpy(),
                data.next_observations.numpy(), data.dones.flatten().numpy())

    def run(self, env, env_steps):
        self.experiment.train(env, env_steps)


def make(seed=0):
    return Adapter(Experiment(Args(seed=seed), 8, 4))
