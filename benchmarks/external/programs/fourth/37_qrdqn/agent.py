"""QR-DQN: distributional RL with quantile regression."""
import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

BUFFER_SIZE = 20000
BATCH_SIZE = 32
GAMMA = 0.99
TAU = 1e-2
LR = 1e-3
N_QUANTILES = 32
KAPPA = 1.0


class DDQN_QR(nn.Module):
    def __init__(self, state_size, action_size, layer_size, N):
        super().__init__()
        self.action_size = action_size
        self.N = N
        self.net = nn.Sequential(
            nn.Linear(state_size, layer_size), nn.ReLU(),
            nn.Linear(layer_size, layer_size), nn.ReLU(),
            nn.Linear(layer_size, action_size * N),
        )

    def forward(self, x):
        return self.net(x).view(x.shape[0], self.N, self.action_size)

    def get_action(self, x):
        return self.forward(x).mean(dim=1)


class ReplayBuffer:
    def __init__(self, buffer_size, batch_size):
        self.memory = deque(maxlen=buffer_size)
        self.batch_size = batch_size
        self.experience = namedtuple("Experience", ["state", "action", "reward", "next_state", "done"])

    def add(self, *args):
        self.memory.append(self.experience(*args))

    def sample(self, n=None):
        experiences = random.sample(self.memory, k=n or self.batch_size)
        states, actions, rewards, next_states, dones = zip(*experiences)
        return (
            torch.from_numpy(np.stack(states)).float(),
            torch.from_numpy(np.vstack(actions)).long(),
            torch.from_numpy(np.vstack(rewards)).float(),
            torch.from_numpy(np.stack(next_states)).float(),
            torch.from_numpy(np.vstack(dones).astype(np.uint8)).float(),
        )

    def __len__(self):
        return len(self.memory)


def calculate_huber_loss(td_errors, k=KAPPA):
    return torch.where(td_errors.abs() <= k, 0.5 * td_errors.pow(2), k * (td_errors.abs() - 0.5 * k))


class QR_Agent:
    def __init__(self, state_size, action_size, layer_size=64):
        self.state_size = state_size
        self.action_size = action_size
        self.N = N_QUANTILES
        self.quantile_tau = torch.FloatTensor([(2 * i + 1) / (2.0 * self.N) for i in range(self.N)])

        self.qnetwork_local = DDQN_QR(state_size, action_size, layer_size, self.N)
        self.qnetwork_target = DDQN_QR(state_size, action_size, layer_size, self.N)
        self.qnetwork_target.load_state_dict(self.qnetwork_local.state_dict())
        self.optimizer = optim.Adam(self.qnetwork_local.parameters(), lr=LR)
        self.memory = ReplayBuffer(BUFFER_SIZE, BATCH_SIZE)

    def step(self, state, action, reward, next_state, done):
        self.memory.add(state, action, reward, next_state, done)
        if len(self.memory) > BATCH_SIZE:
            self.learn(self.memory.sample())

    def act(self, state, eps=0.0):
        if random.random() > eps:
            state = torch.from_numpy(np.asarray(state)).float().unsqueeze(0)
            with torch.no_grad():
                action_values = self.qnetwork_local.get_action(state)
            return int(np.argmax(action_values.numpy()))
        return random.choice(np.arange(self.action_size)).item()

    def learn(self, experiences):
        states, actions, rewards, next_states, dones = experiences
        batch_size = states.shape[0]

        with torch.no_grad():
            Q_next = self.qnetwork_target(next_states)
            action_indx = Q_next.mean(dim=1).argmax(dim=1, keepdim=True)
            Q_next = Q_next.gather(2, action_indx.unsqueeze(-1).expand(batch_size, self.N, 1)).transpose(1, 2)
            Q_targets = rewards.unsqueeze(-1) + GAMMA * Q_next * (1.0 - dones.unsqueeze(-1))

        Q_expected = self.qnetwork_local(states).gather(2, actions.unsqueeze(-1).expand(batch_size, self.N, 1))

        td_error = Q_targets - Q_expected
        assert td_error.shape == (batch_size, self.N, self.N)
        huber_l = calculate_huber_loss(td_error)
        quantil_l = (self.quantile_tau - (td_error.detach() < 0).float()).abs() * huber_l / KAPPA
        loss = quantil_l.mean(dim=2).sum(dim=1).mean()

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.soft_update()
        return loss.item()

    def soft_update(self):
        for target_param, local_param in zip(self.qnetwork_target.parameters(), self.qnetwork_local.parameters()):
            target_param.data.copy_(TAU * local_param.data + (1.0 - TAU) * target_param.data)


def run(agent, env, frames, min_eps=0.01, eps_frames=4000):
    scores, score = [], 0
    state, _ = env.reset()
    for frame in range(frames):
        eps = max(1.0 - frame / eps_frames, min_eps)
        action = agent.act(state, eps)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.step(state, action, reward, next_state, terminated)
        state = next_state
        score += reward
        if terminated or truncated:
            scores.append(score)
            state, _ = env.reset()
            score = 0
    return scores


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = GAMMA
        self.observation_size = agent.state_size

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.qnetwork_local.get_action(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.qnetwork_target.get_action(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.soft_update()

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
        run(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(QR_Agent(4, 2))
