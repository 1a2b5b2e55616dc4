# single-file DQN, several environments in parallel
import os
import random
import time
from dataclasses import dataclass, fields
import argparse

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    exp_name: str = os.path.basename(__file__)[: -len(".py")]
    seed: int = 1
    torch_deterministic: bool = True
    cuda: bool = False
    save_model: bool = True

    env_id: str = "CartPole-v1"
    total_timesteps: int = 200_000
    learning_rate: float = 2.5e-4
    num_envs: int = 4
    buffer_size: int = 20_000
    gamma: float = 0.99
    tau: float = 1.0
    target_network_frequency: int = 500
    batch_size: int = 128
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.4
    learning_starts: int = 5_000
    train_frequency: int = 8


def parse_args():
    parser = argparse.ArgumentParser()
    for f in fields(Args):
        if f.type is bool:
            parser.add_argument(f"--{f.name}", type=lambda x: x.lower() in ("1", "true", "yes"), default=f.default)
        else:
            parser.add_argument(f"--{f.name}", type=f.type, default=f.default)
    return Args(**vars(parser.parse_args()))


def make_env(env_id, seed, idx):
    def thunk():
        env = gym.make(env_id)
        env = gym.wrappers.RecordEpisodeStatistics(env)
        env.action_space.seed(seed + idx)
        return env

    return thunk


class QNetwork(nn.Module):
    def __init__(self, envs):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(int(np.prod(envs.single_observation_space.shape)), 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, int(envs.single_action_space.n)),
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, obs_shape, device):
        self.size, self.device = size, device
        self.obs = np.zeros((size, *obs_shape), dtype=np.float32)
        self.next_obs = np.zeros((size, *obs_shape), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros((size, 1), dtype=np.float32)
        self.dones = np.zeros((size, 1), dtype=np.float32)
        self.pos, self.full = 0, False

    def add(self, obs, next_obs, actions, rewards, dones):
        for k in range(len(obs)):
            self.obs[self.pos] = obs[k]
            self.next_obs[self.pos] = next_obs[k]
            self.actions[self.pos] = actions[k]
            self.rewards[self.pos] = rewards[k]
            self.dones[self.pos] = dones[k]
            self.pos = (self.pos + 1) % self.size
            self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        upper = self.size if self.full else self.pos
        idx = np.random.randint(0, upper, size=batch_size)
        return tuple(torch.from_numpy(x[idx]).to(self.device)
                     for x in (self.obs, self.next_obs, self.actions, self.rewards, self.dones))


def linear_schedule(start_e: float, end_e: float, duration: int, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


if __name__ == "__main__":
    args = parse_args()
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}"

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    device = torch.device("cuda" if torch.cuda.is_available() and args.cuda else "cpu")

    envs = gym.vector.SyncVectorEnv([make_env(args.env_id, args.seed, i) for i in range(args.num_envs)])
    assert isinstance(envs.single_action_space, gym.spaces.Discrete)

    q_network = QNetwork(envs).to(device)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(envs).to(device)
    target_network.load_state_dict(q_network.state_dict())

    rb = ReplayBuffer(args.buffer_size, envs.single_observation_space.shape, device)
    start_time = time.time()
    ep_returns = []

    obs, _ = envs.reset(seed=args.seed)
    for global_step in range(0, args.total_timesteps, args.num_envs):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        with torch.no_grad():
            q_values = q_network(torch.as_tensor(obs, dtype=torch.float32, device=device))
            actions = q_values.argmax(dim=1).cpu().numpy()
        explore = np.random.rand(args.num_envs) < epsilon
        actions = np.where(explore, envs.action_space.sample(), actions)

        next_obs, rewards, terminations, truncations, infos = envs.step(actions)

        if "episode" in infos:
            for r, flag in zip(infos["episode"]["r"], infos["_episode"]):
                if flag:
                    ep_returns.append(float(r))
                    if len(ep_returns) % 25 == 0:
                        print(f"global_step={global_step}, return(25)={np.mean(ep_returns[-25:]):.1f}, "
                              f"epsilon={epsilon:.2f}, SPS={int(global_step / (time.time() - start_time))}")

        rb.add(obs, next_obs, actions, rewards, terminations)
        obs = next_obs

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next, b_act, b_rew, b_done = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(b_next).max(dim=1)
                    td_target = b_rew.flatten() + args.gamma * target_max * (1 - b_done.flatten())
                old_val = q_network(b_obs).gather(1, b_act).squeeze(1)
                loss = F.mse_loss(td_target, old_val)

                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            if global_step % args.target_network_frequency == 0:
                for target_param, q_param in zip(target_network.parameters(), q_network.parameters()):
                    target_param.data.copy_(args.tau * q_param.data + (1.0 - args.tau) * target_param.data)

    if args.save_model:
        os.makedirs(f"runs/{run_name}", exist_ok=True)
        torch.save(q_network.state_dict(), f"runs/{run_name}/{args.exp_name}.cleanrl_model")
    envs.close()
