# DQN with RMSprop, scaled rewards, a clipped-error loss and linear annealing, one file
import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


def parse_args(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=40000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--anneal-lr", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--buffer-size", type=int, default=20000)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--reward-scale", type=float, default=0.1)
    parser.add_argument("--max-grad-norm", type=float, default=5.0)
    parser.add_argument("--start-e", type=float, default=1.0)
    parser.add_argument("--end-e", type=float, default=0.03)
    parser.add_argument("--exploration-fraction", type=float, default=0.15)
    parser.add_argument("--learning-starts", type=int, default=200)
    parser.add_argument("--train-frequency", type=int, default=2)
    return parser.parse_args(argv)


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias_const)
    return layer


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, n_actions), std=0.1),
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.size, self.pos, self.full = size, 0, False
        self.observations = torch.zeros(size, obs_dim)
        self.next_observations = torch.zeros(size, obs_dim)
        self.actions = torch.zeros(size, dtype=torch.long)
        self.rewards = torch.zeros(size)
        self.dones = torch.zeros(size)

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = torch.as_tensor(obs)
        self.next_observations[self.pos] = torch.as_tensor(next_obs)
        self.actions[self.pos] = int(action)
        self.rewards[self.pos] = float(reward)
        self.dones[self.pos] = float(done)
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def __len__(self):
        return self.size if self.full else self.pos

    def sample(self, n):
        idx = torch.randint(len(self), (n,))
        return (self.observations[idx], self.actions[idx], self.rewards[idx], self.next_observations[idx],
                self.dones[idx])


def linear_schedule(start, end, duration, t):
    return start + min(t / duration, 1.0) * (end - start)


class Agent:
    def __init__(self, args, obs_dim, n_actions):
        self.args, self.obs_dim, self.n_actions = args, obs_dim, n_actions
        self.q_network = QNetwork(obs_dim, n_actions)
        self.target_network = QNetwork(obs_dim, n_actions)
        self.target_network.load_state_dict(self.q_network.state_dict())
        self.optimizer = optim.RMSprop(self.q_network.parameters(), lr=args.learning_rate, alpha=0.95, eps=1e-4,
                                       centered=True)
        self.rb = ReplayBuffer(args.buffer_size, obs_dim)

    def get_action(self, obs, epsilon):
        if np.random.rand() < epsilon:
            return int(np.random.randint(self.n_actions))
        with torch.no_grad():
            q_values = self.q_network(torch.as_tensor(obs, dtype=torch.float32))
        return int(q_values.argmax())

    def update(self, obs, actions, rewards, next_obs, dones):
        with torch.no_grad():
            target_max = self.target_network(next_obs).amax(dim=1)
            td_target = self.args.reward_scale * rewards + self.args.gamma * target_max * (1 - dones)
        old_val = self.q_network(obs).gather(1, actions.unsqueeze(1)).squeeze(1)

        # gradient of the squared error with the error clipped to [-1, 1]
        td_error = (old_val.detach() - td_target).clamp(-1.0, 1.0)
        loss = (td_error * old_val).mean()

        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q_network.parameters(), self.args.max_grad_norm)
        self.optimizer.step()

    def update_target(self):
        with torch.no_grad():
            for target_param, param in zip(self.target_network.parameters(), self.q_network.parameters()):
                target_param.mul_(1.0 - self.args.tau).add_(param, alpha=self.args.tau)

    def train(self, env, steps):
        args = self.args
        returns, episodic_return = [], 0.0
        obs, _ = env.reset()
        for global_step in range(steps):
            if args.anneal_lr:
                lr = linear_schedule(args.learning_rate, 0.1 * args.learning_rate, args.total_timesteps, global_step)
                self.optimizer.param_groups[0]["lr"] = lr
            epsilon = linear_schedule(
                args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
            action = self.get_action(obs, epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.rb.add(obs, next_obs, action, reward, terminated)
            obs = next_obs
            episodic_return += reward
            if terminated or truncated:
                returns.append(episodic_return)
                episodic_return = 0.0
                obs, _ = env.reset()
            if global_step > args.learning_starts and global_step % args.train_frequency == 0:
                self.update(*self.rb.sample(args.batch_size))
                self.update_target()
        return returns


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.args.gamma
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.q_network(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target_network(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        f = lambda x: torch.as_tensor(x, dtype=torch.float32)
        self.agent.update(f(obs), torch.as_tensor(action, dtype=torch.long), f(reward), f(next_obs), f(terminated))

    def act(self, obs, epsilon):
        return self.agent.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.rb.add(obs, next_obs, action, reward, terminated)

    def sample(self, n):
        return tuple(c.numpy() for c in self.agent.rb.sample(n))

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    args = parse_args(["--seed", str(seed)])
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    return Adapter(Agent(args, 4, 2))
