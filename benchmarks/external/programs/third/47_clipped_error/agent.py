"""DQN after Mnih et al. (2015), for vector observations."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class QFunction(nn.Module):
    def __init__(self, n_features, n_actions):
        super().__init__()
        self.hidden1 = nn.Linear(n_features, 100)
        self.hidden2 = nn.Linear(100, 100)
        self.output = nn.Linear(100, n_actions)

    def forward(self, x):
        x = F.relu(self.hidden1(x))
        x = F.relu(self.hidden2(x))
        return self.output(x)


class DeepQLearner:
    def __init__(self, n_features, n_actions, **kwargs):
        self.n_features = n_features
        self.n_actions = n_actions
        self.discount = kwargs.get("discount", 0.99)
        self.minibatch_size = kwargs.get("minibatch_size", 32)
        self.replay_start_size = kwargs.get("replay_start_size", 250)
        self.target_update_period = kwargs.get("target_update_period", 250)
        self.clip_delta = kwargs.get("clip_delta", 1.0)
        self.final_exploration_step = kwargs.get("final_exploration_step", 4000)
        self.transitions = deque(maxlen=kwargs.get("replay_size", 20000))

        self.network = QFunction(n_features, n_actions)
        self.target_network = QFunction(n_features, n_actions)
        self.target_network.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.RMSprop(
            self.network.parameters(), lr=2.5e-4, alpha=0.95, eps=0.01, momentum=0.0, centered=True)
        self.num_steps = 0

    def epsilon(self):
        if self.num_steps >= self.final_exploration_step:
            return 0.05
        return 1.0 - 0.95 * self.num_steps / self.final_exploration_step

    def e_greedy(self, observation, epsilon):
        if random.uniform(0, 1) < epsilon:
            return random.randint(0, self.n_actions - 1)
        with torch.no_grad():
            q = self.network(torch.from_numpy(np.asarray(observation, dtype=np.float32)).unsqueeze(0))
        return int(q.argmax(dim=1)[0])

    def perceive(self, obs, action, reward, next_obs, terminal):
        self.transitions.append((np.asarray(obs, np.float32), action, reward, np.asarray(next_obs, np.float32),
                                 terminal))

    def minibatch(self, n):
        rows = random.sample(range(len(self.transitions)), n)
        columns = zip(*[self.transitions[row] for row in rows])
        return tuple(np.asarray(column) for column in columns)

    def q_learn_minibatch(self, obs, action, reward, next_obs, terminal):
        obs = torch.from_numpy(np.asarray(obs, dtype=np.float32))
        action = torch.from_numpy(np.asarray(action, dtype=np.int64))
        reward = torch.from_numpy(np.asarray(reward, dtype=np.float32))
        next_obs = torch.from_numpy(np.asarray(next_obs, dtype=np.float32))
        terminal = torch.from_numpy(np.asarray(terminal, dtype=np.float32))

        with torch.no_grad():
            q2_max = self.target_network(next_obs).max(dim=1)[0]
        q2 = self.discount * (1 - terminal) * q2_max
        q = self.network(obs).gather(1, action.view(-1, 1)).view(-1)
        delta = reward + q2 - q
        delta = delta.clamp(-self.clip_delta, self.clip_delta)
        loss = 0.5 * (delta ** 2).sum()

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def copy_network(self):
        self.target_network.load_state_dict(self.network.state_dict())

    def play(self, env, steps):
        obs, _ = env.reset()
        for _ in range(steps):
            action = self.e_greedy(obs, self.epsilon())
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.perceive(obs, action, reward, next_obs, terminated)
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()
            self.num_steps += 1
            if len(self.transitions) >= self.replay_start_size:
                self.q_learn_minibatch(*self.minibatch(self.minibatch_size))
            if self.num_steps % self.target_update_period == 0:
                self.copy_network()


class Adapter:
    def __init__(self, learner):
        self.learner = learner
        self.gamma = learner.discount
        self.observation_size = learner.n_features

    def q_values(self, obs):
        with torch.no_grad():
            return self.learner.network(torch.from_numpy(np.asarray(obs, dtype=np.float32))).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.learner.target_network(torch.from_numpy(np.asarray(obs, dtype=np.float32))).numpy()

    def sync_target(self):
        self.learner.copy_network()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.q_learn_minibatch(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.learner.e_greedy(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.perceive(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.learner.minibatch(n)

    def run(self, env, env_steps):
        self.learner.play(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DeepQLearner(4, 2))
