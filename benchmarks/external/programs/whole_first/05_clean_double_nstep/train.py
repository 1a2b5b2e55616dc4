# n-step double DQN, single file
import argparse
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
    parser.add_argument("--exp-name", type=str, default=os.path.basename(__file__)[:-3])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--env-id", type=str, default="CartPole-v1")
    parser.add_argument("--total-timesteps", type=int, default=150000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--buffer-size", type=int, default=20000)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--n-step", type=int, default=3)
    parser.add_argument("--target-network-frequency", type=int, default=500)
    parser.add_argument("--max-grad-norm", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--start-e", type=float, default=1.0)
    parser.add_argument("--end-e", type=float, default=0.05)
    parser.add_argument("--exploration-fraction", type=float, default=0.3)
    parser.add_argument("--learning-starts", type=int, default=5000)
    parser.add_argument("--train-frequency", type=int, default=4)
    return parser.parse_args()


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


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


class NStepBuffer:
    """Stores (s, a, sum of discounted rewards, s_{t+k}, discount), discount = 0 after a terminal state."""

    def __init__(self, size, obs_dim, n, gamma):
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.act = np.zeros(size, dtype=np.int64)
        self.ret = np.zeros(size, dtype=np.float32)
        self.nxt = np.zeros((size, obs_dim), dtype=np.float32)
        self.disc = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False
        self.n, self.gamma = n, gamma
        self.window = deque()

    def __len__(self):
        return self.size if self.full else self.pos

    def _flush_one(self, final_obs, terminated):
        ret = 0.0
        for k, (_, _, r) in enumerate(self.window):
            ret += self.gamma ** k * r
        o, a, _ = self.window.popleft()
        k = k + 1
        i = self.pos
        self.obs[i], self.act[i], self.ret[i], self.nxt[i] = o, a, ret, final_obs
        self.disc[i] = 0.0 if terminated else self.gamma ** k
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def add(self, obs, action, reward, next_obs, terminated, truncated):
        self.window.append((obs, action, reward))
        if terminated or truncated:
            while self.window:
                self._flush_one(next_obs, terminated)
        elif len(self.window) == self.n:
            self._flush_one(next_obs, False)

    def sample(self, k):
        i = np.random.randint(0, len(self), size=k)
        return tuple(torch.from_numpy(x[i]) for x in (self.obs, self.act, self.ret, self.nxt, self.disc))


if __name__ == "__main__":
    args = parse_args()
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}"
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = gym.wrappers.RecordEpisodeStatistics(gym.make(args.env_id))
    env.action_space.seed(args.seed)

    q_network = QNetwork(env)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(env)
    target_network.load_state_dict(q_network.state_dict())
    rb = NStepBuffer(args.buffer_size, env.observation_space.shape[0], args.n_step, args.gamma)

    start_time = time.time()
    obs, _ = env.reset(seed=args.seed)
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = int(env.action_space.sample())
        else:
            with torch.no_grad():
                action = int(q_network(torch.as_tensor(obs, dtype=torch.float32)).argmax())

        next_obs, reward, terminated, truncated, info = env.step(action)
        rb.add(obs, action, float(reward), next_obs, terminated, truncated)
        obs = next_obs
        if terminated or truncated:
            if "episode" in info:
                print(f"global_step={global_step}, episodic_return={float(info['episode']['r'])}")
            obs, _ = env.reset()

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            s, a, ret, s2, disc = rb.sample(args.batch_size)
            with torch.no_grad():
                best = q_network(s2).argmax(dim=1, keepdim=True)
                boot = target_network(s2).gather(1, best).squeeze(1)
                td_target = ret + disc * boot
            old_val = q_network(s).gather(1, a.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)

            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
            optimizer.step()

            if global_step % 1000 == 0:
                print("loss", loss.item(), "q", old_val.mean().item(), "SPS", int(global_step / (time.time() - start_time)))

        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())

    os.makedirs("runs", exist_ok=True)
    torch.save(q_network.state_dict(), f"runs/{run_name}.pt")
    env.close()
