# Quantile regression DQN, single file
import random
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    learning_rate: float = 5e-4
    """the learning rate of the optimizer"""
    n_quantiles: int = 32
    """the number of quantiles of each return distribution"""
    kappa: float = 1.0
    """the threshold of the quantile Huber loss"""
    buffer_size: int = 20000
    gamma: float = 0.99
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.02
    exploration_steps: int = 4000
    learning_starts: int = 1000
    train_frequency: int = 1


class QuantileNetwork(nn.Module):
    def __init__(self, obs_size, n_actions, n_quantiles):
        super().__init__()
        self.n_actions, self.n_quantiles = n_actions, n_quantiles
        self.network = nn.Sequential(
            nn.Linear(obs_size, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, n_actions * n_quantiles)
        )
        self.register_buffer("taus", (torch.arange(n_quantiles) + 0.5) / n_quantiles)

    def forward(self, x):
        return self.network(x).view(-1, self.n_actions, self.n_quantiles)

    def q(self, x):
        return self(x).mean(dim=2)


def linear_schedule(start_e: float, end_e: float, duration: int, t: int):
    return max(start_e + (end_e - start_e) / duration * t, end_e)


def setup(args, obs_size, n_actions):
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    q_network = QuantileNetwork(obs_size, n_actions, args.n_quantiles)
    target_network = QuantileNetwork(obs_size, n_actions, args.n_quantiles)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate, eps=0.01 / args.batch_size)
    return SimpleNamespace(args=args, q_network=q_network, target_network=target_network, optimizer=optimizer, rb=[],
                           obs_size=obs_size, n_actions=n_actions, pos=0)


def select_action(run, obs, epsilon):
    if random.random() < epsilon:
        return random.randrange(run.n_actions)
    with torch.no_grad():
        return run.q_network.q(torch.Tensor(obs[None])).argmax(1).item()


def rb_add(run, obs, action, reward, next_obs, termination):
    item = (np.array(obs), action, reward, np.array(next_obs), termination)
    if len(run.rb) < run.args.buffer_size:
        run.rb.append(item)
    else:
        run.rb[run.pos] = item
    run.pos = (run.pos + 1) % run.args.buffer_size


def rb_sample(run, batch_size):
    batch = [run.rb[i] for i in np.random.randint(len(run.rb), size=batch_size)]
    return tuple(np.array(field) for field in zip(*batch))


def update(run, obs, action, reward, next_obs, termination):
    args = run.args
    obs, next_obs = torch.Tensor(obs), torch.Tensor(next_obs)
    action = torch.as_tensor(action, dtype=torch.int64)
    reward = torch.as_tensor(reward, dtype=torch.float32)
    termination = torch.as_tensor(termination, dtype=torch.float32)
    rows = torch.arange(len(action))
    with torch.no_grad():
        next_quantiles = run.target_network(next_obs)
        next_action = next_quantiles.mean(dim=2).argmax(dim=1)
        target = reward[:, None] + args.gamma * (1 - termination[:, None]) * next_quantiles[rows, next_action]
    current = run.q_network(obs)[rows, action]
    # u[b, i, j] = target j minus quantile i
    u = target[:, None, :] - current[:, :, None]
    huber = torch.where(u.abs() <= args.kappa, 0.5 * u**2, args.kappa * (u.abs() - 0.5 * args.kappa))
    weight = (run.q_network.taus[None, :, None] - (u.detach() < 0).float()).abs()
    loss = (weight * huber / args.kappa).mean(dim=2).sum(dim=1).mean()
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()


def train(run, env, total_timesteps):
    args = run.args
    returns, episodic_return = [], 0.0
    obs, _ = env.reset(seed=args.seed)
    for global_step in range(total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_steps, global_step)
        action = select_action(run, obs, epsilon)
        next_obs, reward, termination, truncation, _ = env.step(action)
        rb_add(run, obs, action, reward, next_obs, termination)
        episodic_return += reward
        obs = next_obs
        if termination or truncation:
            returns.append(episodic_return)
            episodic_return = 0.0
            obs, _ = env.reset()
        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            update(run, *rb_sample(run, args.batch_size))
        if global_step % args.target_network_frequency == 0:
            run.target_network.load_state_dict(run.q_network.state_dict())
    return returns


class Adapter:
    def __init__(self, run):
        self.state = run
        self.gamma = run.args.gamma
        self.observation_size = run.obs_size

    @torch.no_grad()
    def q_values(self, obs):
        return self.state.q_network.q(torch.Tensor(obs)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.state.target_network.q(torch.Tensor(obs)).numpy()

    def sync_target(self):
        self.state.target_network.load_state_dict(self.state.q_network.state_dict())

    def train_batch(self, obs, action, reward, next_obs, terminated):
        update(self.state, obs, action, reward, next_obs, terminated)

    def parameters(self):
        return {k: p.detach().numpy() for k, p in self.state.q_network.named_parameters()}

    def target_parameters(self):
        return {k: p.detach().numpy() for k, p in self.state.target_network.named_parameters()}

    def act(self, obs, epsilon):
        return select_action(self.state, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        rb_add(self.state, obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return rb_sample(self.state, n)

    def run(self, env, env_steps):
        train(self.state, env, env_steps)


def make(seed=0):
    return Adapter(setup(Args(seed=seed), 4, 2))
