import copy
import random
from collections import deque

import numpy as np
import torch
from torch import nn

CONFIG = {
    "hidden_sizes": [64, 64],
    "gamma": 0.98,
    "lr": 1e-3,
    "buffer_size": 5000,
    "batch_size": 32,
    "warmup": 100,
    "target_every": 100,
    "eps_start": 1.0,
    "eps_end": 0.05,
    "eps_steps": 3000,
}


def mlp(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        if i < len(sizes) - 2:
            layers.append(nn.Tanh())
    return nn.Sequential(*layers)


class Agent:
    def __init__(self, obs_dim, n_actions, config):
        self.obs_dim, self.n_actions, self.config = obs_dim, n_actions, config
        self.net = mlp([obs_dim] + config["hidden_sizes"] + [n_actions])
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config["lr"])
        self.criterion = nn.SmoothL1Loss()
        self.reset()

    def reset(self):
        """Fresh weights and an empty memory, so that one agent can be used for several runs."""
        config = self.config
        self.net = mlp([self.obs_dim] + config["hidden_sizes"] + [self.n_actions])
        self.target_net = copy.deepcopy(self.net)
        self.memory = deque(maxlen=config["buffer_size"])
        self.step_count = 0

    @property
    def epsilon(self):
        fraction = min(1.0, self.step_count / self.config["eps_steps"])
        return self.config["eps_start"] + fraction * (self.config["eps_end"] - self.config["eps_start"])

    def choose_action(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randint(0, self.n_actions - 1)
        with torch.no_grad():
            return self.net(torch.tensor(obs, dtype=torch.float32)).argmax().item()

    def store(self, obs, action, reward, next_obs, done):
        self.memory.append((np.array(obs), action, reward, np.array(next_obs), done))

    def sample(self, n):
        obs, action, reward, next_obs, done = zip(*random.sample(self.memory, n))
        return np.stack(obs), np.array(action), np.array(reward), np.stack(next_obs), np.array(done)

    def update(self, obs, action, reward, next_obs, done):
        obs = torch.tensor(obs, dtype=torch.float32)
        next_obs = torch.tensor(next_obs, dtype=torch.float32)
        action = torch.tensor(action, dtype=torch.int64)
        reward = torch.tensor(reward, dtype=torch.float32)
        not_done = 1.0 - torch.tensor(done, dtype=torch.float32)

        with torch.no_grad():
            target = reward + self.config["gamma"] * not_done * self.target_net(next_obs).max(dim=-1).values
        prediction = self.net(obs)[torch.arange(len(action)), action]
        loss = self.criterion(prediction, target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def update_target(self):
        self.target_net.load_state_dict(self.net.state_dict())

    def fit(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.choose_action(obs, self.epsilon)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.store(obs, action, reward, next_obs, terminated)
            self.step_count += 1
            obs = env.reset()[0] if terminated or truncated else next_obs
            if len(self.memory) >= self.config["warmup"]:
                self.update(*self.sample(self.config["batch_size"]))
            if self.step_count % self.config["target_every"] == 0:
                self.update_target()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.config["gamma"]
        self.observation_size = agent.obs_dim

    def q_values(self, obs):
        return self.agent.net(torch.tensor(obs, dtype=torch.float32)).detach().numpy()

    def target_q_values(self, obs):
        return self.agent.target_net(torch.tensor(obs, dtype=torch.float32)).detach().numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.fit(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(obs_dim=4, n_actions=2, config=CONFIG))
