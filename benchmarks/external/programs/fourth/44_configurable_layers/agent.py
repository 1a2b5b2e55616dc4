from __future__ import annotations

import random
from collections import deque

import numpy as np
import torch
from torch import Tensor, nn


class QFunction(nn.Module):
    """MLP with a configurable number of hidden layers."""

    def __init__(self, state_dim: int, num_actions: int, hidden_sizes: tuple[int, ...] = (64, 64)) -> None:
        super().__init__()
        sizes = [state_dim, *hidden_sizes]
        self.hidden = [nn.Linear(n_in, n_out) for n_in, n_out in zip(sizes[:-1], sizes[1:])]
        self.output = nn.Linear(sizes[-1], num_actions)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.output(x)


class UniformReplay:
    def __init__(self, capacity: int) -> None:
        self._storage: deque = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._storage)

    def append(self, *transition) -> None:
        self._storage.append(transition)

    def sample(self, n: int) -> tuple[np.ndarray, ...]:
        states, actions, rewards, next_states, terminals = zip(*random.choices(self._storage, k=n))
        return (
            np.stack(states).astype(np.float32),
            np.array(actions, dtype=np.int64),
            np.array(rewards, dtype=np.float32),
            np.stack(next_states).astype(np.float32),
            np.array(terminals, dtype=np.float32),
        )


class DoubleDQNAgent:
    def __init__(
        self,
        state_dim: int,
        num_actions: int,
        *,
        hidden_sizes: tuple[int, ...] = (64, 64),
        discount: float = 0.99,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        capacity: int = 20_000,
        sync_every: int = 200,
        min_replay: int = 256,
    ) -> None:
        self.state_dim = state_dim
        self.num_actions = num_actions
        self.discount = discount
        self.batch_size = batch_size
        self.sync_every = sync_every
        self.min_replay = min_replay
        self.q = QFunction(state_dim, num_actions, hidden_sizes)
        self.q_target = QFunction(state_dim, num_actions, hidden_sizes)
        self.sync_target()
        self.q_target.requires_grad_(False)
        self.optimizer = torch.optim.RMSprop(self.q.parameters(), lr=learning_rate, alpha=0.95, eps=0.01)
        self.loss_fn = nn.SmoothL1Loss()
        self.replay = UniformReplay(capacity)
        self.num_updates = 0

    def sync_target(self) -> None:
        self.q_target.load_state_dict(self.q.state_dict())

    @torch.no_grad()
    def act(self, state: np.ndarray, epsilon: float) -> int:
        if random.random() < epsilon:
            return random.randrange(self.num_actions)
        return int(self.q(torch.as_tensor(state, dtype=torch.float32)).argmax(-1))

    def update(self, states, actions, rewards, next_states, terminals) -> float:
        states = torch.as_tensor(states, dtype=torch.float32)
        actions = torch.as_tensor(actions, dtype=torch.int64)
        rewards = torch.as_tensor(rewards, dtype=torch.float32)
        next_states = torch.as_tensor(next_states, dtype=torch.float32)
        terminals = torch.as_tensor(terminals, dtype=torch.float32)

        with torch.no_grad():
            greedy = self.q(next_states).argmax(dim=1, keepdim=True)
            bootstrap = self.q_target(next_states).gather(1, greedy).squeeze(1)
            targets = rewards + self.discount * (1.0 - terminals) * bootstrap
        values = self.q(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = self.loss_fn(values, targets)

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.num_updates += 1
        if self.num_updates % self.sync_every == 0:
            self.sync_target()
        return loss.item()


def run_training(agent: DoubleDQNAgent, env, num_steps: int, anneal: int = 5000, final: float = 0.05) -> list[float]:
    returns: list[float] = []
    episode_return = 0.0
    state, _ = env.reset()
    for step in range(num_steps):
        epsilon = max(final, 1.0 - (1.0 - final) * step / anneal)
        action = agent.act(state, epsilon)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.replay.append(state, action, reward, next_state, terminated)
        episode_return += float(reward)
        state = next_state
        if terminated or truncated:
            returns.append(episode_return)
            episode_return = 0.0
            state, _ = env.reset()
        if len(agent.replay) >= agent.min_replay:
            agent.update(*agent.replay.sample(agent.batch_size))
    return returns


class Adapter:
    def __init__(self, agent: DoubleDQNAgent) -> None:
        self.agent = agent
        self.gamma = agent.discount
        self.observation_size = agent.state_dim

    def q_values(self, obs):
        with torch.no_grad():
            return self.agent.q(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.agent.q_target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.sync_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.replay.append(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.replay.sample(n)

    def run(self, env, env_steps):
        run_training(self.agent, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DoubleDQNAgent(4, 2))
