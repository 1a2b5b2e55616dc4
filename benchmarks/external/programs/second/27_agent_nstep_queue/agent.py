import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

N_STEP = 3
GAMMA = 0.98


# ---- networks.py
class DuelingDQN(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(n_in, 128), nn.ReLU())
        self.adv = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, n_out))
        self.val = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x):
        x = self.features(x)
        adv, val = self.adv(x), self.val(x)
        return val + adv - adv.max(dim=1, keepdim=True)[0]


# ---- replay.py
class ReplayBuffer:
    def __init__(self, size, n_step=N_STEP, gamma=GAMMA):
        self.buffer = deque(maxlen=size)
        self.n_step_queue = deque(maxlen=n_step)
        self.n_step = n_step
        self.gamma = gamma

    def store(self, obs, action, reward, next_obs, terminated, truncated):
        self.n_step_queue.append((obs, action, reward, next_obs, terminated))
        if len(self.n_step_queue) < self.n_step:
            return
        obs, action = self.n_step_queue[0][:2]
        reward, next_obs, terminated = self.fold()
        self.buffer.append((obs, action, reward, next_obs, terminated))

    def fold(self):
        reward, next_obs, terminated = self.n_step_queue[-1][2:]
        for _, _, r, _, _ in list(self.n_step_queue)[-2::-1]:
            reward = r + self.gamma * reward
        return reward, next_obs, terminated

    def sample(self, n):
        obs, action, reward, next_obs, terminated = zip(*random.sample(self.buffer, n))
        return (
            np.stack(obs).astype(np.float32),
            np.array(action),
            np.array(reward, dtype=np.float32),
            np.stack(next_obs).astype(np.float32),
            np.array(terminated, dtype=np.float32),
        )

    def __len__(self):
        return len(self.buffer)


# ---- agent.py
class Agent:
    def __init__(self, n_obs, n_actions, lr=1e-3, batch_size=32, buffer_size=10000):
        self.n_obs, self.n_actions = n_obs, n_actions
        self.batch_size = batch_size
        self.q = DuelingDQN(n_obs, n_actions)
        self.q_target = DuelingDQN(n_obs, n_actions)
        self.hard_update()
        self.optimizer = optim.AdamW(self.q.parameters(), lr=lr, weight_decay=1e-4)
        self.buffer = ReplayBuffer(buffer_size)

    def hard_update(self):
        self.q_target.load_state_dict(self.q.state_dict())

    def choose(self, obs, eps):
        if random.random() < eps:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return self.q(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)).argmax(1).item()

    def learn(self, obs, action, reward, next_obs, terminated):
        obs, reward, next_obs, terminated = (torch.as_tensor(x).float() for x in (obs, reward, next_obs, terminated))
        action = torch.as_tensor(action).long().unsqueeze(1)
        q = self.q(obs).gather(1, action)
        with torch.no_grad():
            q_next = self.q_target(next_obs).max(1, keepdim=True)[0]
            y = reward.unsqueeze(1) + GAMMA**N_STEP * q_next * (1 - terminated.unsqueeze(1))
        loss = nn.functional.mse_loss(q, y)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.q.parameters(), 1.0)
        self.optimizer.step()


# ---- main.py
class Trainer:
    def __init__(self, agent, start=64, target_freq=200, eps=(1.0, 0.02, 4000)):
        self.agent, self.start, self.target_freq, self.eps = agent, start, target_freq, eps
        self.t = 0

    def run(self, env, n):
        hi, lo, span = self.eps
        obs, _ = env.reset()
        for _ in range(n):
            eps = max(lo, hi - (hi - lo) * self.t / span)
            action = self.agent.choose(obs, eps)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.agent.buffer.store(obs, action, reward, next_obs, terminated, truncated)
            self.t += 1
            if len(self.agent.buffer) >= self.start:
                self.agent.learn(*self.agent.buffer.sample(self.agent.batch_size))
            if self.t % self.target_freq == 0:
                self.agent.hard_update()
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()


class Adapter:
    gamma = GAMMA
    n_step = N_STEP

    def __init__(self, agent):
        self.agent = agent
        self.trainer = Trainer(agent)
        self.observation_size = agent.n_obs

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.q(torch.as_tensor(obs).float()).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.q_target(torch.as_tensor(obs).float()).numpy()

    def sync_target(self):
        self.agent.hard_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.choose(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.store(np.array(obs), int(action), float(reward), np.array(next_obs), terminated, truncated)

    def sample(self, n):
        return self.agent.buffer.sample(n)

    def run(self, env, env_steps):
        self.trainer.run(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Agent(4, 2))
