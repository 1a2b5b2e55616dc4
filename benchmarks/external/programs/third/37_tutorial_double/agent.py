import random
from collections import namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward", "final"))

BATCH_SIZE = 64
GAMMA = 0.99
EPS_START, EPS_END, EPS_DECAY = 1.0, 0.05, 0.9985
TARGET_UPDATE = 300
LR = 5e-4


class ReplayMemory:
    """Cyclic list of transitions."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.memory = []
        self.position = 0

    def push(self, *args):
        if len(self.memory) < self.capacity:
            self.memory.append(None)
        self.memory[self.position] = Transition(*args)
        self.position = (self.position + 1) % self.capacity

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, n_obs, n_actions):
        super().__init__()
        self.body = nn.Linear(n_obs, 64)
        self.hidden = nn.Linear(64, 64)
        self.head = nn.Linear(64, n_actions)
        for layer in (self.body, self.hidden):
            nn.init.orthogonal_(layer.weight, gain=2 ** 0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.head(F.silu(self.hidden(F.silu(self.body(x)))))


class DoubleDQN:
    def __init__(self, n_obs, n_actions):
        self.n_obs, self.n_actions = n_obs, n_actions
        self.policy_net = DQN(n_obs, n_actions)
        self.target_net = DQN(n_obs, n_actions)
        self.update_target()
        self.target_net.eval()
        self.optimizer = torch.optim.RMSprop(self.policy_net.parameters(), lr=LR, alpha=0.95, eps=1e-5, centered=True)
        self.memory = ReplayMemory(10000)
        self.steps_done, self.eps = 0, EPS_START

    def update_target(self):
        self.target_net.load_state_dict(self.policy_net.state_dict())

    def select_action(self, state, eps):
        if random.random() < eps:
            return torch.tensor([[random.randrange(self.n_actions)]])
        with torch.no_grad():
            return self.policy_net(state).max(1)[1].view(1, 1)

    def optimize_model(self, transitions):
        batch = Transition(*zip(*transitions))
        states, next_states = torch.cat(batch.state), torch.cat(batch.next_state)
        actions, rewards, final = torch.cat(batch.action), torch.cat(batch.reward), torch.cat(batch.final)

        q = self.policy_net(states).gather(1, actions)
        with torch.no_grad():
            next_actions = self.policy_net(next_states).argmax(1, keepdim=True)
            next_q = self.target_net(next_states).gather(1, next_actions)
            next_q[final] = 0.0
            expected = rewards.unsqueeze(1) + GAMMA * next_q
        loss = F.mse_loss(q, expected)

        for param in self.policy_net.parameters():
            param.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(self.policy_net.parameters(), 5.0)
        self.optimizer.step()

    def remember(self, state, action, next_state, reward, terminated):
        self.memory.push(state, action, next_state, torch.tensor([reward], dtype=torch.float32),
                         torch.tensor([bool(terminated)]))

    def train(self, env, steps):
        state = as_state(env.reset()[0])
        for _ in range(steps):
            action = self.select_action(state, self.eps)
            obs, reward, terminated, truncated, _ = env.step(action.item())
            next_state = as_state(obs)
            self.remember(state, action, next_state, float(reward), terminated)
            state = next_state
            self.steps_done += 1
            self.eps = max(EPS_END, self.eps * EPS_DECAY)
            if len(self.memory) >= 2 * BATCH_SIZE:
                self.optimize_model(self.memory.sample(BATCH_SIZE))
            if self.steps_done % TARGET_UPDATE == 0:
                self.update_target()
            if terminated or truncated:
                state = as_state(env.reset()[0])


def as_state(obs):
    return torch.tensor(np.asarray(obs), dtype=torch.float32).unsqueeze(0)


class Adapter:
    gamma = GAMMA

    def __init__(self, agent):
        self.agent = agent
        self.observation_size = agent.n_obs

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.policy_net(torch.tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.target_net(torch.tensor(np.asarray(obs), dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.optimize_model([
            Transition(as_state(o), torch.tensor([[int(a)]]), as_state(n), torch.tensor([r], dtype=torch.float32),
                       torch.tensor([bool(t)]))
            for o, a, r, n, t in zip(obs, action, reward, next_obs, terminated)])

    def act(self, obs, epsilon):
        return int(self.agent.select_action(as_state(obs), epsilon).item())

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.remember(as_state(obs), torch.tensor([[int(action)]]), as_state(next_obs), float(reward), terminated)

    def sample(self, n):
        batch = Transition(*zip(*self.agent.memory.sample(n)))
        return tuple(torch.cat(x).numpy().reshape(n, -1) if k in (0, 3) else torch.cat(x).numpy().reshape(n)
                     for k, x in enumerate((batch.state, batch.action, batch.reward, batch.next_state, batch.final)))

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DoubleDQN(4, 2))
