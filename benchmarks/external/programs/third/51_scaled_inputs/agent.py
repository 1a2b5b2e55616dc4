import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

Experience = namedtuple("Experience", ["state", "action", "reward", "next_state", "done"])

# typical magnitude of cart position, cart velocity, pole angle and pole velocity
STATE_SCALE = np.array([2.4, 2.0, 0.21, 2.0], dtype=np.float32)


class Network(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(n_in, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_out))

    def forward(self, x):
        return self.fc(x)


class CartPoleAgent:
    def __init__(self, n_states=4, n_actions=2):
        self.n_states = n_states
        self.n_actions = n_actions
        self.gamma = 0.99
        self.tau = 0.01
        self.batch_size = 64
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.98
        self.q_net = Network(n_states, n_actions)
        self.target_net = Network(n_states, n_actions)
        self.target_net.load_state_dict(self.q_net.state_dict())
        self.optimizer = torch.optim.Adam(self.q_net.parameters(), lr=1e-3)
        self.memory = deque(maxlen=20000)

    def preprocess(self, state):
        """Scale the state to about [-1, 1]."""
        return torch.from_numpy(np.asarray(state, dtype=np.float32) / STATE_SCALE)

    def get_action(self, state, epsilon):
        if np.random.rand() < epsilon:
            return int(np.random.randint(self.n_actions))
        with torch.no_grad():
            return self.q_net(self.preprocess(state).unsqueeze(0)).argmax().item()

    def save(self, state, action, reward, next_state, done):
        self.memory.append(Experience(state, action, reward, next_state, done))

    def sample(self, n):
        batch = Experience(*zip(*random.sample(self.memory, n)))
        return (np.array(batch.state, dtype=np.float32), np.array(batch.action), np.array(batch.reward),
                np.array(batch.next_state, dtype=np.float32), np.array(batch.done))

    def train_on_batch(self, states, actions, rewards, next_states, dones):
        states = self.preprocess(states)
        next_states = torch.from_numpy(np.asarray(next_states, dtype=np.float32))
        actions = torch.from_numpy(np.asarray(actions, dtype=np.int64))
        rewards = torch.from_numpy(np.asarray(rewards, dtype=np.float32))
        dones = torch.from_numpy(np.asarray(dones, dtype=np.float32))

        with torch.no_grad():
            next_q = self.target_net(next_states).max(1).values
            targets = rewards + self.gamma * next_q * (1 - dones)
        q = self.q_net(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = F.mse_loss(q, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def update_target(self):
        for target, source in zip(self.target_net.parameters(), self.q_net.parameters()):
            target.data.mul_(1 - self.tau).add_(self.tau * source.data)

    def train(self, env, total_steps):
        state, _ = env.reset()
        for step in range(total_steps):
            action = self.get_action(state, self.epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.save(state, action, reward, next_state, terminated)
            state = next_state
            if len(self.memory) >= 3 * self.batch_size:
                self.train_on_batch(*self.sample(self.batch_size))
                self.update_target()
            if terminated or truncated:
                self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)
                state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.n_states

    def q_values(self, obs):
        return self.agent.q_net(self.agent.preprocess(obs)).detach().numpy()

    def target_q_values(self, obs):
        return self.agent.target_net(self.agent.preprocess(obs)).detach().numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train_on_batch(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.save(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(CartPoleAgent())
