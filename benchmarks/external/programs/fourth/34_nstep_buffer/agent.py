"""Multi-step DQN."""
import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

Experience = namedtuple("Experience", ["state", "action", "reward", "next_state", "done"])


class QNetwork(nn.Module):
    def __init__(self, state_size, action_size, layer_size=128):
        super().__init__()
        self.head_1 = nn.Linear(state_size, layer_size)
        self.ff_1 = nn.Linear(layer_size, layer_size)
        self.ff_2 = nn.Linear(layer_size, action_size)

    def forward(self, x):
        x = torch.relu(self.head_1(x))
        x = torch.relu(self.ff_1(x))
        return self.ff_2(x)


class NStepReplay:
    """Fixed-size buffer that stores n-step transitions."""

    def __init__(self, buffer_size, batch_size, gamma, n_step):
        self.memory = deque(maxlen=buffer_size)
        self.batch_size = batch_size
        self.gamma = gamma
        self.n_step = n_step
        self.n_step_buffer = deque(maxlen=n_step)

    def add(self, state, action, reward, next_state, done):
        self.n_step_buffer.append((state, action, reward, next_state, done))
        if len(self.n_step_buffer) == self.n_step:
            self.memory.append(Experience(*self.calc_multistep_return()))

    def calc_multistep_return(self):
        ret = 0.0
        for idx in range(self.n_step):
            ret += self.gamma**idx * self.n_step_buffer[idx][2]
        state, action = self.n_step_buffer[0][:2]
        next_state, done = self.n_step_buffer[-1][3:]
        return state, action, ret, next_state, done

    def sample(self, n=None):
        experiences = random.sample(self.memory, n or self.batch_size)
        states = torch.from_numpy(np.stack([e.state for e in experiences])).float()
        actions = torch.from_numpy(np.array([[e.action] for e in experiences])).long()
        rewards = torch.from_numpy(np.array([[e.reward] for e in experiences])).float()
        next_states = torch.from_numpy(np.stack([e.next_state for e in experiences])).float()
        dones = torch.from_numpy(np.array([[e.done] for e in experiences]).astype(np.uint8)).float()
        return states, actions, rewards, next_states, dones

    def __len__(self):
        return len(self.memory)


class DQN_Agent:
    def __init__(self, state_size, action_size, n_step=3, batch_size=64, buffer_size=20000, lr=5e-4,
                 tau=5e-3, gamma=0.99, update_every=1):
        self.state_size = state_size
        self.action_size = action_size
        self.gamma = gamma
        self.tau = tau
        self.n_step = n_step
        self.batch_size = batch_size
        self.update_every = update_every
        self.t_step = 0

        self.qnetwork_local = QNetwork(state_size, action_size)
        self.qnetwork_target = QNetwork(state_size, action_size)
        self.qnetwork_target.load_state_dict(self.qnetwork_local.state_dict())
        self.optimizer = optim.Adam(self.qnetwork_local.parameters(), lr=lr)
        self.memory = NStepReplay(buffer_size, batch_size, gamma, n_step)

    def step(self, state, action, reward, next_state, done):
        self.memory.add(state, action, reward, next_state, done)
        self.t_step = (self.t_step + 1) % self.update_every
        if self.t_step == 0 and len(self.memory) > self.batch_size:
            self.learn(self.memory.sample())

    def act(self, state, eps=0.0):
        if random.random() > eps:
            state = torch.from_numpy(np.asarray(state)).float().unsqueeze(0)
            with torch.no_grad():
                return int(np.argmax(self.qnetwork_local(state).numpy()))
        return random.choice(range(self.action_size))

    def learn(self, experiences):
        states, actions, rewards, next_states, dones = experiences
        Q_targets_next = self.qnetwork_target(next_states).detach().max(1)[0].unsqueeze(1)
        Q_targets = rewards + self.gamma**self.n_step * Q_targets_next * (1 - dones)
        Q_expected = self.qnetwork_local(states).gather(1, actions)
        loss = F.smooth_l1_loss(Q_expected, Q_targets)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.qnetwork_local.parameters(), 10.0)
        self.optimizer.step()
        self.soft_update(self.qnetwork_local, self.qnetwork_target)
        return loss.item()

    def soft_update(self, local_model, target_model):
        for target_param, local_param in zip(target_model.parameters(), local_model.parameters()):
            target_param.data.copy_(self.tau * local_param.data + (1.0 - self.tau) * target_param.data)


def train(agent, env, max_steps, eps_start=1.0, eps_end=0.02, eps_steps=5000):
    scores, score = [], 0
    state, _ = env.reset()
    for t in range(max_steps):
        eps = max(eps_end, eps_start - (eps_start - eps_end) * t / eps_steps)
        action = agent.act(state, eps)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.step(state, action, reward, next_state, terminated)
        state = next_state
        score += reward
        if terminated or truncated:
            scores.append(score)
            score = 0
            state, _ = env.reset()
    return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.n_step = agent.n_step
        self.observation_size = agent.state_size

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.qnetwork_local(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.qnetwork_target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.soft_update(self.agent.qnetwork_local, self.agent.qnetwork_target)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        column = lambda x, t: torch.as_tensor(np.asarray(x), dtype=t).reshape(-1, 1)
        self.agent.learn((
            torch.as_tensor(obs, dtype=torch.float32), column(action, torch.int64), column(reward, torch.float32),
            torch.as_tensor(next_obs, dtype=torch.float32), column(terminated, torch.float32),
        ))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        s, a, r, ns, d = (c.numpy() for c in self.agent.memory.sample(n))
        return s, a[:, 0], r[:, 0], ns, d[:, 0]

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DQN_Agent(4, 2))
