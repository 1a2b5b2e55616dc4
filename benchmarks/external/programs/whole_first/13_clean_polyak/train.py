import os
import random
import sys
import time
from dataclasses import dataclass, fields

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    exp_name: str = "dqn_polyak"
    seed: int = 1
    torch_deterministic: bool = True
    cuda: bool = True
    save_model: bool = True

    env_id: str = "LunarLander-v3"
    total_timesteps: int = 400000
    learning_rate: float = 3e-4
    buffer_size: int = 100000
    gamma: float = 0.99
    tau: float = 0.005
    batch_size: int = 128
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.3
    learning_starts: int = 10000
    train_frequency: int = 4


def parse():
    args = Args()
    known = {f.name: f.type for f in fields(Args)}
    for item in sys.argv[1:]:
        key, value = item.lstrip("-").split("=", 1)
        key = key.replace("-", "_")
        kind = known[key]
        setattr(args, key, value.lower() in ("1", "true") if kind is bool else kind(value))
    return args


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, n_actions),
        )

    def forward(self, x):
        return self.network(x)


class Buffer:
    def __init__(self, size, obs_dim, device):
        self.observations = torch.zeros(size, obs_dim)
        self.next_observations = torch.zeros(size, obs_dim)
        self.actions = torch.zeros(size, 1, dtype=torch.long)
        self.rewards = torch.zeros(size)
        self.dones = torch.zeros(size)
        self.size, self.pos, self.full, self.device = size, 0, False, device

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = torch.as_tensor(obs)
        self.next_observations[self.pos] = torch.as_tensor(next_obs)
        self.actions[self.pos] = int(action)
        self.rewards[self.pos] = float(reward)
        self.dones[self.pos] = float(done)
        self.pos += 1
        if self.pos == self.size:
            self.full, self.pos = True, 0

    def sample(self, n):
        idx = torch.randint(0, self.size if self.full else self.pos, (n,))
        return [t[idx].to(self.device) for t in
                (self.observations, self.next_observations, self.actions, self.rewards, self.dones)]


def linear_schedule(start_e: float, end_e: float, duration: int, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


if __name__ == "__main__":
    args = parse()
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}"
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    device = torch.device("cuda" if torch.cuda.is_available() and args.cuda else "cpu")

    env = gym.wrappers.RecordEpisodeStatistics(gym.make(args.env_id))
    env.action_space.seed(args.seed)
    obs_dim, n_actions = env.observation_space.shape[0], int(env.action_space.n)

    q_network = QNetwork(obs_dim, n_actions).to(device)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(obs_dim, n_actions).to(device)
    target_network.load_state_dict(q_network.state_dict())
    rb = Buffer(args.buffer_size, obs_dim, device)
    start_time = time.time()

    obs, _ = env.reset(seed=args.seed)
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = env.action_space.sample()
        else:
            q_values = q_network(torch.Tensor(obs).to(device))
            action = torch.argmax(q_values).item()

        next_obs, reward, terminated, truncated, info = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)

        if terminated or truncated:
            print(f"global_step={global_step}, episodic_return={float(info['episode']['r']):.1f}, eps={epsilon:.2f}")
            obs, _ = env.reset()
        obs = next_obs

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next, b_act, b_rew, b_done = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(b_next).max(dim=1)
                    td_target = b_rew + args.gamma * target_max * (1 - b_done)
                old_val = q_network(b_obs).gather(1, b_act).squeeze()
                loss = F.mse_loss(td_target, old_val)

                if global_step % 5000 == 0:
                    print("loss", loss.item(), "SPS:", int(global_step / (time.time() - start_time)))

                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

                for target_param, q_param in zip(target_network.parameters(), q_network.parameters()):
                    target_param.data.copy_((1.0 - args.tau) * q_param.data + args.tau * target_param.data)

    if args.save_model:
        os.makedirs(f"runs/{run_name}", exist_ok=True)
        torch.save(q_network.state_dict(), f"runs/{run_name}/{args.exp_name}.model")
    env.close()
