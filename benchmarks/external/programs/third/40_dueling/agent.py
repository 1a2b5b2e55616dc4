import collections
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

# hyperparameters
learning_rate = 5e-4
gamma = 0.98
buffer_limit = 50000
batch_size = 32
target_interval = 200


class ReplayBuffer:
    def __init__(self):
        self.buffer = collections.deque(maxlen=buffer_limit)

    def put(self, transition):
        self.buffer.append(transition)

    def sample(self, n):
        mini_batch = random.sample(self.buffer, n)
        s_lst, a_lst, r_lst, s_prime_lst, done_mask_lst = [], [], [], [], []
        for s, a, r, s_prime, done_mask in mini_batch:
            s_lst.append(s)
            a_lst.append([a])
            r_lst.append([r])
            s_prime_lst.append(s_prime)
            done_mask_lst.append([done_mask])
        return (torch.tensor(np.array(s_lst), dtype=torch.float), torch.tensor(a_lst),
                torch.tensor(r_lst, dtype=torch.float), torch.tensor(np.array(s_prime_lst), dtype=torch.float),
                torch.tensor(done_mask_lst, dtype=torch.float))

    def size(self):
        return len(self.buffer)


class DuelingQnet(nn.Module):
    def __init__(self, n_states, n_actions):
        super().__init__()
        self.n_actions = n_actions
        self.fc1 = nn.Linear(n_states, 128)
        self.fc_value = nn.Linear(128, 128)
        self.fc_adv = nn.Linear(128, 128)
        self.value = nn.Linear(128, 1)
        self.adv = nn.Linear(128, n_actions)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        v = self.value(F.relu(self.fc_value(x)))
        a = self.adv(F.relu(self.fc_adv(x)))
        return v + a - a.mean()

    def sample_action(self, obs, epsilon):
        out = self.forward(obs.unsqueeze(0))
        coin = random.random()
        if coin < epsilon:
            return random.randrange(0, self.n_actions - 1)
        return out.argmax().item()


def train(q, q_target, batch, optimizer):
    s, a, r, s_prime, done_mask = batch
    q_a = q(s).gather(1, a)
    argmax_q = q(s_prime).max(1)[1].unsqueeze(1)
    max_q_prime = q_target(s_prime).gather(1, argmax_q)
    target = r + gamma * max_q_prime.detach() * done_mask
    loss = F.smooth_l1_loss(q_a, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Experiment:
    def __init__(self, n_states, n_actions):
        self.n_states = n_states
        self.q = DuelingQnet(n_states, n_actions)
        self.q_target = DuelingQnet(n_states, n_actions)
        self.sync()
        self.memory = ReplayBuffer()
        self.optimizer = optim.Adam(self.q.parameters(), lr=learning_rate)
        self.n_epi, self.steps = 0, 0

    def sync(self):
        self.q_target.load_state_dict(self.q.state_dict())

    def main(self, env, max_steps):
        s, _ = env.reset()
        for _ in range(max_steps):
            epsilon = max(0.02, 0.5 - 0.45 * self.steps / 4000)
            a = self.q.sample_action(torch.from_numpy(s).float(), epsilon)
            s_prime, r, terminated, truncated, _ = env.step(a)
            self.memory.put((s, a, r, s_prime, 0.0 if terminated else 1.0))
            s = s_prime
            self.steps += 1
            if terminated or truncated:
                self.n_epi += 1
                s, _ = env.reset()
            if self.memory.size() > 200:
                train(self.q, self.q_target, self.memory.sample(batch_size), self.optimizer)
            if self.steps % target_interval == 0:
                self.sync()


class Adapter:
    gamma = gamma

    def __init__(self, experiment):
        self.experiment = experiment
        self.observation_size = experiment.n_states

    def q_values(self, obs):
        with torch.no_grad():
            return self.experiment.q(torch.tensor(np.array(obs), dtype=torch.float)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.experiment.q_target(torch.tensor(np.array(obs), dtype=torch.float)).numpy()

    def sync_target(self):
        self.experiment.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        t = lambda x: torch.tensor(np.array(x), dtype=torch.float)
        batch = (t(obs), torch.tensor(np.array(action), dtype=torch.int64)[:, None], t(reward)[:, None], t(next_obs),
                 1.0 - t(terminated)[:, None])
        train(self.experiment.q, self.experiment.q_target, batch, self.experiment.optimizer)

    def act(self, obs, epsilon):
        return self.experiment.q.sample_action(torch.tensor(np.array(obs), dtype=torch.float), epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.experiment.memory.put((np.array(obs), int(action), float(reward), np.array(next_obs),
                                    0.0 if terminated else 1.0))

    def sample(self, n):
        s, a, r, s_prime, done_mask = self.experiment.memory.sample(n)
        return s.numpy(), a[:, 0].numpy(), r[:, 0].numpy(), s_prime.numpy(), 1.0 - done_mask[:, 0].numpy()

    def run(self, env, env_steps):
        self.experiment.main(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(Experiment(4, 3))
