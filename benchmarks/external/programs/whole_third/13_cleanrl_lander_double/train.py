"""Double DQN in a single file.

    python train.py --env-id LunarLander-v3 --seed 2 --total-timesteps 500000
"""
import argparse
import json
import os
import random
import time
from collections import deque

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--exp-name", type=str, default="double_dqn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--env-id", type=str, default="LunarLander-v3")
    parser.add_argument("--total-timesteps", type=int, default=500_000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--lr-gamma", type=float, default=0.995, help="factor of the exponential learning rate schedule")
    parser.add_argument("--buffer-size", type=int, default=100_000)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--target-network-frequency", type=int, default=1000)
    parser.add_argument("--max-grad-norm", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--start-e", type=float, default=1.0)
    parser.add_argument("--end-e", type=float, default=0.02)
    parser.add_argument("--exploration-fraction", type=float, default=0.25)
    parser.add_argument("--learning-starts", type=int, default=10_000)
    parser.add_argument("--train-frequency", type=int, default=4)
    parser.add_argument("--log-every", type=int, default=5_000)
    return parser.parse_args()


def make_env(env_id, seed):
    env = gym.make(env_id)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    env.action_space.seed(seed)
    return env


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(int(np.prod(env.observation_space.shape)), 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, int(env.action_space.n)),
        )

    def forward(self, x):
        return self.network(x)


class Buffer:
    def __init__(self, size, obs_shape, device):
        self.observations = torch.zeros((size, *obs_shape), device=device)
        self.next_observations = torch.zeros((size, *obs_shape), device=device)
        self.actions = torch.zeros(size, dtype=torch.long, device=device)
        self.rewards = torch.zeros(size, device=device)
        self.dones = torch.zeros(size, device=device)
        self.size, self.pos, self.filled = size, 0, 0

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.observations[i] = torch.as_tensor(obs)
        self.next_observations[i] = torch.as_tensor(next_obs)
        self.actions[i] = int(action)
        self.rewards[i] = float(reward)
        self.dones[i] = float(done)
        self.pos = (i + 1) % self.size
        self.filled = min(self.filled + 1, self.size)

    def sample(self, n):
        i = torch.randint(0, self.filled, (n,), device=self.rewards.device)
        return self.observations[i], self.next_observations[i], self.actions[i], self.rewards[i], self.dones[i]


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def main():
    args = parse_args()
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}"
    os.makedirs(f"runs/{run_name}", exist_ok=True)
    with open(f"runs/{run_name}/config.json", "w") as f:
        json.dump(vars(args), f, indent=2)
    log = open(f"runs/{run_name}/progress.csv", "w")
    log.write("step,return,loss,q,lr,epsilon\n")

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() and args.cuda else "cpu")

    env = make_env(args.env_id, args.seed)
    q_network = QNetwork(env).to(device)
    target_network = QNetwork(env).to(device)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=args.lr_gamma)
    rb = Buffer(args.buffer_size, env.observation_space.shape, device)

    recent = deque(maxlen=20)
    loss, old_val = torch.zeros(()), torch.zeros(1)
    start = time.time()
    obs, _ = env.reset(seed=args.seed)
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                q_values = q_network(torch.as_tensor(obs, device=device).unsqueeze(0))
            action = torch.argmax(q_values, dim=1).item()

        next_obs, reward, terminated, truncated, info = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            recent.append(float(info["episode"]["r"]))
            obs, _ = env.reset()

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    next_actions = q_network(b_obs).argmax(dim=1, keepdim=True)
                    next_q = target_network(b_next_obs).gather(1, next_actions).squeeze(1)
                    td_target = b_rewards + args.gamma * next_q * (1 - b_dones)
                old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
                loss = F.smooth_l1_loss(old_val, td_target)

                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
                optimizer.step()
                scheduler.step()

            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if global_step % args.log_every == 0 and recent:
            mean_return = float(np.mean(recent))
            lr = optimizer.param_groups[0]["lr"]
            log.write(f"{global_step},{mean_return},{loss.item()},{old_val.mean().item()},{lr},{epsilon}\n")
            log.flush()
            print(f"step {global_step}: return {mean_return:.1f}, loss {loss.item():.3f}, "
                  f"SPS {int(global_step / (time.time() - start))}")

    torch.save(q_network.state_dict(), f"runs/{run_name}/model.pt")
    log.close()
    env.close()


if __name__ == "__main__":
    main()
