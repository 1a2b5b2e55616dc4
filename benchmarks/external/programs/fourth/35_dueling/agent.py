# Dueling DQN, notebook turned into a module
import math
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


class ReplayBuffer(object):
    def __init__(self, capacity):
        self.buffer = deque(maxlen=capacity)

    def push(self, state, action, reward, next_state, done):
        state = np.expand_dims(state, 0)
        next_state = np.expand_dims(next_state, 0)
        self.buffer.append((state, action, reward, next_state, done))

    def sample(self, batch_size):
        state, action, reward, next_state, done = zip(*random.sample(self.buffer, batch_size))
        return np.concatenate(state), action, reward, np.concatenate(next_state), done

    def __len__(self):
        return len(self.buffer)


epsilon_start = 1.0
epsilon_final = 0.01
epsilon_decay = 500
epsilon_by_frame = lambda frame_idx: epsilon_final + (epsilon_start - epsilon_final) * math.exp(
    -1.0 * frame_idx / epsilon_decay
)


class DuelingDQN(nn.Module):
    def __init__(self, num_inputs, num_outputs):
        super(DuelingDQN, self).__init__()
        self.num_outputs = num_outputs

        self.feature = nn.Sequential(
            nn.Linear(num_inputs, 128),
            nn.ReLU(),
        )
        self.advantage = nn.Sequential(
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, num_outputs),
        )
        self.value = nn.Sequential(
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, 1),
        )

    def forward(self, x):
        x = self.feature(x)
        advantage = self.advantage(x)
        value = self.value(x)
        return value + advantage - advantage.mean()

    def act(self, state, epsilon):
        if random.random() > epsilon:
            state = torch.FloatTensor(np.asarray(state)).unsqueeze(0)
            with torch.no_grad():
                q_value = self.forward(state)
            return q_value.max(1)[1].item()
        return random.randrange(self.num_outputs)


batch_size = 64
gamma = 0.99
lr = 1e-3
target_every = 100


class Experiment:
    def __init__(self, num_inputs, num_outputs):
        self.num_inputs = num_inputs
        self.current_model = DuelingDQN(num_inputs, num_outputs)
        self.target_model = DuelingDQN(num_inputs, num_outputs)
        self.optimizer = optim.Adam(self.current_model.parameters(), lr=lr)
        self.replay_buffer = ReplayBuffer(5000)
        self.update_target()

    def update_target(self):
        self.target_model.load_state_dict(self.current_model.state_dict())

    def compute_td_loss(self, state, action, reward, next_state, done):
        state = torch.FloatTensor(np.float32(state))
        next_state = torch.FloatTensor(np.float32(next_state))
        action = torch.LongTensor(np.asarray(action))
        reward = torch.FloatTensor(np.asarray(reward, dtype=np.float32))
        done = torch.FloatTensor(np.asarray(done, dtype=np.float32))

        q_values = self.current_model(state)
        next_q_values = self.target_model(next_state)

        q_value = q_values.gather(1, action.unsqueeze(1)).squeeze(1)
        next_q_value = next_q_values.max(1)[0]
        expected_q_value = reward + gamma * next_q_value * (1 - done)

        loss = (q_value - expected_q_value.detach()).pow(2).mean()

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def train(self, env, num_frames):
        losses, all_rewards, episode_reward = [], [], 0
        state, _ = env.reset()
        for frame_idx in range(1, num_frames + 1):
            epsilon = epsilon_by_frame(frame_idx)
            action = self.current_model.act(state, epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.replay_buffer.push(state, action, reward, next_state, terminated)
            state = next_state
            episode_reward += reward

            if terminated or truncated:
                state, _ = env.reset()
                all_rewards.append(episode_reward)
                episode_reward = 0

            if len(self.replay_buffer) > batch_size:
                loss = self.compute_td_loss(*self.replay_buffer.sample(batch_size))
                losses.append(loss.item())

            if frame_idx % target_every == 0:
                self.update_target()
        return all_rewards, losses


class Adapter:
    def __init__(self, experiment):
        self.experiment = experiment
        self.gamma = gamma
        self.observation_size = experiment.num_inputs

    def q_values(self, obs):
        with torch.no_grad():
            return self.experiment.current_model(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.experiment.target_model(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.experiment.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.experiment.compute_td_loss(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.experiment.current_model.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.experiment.replay_buffer.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return tuple(np.asarray(c) for c in self.experiment.replay_buffer.sample(n))

    def run(self, env, env_steps):
        self.experiment.train(env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Experiment(4, 2))
