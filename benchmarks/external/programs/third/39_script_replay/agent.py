# dqn.py - one file, flat arrays for the replay memory
import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


def parse_args(argv=()):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=20000)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--tau", type=float, default=1.0)
    parser.add_argument("--target-network-frequency", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--start-e", type=float, default=1.0)
    parser.add_argument("--end-e", type=float, default=0.05)
    parser.add_argument("--exploration-steps", type=int, default=4000)
    parser.add_argument("--learning-starts", type=int, default=200)
    parser.add_argument("--train-frequency", type=int, default=2)
    return parser.parse_args(list(argv))


class ReplayMemory:
    def __init__(self, capacity, observation_shape):
        self.capacity = capacity
        self.observations = np.zeros((capacity, *observation_shape), dtype=np.uint8)
        self.next_observations = np.zeros((capacity, *observation_shape), dtype=np.uint8)
        self.actions = np.zeros((capacity, 1), dtype=np.int64)
        self.rewards = np.zeros((capacity,), dtype=np.float32)
        self.dones = np.zeros((capacity,), dtype=np.float32)
        self.count = 0

    def __len__(self):
        return min(self.count, self.capacity)

    def add(self, obs, action, reward, next_obs, done):
        index = self.count % self.capacity
        self.observations[index] = obs
        self.next_observations[index] = next_obs
        self.actions[index] = action
        self.rewards[index] = reward
        self.dones[index] = done
        self.count += 1

    def sample(self, batch_size):
        index = np.random.choice(len(self), batch_size)
        return (self.observations[index].astype(np.float32), self.actions[index], self.rewards[index],
                self.next_observations[index].astype(np.float32), self.dones[index])


class QNetwork(nn.Module):
    def __init__(self, obs_size, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_size, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, n_actions))

    def forward(self, x):
        return self.network(x)


class DQNScript:
    def __init__(self, args, obs_size, n_actions):
        self.args, self.n_actions = args, n_actions
        self.q_network = QNetwork(obs_size, n_actions)
        self.target_network = QNetwork(obs_size, n_actions)
        self.target_network.load_state_dict(self.q_network.state_dict())
        self.optimizer = optim.Adam(self.q_network.parameters(), lr=args.learning_rate)
        self.memory = ReplayMemory(args.buffer_size, (obs_size,))
        self.global_step = 0

    def epsilon(self):
        args = self.args
        slope = (args.end_e - args.start_e) / args.exploration_steps
        return max(args.start_e + slope * self.global_step, args.end_e)

    def action(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return int(self.q_network(torch.as_tensor(obs, dtype=torch.float32)).argmax())

    def train_step(self, batch):
        obs, actions, rewards, next_obs, dones = batch
        obs, next_obs = torch.as_tensor(obs), torch.as_tensor(next_obs)
        rewards, dones = torch.as_tensor(rewards), torch.as_tensor(dones)
        with torch.no_grad():
            target_max = self.target_network(next_obs).max(dim=1).values
            td_target = rewards + self.args.gamma * target_max * (1 - dones)
        old_val = self.q_network(obs).gather(1, torch.as_tensor(actions)).squeeze(1)
        loss = F.mse_loss(old_val, td_target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def update_target(self):
        for target_param, param in zip(self.target_network.parameters(), self.q_network.parameters()):
            target_param.data.copy_(self.args.tau * param.data + (1.0 - self.args.tau) * target_param.data)

    def learn(self, env, total_timesteps):
        args = self.args
        obs, _ = env.reset()
        for _ in range(total_timesteps):
            action = self.action(obs, self.epsilon())
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.memory.add(obs, action, reward, next_obs, terminated)
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()
            self.global_step += 1
            if self.global_step > args.learning_starts:
                if self.global_step % args.train_frequency == 0:
                    self.train_step(self.memory.sample(args.batch_size))
                if self.global_step % args.target_network_frequency == 0:
                    self.update_target()


class Adapter:
    def __init__(self, script, obs_size):
        self.script = script
        self.gamma = script.args.gamma
        self.observation_size = obs_size

    def q_values(self, obs):
        return self.script.q_network(torch.as_tensor(np.asarray(obs, np.float32))).detach().numpy()

    def target_q_values(self, obs):
        return self.script.target_network(torch.as_tensor(np.asarray(obs, np.float32))).detach().numpy()

    def sync_target(self):
        self.script.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        f = lambda x: np.asarray(x, dtype=np.float32)
        self.script.train_step((f(obs), np.asarray(action, np.int64)[:, None], f(reward), f(next_obs), f(terminated)))

    def act(self, obs, epsilon):
        return self.script.action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.script.memory.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        obs, action, reward, next_obs, done = self.script.memory.sample(n)
        return obs, action[:, 0], reward, next_obs, done

    def run(self, env, env_steps):
        self.script.learn(env, env_steps)


def make(seed=0):
    args = parse_args([f"--seed={seed}"])
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    return Adapter(DQNScript(args, 4, 2), 4)


if __name__ == "__main__":
    import gymnasium as gym

    make(1).run(gym.make("CartPole-v1"), 20000)
