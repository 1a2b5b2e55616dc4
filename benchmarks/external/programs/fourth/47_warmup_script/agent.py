"""dqn_cartpole.py, training script wrapped in a factory so that it can be imported."""
import collections
import random
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

# Hyperparameters
learning_rate = 0.0005
gamma = 0.98
buffer_limit = 5000
start_training = 10000
batch_size = 32
updates_per_episode = 10
target_interval = 20


class ReplayBuffer:
    def __init__(self):
        self.buffer = collections.deque(maxlen=buffer_limit)

    def put(self, transition):
        self.buffer.append(transition)

    def sample(self, n):
        mini_batch = random.sample(self.buffer, n)
        s_lst, a_lst, r_lst, s_prime_lst, done_mask_lst = [], [], [], [], []
        for transition in mini_batch:
            s, a, r, s_prime, done_mask = transition
            s_lst.append(s)
            a_lst.append([a])
            r_lst.append([r])
            s_prime_lst.append(s_prime)
            done_mask_lst.append([done_mask])
        return (
            torch.tensor(np.array(s_lst), dtype=torch.float),
            torch.tensor(a_lst),
            torch.tensor(r_lst, dtype=torch.float),
            torch.tensor(np.array(s_prime_lst), dtype=torch.float),
            torch.tensor(done_mask_lst, dtype=torch.float),
        )

    def size(self):
        return len(self.buffer)


class Qnet(nn.Module):
    def __init__(self, n_in, n_out):
        super(Qnet, self).__init__()
        self.n_out = n_out
        self.fc1 = nn.Linear(n_in, 128)
        self.fc2 = nn.Linear(128, 128)
        self.fc3 = nn.Linear(128, n_out)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

    def sample_action(self, obs, epsilon):
        out = self.forward(obs)
        if random.random() < epsilon:
            return random.randint(0, self.n_out - 1)
        return out.argmax().item()


def build(seed, n_in=4, n_out=2):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    q = Qnet(n_in, n_out)
    q_target = Qnet(n_in, n_out)
    q_target.load_state_dict(q.state_dict())
    memory = ReplayBuffer()
    optimizer = optim.Adam(q.parameters(), lr=learning_rate)

    def train_on(s, a, r, s_prime, done_mask):
        q_a = q(s).gather(1, a)
        max_q_prime = q_target(s_prime).max(1)[0].unsqueeze(1).detach()
        target = r + gamma * max_q_prime * done_mask
        loss = F.smooth_l1_loss(q_a, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def sync():
        q_target.load_state_dict(q.state_dict())

    def main(env, max_steps):
        steps, n_epi, scores = 0, 0, []
        while steps < max_steps:
            epsilon = max(0.01, 0.5 - 0.01 * (n_epi / 20))
            s, _ = env.reset()
            done = False
            score = 0.0
            while not done and steps < max_steps:
                a = q.sample_action(torch.from_numpy(np.asarray(s)).float(), epsilon)
                s_prime, r, terminated, truncated, info = env.step(a)
                done = terminated or truncated
                memory.put((s, a, r / 10.0, s_prime, 0.0 if terminated else 1.0))
                s = s_prime
                score += r
                steps += 1

            if memory.size() > start_training:
                for _ in range(updates_per_episode):
                    train_on(*memory.sample(batch_size))

            n_epi += 1
            scores.append(score)
            if n_epi % target_interval == 0:
                sync()
        return scores

    return SimpleNamespace(q=q, q_target=q_target, memory=memory, optimizer=optimizer, train_on=train_on,
                           sync=sync, main=main, n_in=n_in)


class Adapter:
    def __init__(self, seed):
        self.script = build(seed)
        self.seed = seed
        self.gamma = gamma
        self.observation_size = self.script.n_in

    def q_values(self, obs):
        with torch.no_grad():
            return self.script.q(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.script.q_target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.script.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        column = lambda x, t: torch.as_tensor(np.asarray(x), dtype=t).reshape(-1, 1)
        self.script.train_on(
            torch.as_tensor(obs, dtype=torch.float32), column(action, torch.int64), column(reward, torch.float32),
            torch.as_tensor(next_obs, dtype=torch.float32), 1.0 - column(terminated, torch.float32),
        )

    def act(self, obs, epsilon):
        return self.script.q.sample_action(torch.as_tensor(obs, dtype=torch.float32), epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.script.memory.put((obs, action, reward, next_obs, 0.0 if terminated else 1.0))

    def sample(self, n):
        s, a, r, s_prime, done_mask = (c.numpy() for c in self.script.memory.sample(n))
        return s, a[:, 0], r[:, 0], s_prime, 1.0 - done_mask[:, 0]

    def run(self, env, env_steps):
        self.script.main(env, env_steps)


def make(seed=0):
    return Adapter(seed)
