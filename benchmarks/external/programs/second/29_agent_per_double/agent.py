import random

import numpy as np
import torch
import torch.nn as nn


# prioritized_memory.py -----------------------------------------------------
class PrioritizedMemory:
    def __init__(self, capacity=8192, alpha=0.6, beta=0.4, beta_increment=2e-5):
        self.capacity = capacity
        self.alpha = alpha
        self.beta = beta
        self.beta_increment = beta_increment
        self.data = []
        self.priorities = np.zeros(capacity)
        self.position = 0

    def push(self, *transition):
        top = self.priorities.max() if self.data else 1.0
        if len(self.data) < self.capacity:
            self.data.append(transition)
        else:
            self.data[self.position] = transition
        self.priorities[self.position] = top
        self.position = (self.position + 1) % self.capacity

    def sample(self, n):
        probs = self.priorities[: len(self.data)] ** self.alpha
        probs = probs / probs.sum()
        indices = np.random.choice(len(self.data), n, p=probs)
        weights = (len(self.data) * probs[indices]) ** self.beta
        weights /= weights.max()
        self.beta = min(1.0, self.beta + self.beta_increment)
        columns = [np.array(c) for c in zip(*(self.data[i] for i in indices))]
        return columns, indices, weights.astype(np.float32)

    def set_priorities(self, indices, errors):
        self.priorities[indices] = np.abs(errors) + 1e-5

    def __len__(self):
        return len(self.data)


# dqn_agent.py --------------------------------------------------------------
class DQNAgent:
    def __init__(self, state_size, action_size, hidden=64, gamma=0.98, lr=5e-4, batch_size=32):
        self.state_size = state_size
        self.action_size = action_size
        self.gamma = gamma
        self.batch_size = batch_size
        self.policy_net = self._net(hidden)
        self.target_net = self._net(hidden)
        self.target_net.load_state_dict(self.policy_net.state_dict())
        self.target_net.eval()
        self.optimizer = torch.optim.RMSprop(self.policy_net.parameters(), lr=lr)
        self.memory = PrioritizedMemory()
        self.frame = 0

    def _net(self, hidden):
        return nn.Sequential(
            nn.Linear(self.state_size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, self.action_size),
        )

    def epsilon(self):
        return 0.05 + 0.95 * np.exp(-self.frame / 1500)

    def act(self, state, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.action_size)
        with torch.no_grad():
            return self.policy_net(torch.from_numpy(np.asarray(state, dtype=np.float32))).argmax().item()

    def optimize(self, states, actions, rewards, next_states, dones, weights):
        states = torch.as_tensor(np.asarray(states), dtype=torch.float32)
        next_states = torch.as_tensor(np.asarray(next_states), dtype=torch.float32)
        actions = torch.as_tensor(actions, dtype=torch.int64).unsqueeze(1)
        rewards = torch.as_tensor(np.asarray(rewards), dtype=torch.float32).unsqueeze(1)
        dones = torch.as_tensor(np.asarray(dones), dtype=torch.float32).unsqueeze(1)
        weights = torch.as_tensor(weights).unsqueeze(1)

        q_values = self.policy_net(states).gather(1, actions)
        with torch.no_grad():
            next_actions = self.policy_net(states).argmax(dim=1, keepdim=True)
            next_q_values = self.target_net(next_states).gather(1, next_actions)
            expected = rewards + self.gamma * next_q_values * (1 - dones)
        errors = q_values - expected
        loss = (weights * errors.pow(2)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return errors.detach().squeeze(1).numpy()

    def update_target(self):
        self.target_net.load_state_dict(self.policy_net.state_dict())

    def train_from_memory(self):
        batch, indices, weights = self.memory.sample(self.batch_size)
        errors = self.optimize(*batch, weights)
        self.memory.set_priorities(indices, errors)


# train.py ------------------------------------------------------------------
def train(agent, env, frames, warmup=64, target_update=200):
    state, _ = env.reset()
    for _ in range(frames):
        action = agent.act(state, agent.epsilon())
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.memory.push(state, action, reward, next_state, terminated)
        agent.frame += 1
        if len(agent.memory) >= warmup:
            agent.train_from_memory()
        if agent.frame % target_update == 0:
            agent.update_target()
        if terminated or truncated:
            next_state, _ = env.reset()
        state = next_state


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_size

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.policy_net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.target_net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.optimize(obs, action, reward, next_obs, terminated, np.ones(len(action), dtype=np.float32))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.push(np.array(obs), int(action), float(reward), np.array(next_obs), bool(terminated))

    def sample(self, n):
        return self.agent.memory.sample(n)[0]

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DQNAgent(4, 2))
