# dqn single file, in the manner of cleanrl
import argparse
import os
import random
import time

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--exp-name", type=str, default=os.path.basename(__file__)[:-3])
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--env-id", type=str, default="CartPole-v1")
    p.add_argument("--total-timesteps", type=int, default=100000)
    p.add_argument("--learning-rate", type=float, default=2.5e-4)
    p.add_argument("--buffer-size", type=int, default=10000)
    p.add_argument("--gamma", type=float, default=0.99)
    p.add_argument("--target-network-frequency", type=int, default=500)
    p.add_argument("--batch-size", type=int, default=128)
    p.add_argument("--start-e", type=float, default=1)
    p.add_argument("--end-e", type=float, default=0.05)
    p.add_argument("--exploration-fraction", type=float, default=0.5)
    p.add_argument("--learning-starts", type=int, default=2000)
    p.add_argument("--train-frequency", type=int, default=4)
    p.add_argument("--eval-frequency", type=int, default=250)
    return p.parse_args()


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(int(np.prod(env.observation_space.shape)), 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, env.action_space.n),
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, obs_shape):
        self.obs = np.zeros((size, *obs_shape), dtype=np.float32)
        self.next_obs = np.zeros((size, *obs_shape), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.obs[self.pos], self.next_obs[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos += 1
        if self.pos == self.size:
            self.pos, self.full = 0, True

    def sample(self, n):
        i = np.random.randint(0, self.size if self.full else self.pos, size=n)
        return [torch.from_numpy(x[i]) for x in (self.obs, self.next_obs, self.actions, self.rewards, self.dones)]


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(env, q_network, episodes=1):
    lengths = []
    for _ in range(episodes):
        obs, _ = env.reset()
        n, finished = 0, False
        while not finished:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs)).argmax().item()
            obs, _, terminated, truncated, _ = env.step(action)
            finished = terminated or truncated
            n += 1
        lengths.append(n)
    return np.mean(lengths)


if __name__ == "__main__":
    args = parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = gym.make(args.env_id)
    env.action_space.seed(args.seed)
    q_network = QNetwork(env)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(env)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, env.observation_space.shape)
    start_time = time.time()

    obs, _ = env.reset(seed=args.seed)
    ep_ret = 0.0
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = env.action_space.sample()
        else:
            action = q_network(torch.from_numpy(obs)).argmax().item()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        ep_ret += reward
        obs = next_obs
        if terminated or truncated:
            print(f"global_step={global_step}, episodic_return={ep_ret}")
            obs, _ = env.reset()
            ep_ret = 0.0

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next, b_act, b_rew, b_done = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(b_next).max(dim=1)
                    td_target = b_rew + args.gamma * target_max * (1 - b_done)
                old_val = q_network(b_obs).gather(1, b_act).squeeze()
                loss = F.mse_loss(td_target, old_val)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

            if global_step % args.eval_frequency == 0:
                print("eval length", evaluate(env, q_network), "SPS", int(global_step / (time.time() - start_time)))
    env.close()
