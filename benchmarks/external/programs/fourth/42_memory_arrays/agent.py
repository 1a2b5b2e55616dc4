import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, n_states, n_actions):
        super(Net, self).__init__()
        self.fc1 = nn.Linear(n_states, 64)
        self.fc2 = nn.Linear(64, 64)
        self.out = nn.Linear(64, n_actions)
        for layer in (self.fc1, self.fc2, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = F.leaky_relu(self.fc1(x))
        x = F.leaky_relu(self.fc2(x))
        return self.out(x)


class Memory:
    def __init__(self, capacity, n_states):
        self.capacity = capacity
        self.counter = 0
        self.s = np.zeros((capacity, n_states), dtype=np.float32)
        self.a = np.zeros(capacity, dtype=np.uint8)
        self.r = np.zeros(capacity, dtype=np.int16)
        self.s_ = np.zeros((capacity, n_states), dtype=np.float32)
        self.d = np.zeros(capacity, dtype=np.uint8)

    def store(self, s, a, r, s_, d):
        index = self.counter % self.capacity
        self.s[index] = s
        self.a[index] = a
        self.r[index] = r
        self.s_[index] = s_
        self.d[index] = d
        self.counter += 1

    def sample(self, batch_size):
        high = min(self.counter, self.capacity)
        index = np.random.randint(0, high, batch_size)
        return self.s[index], self.a[index], self.r[index], self.s_[index], self.d[index]


class DQN:
    def __init__(self, n_states, n_actions, lr=1e-3, gamma=0.95, batch_size=32, memory_capacity=5000,
                 target_replace_iter=100, learn_start=200):
        self.n_states = n_states
        self.n_actions = n_actions
        self.lr = lr
        self.gamma = gamma
        self.batch_size = batch_size
        self.target_replace_iter = target_replace_iter
        self.learn_start = learn_start
        self.eval_net, self.target_net = Net(n_states, n_actions), Net(n_states, n_actions)
        self.target_net.load_state_dict(self.eval_net.state_dict())
        self.memory = Memory(memory_capacity, n_states)
        self.learn_step_counter = 0
        self.loss_func = nn.MSELoss()

    def choose_action(self, x, epsilon):
        if np.random.uniform() < epsilon:
            return int(np.random.randint(0, self.n_actions))
        x = torch.unsqueeze(torch.FloatTensor(np.asarray(x)), 0)
        with torch.no_grad():
            actions_value = self.eval_net(x)
        return int(torch.max(actions_value, 1)[1].item())

    def replace_target(self):
        self.target_net.load_state_dict(self.eval_net.state_dict())

    def learn(self, batch=None):
        if self.learn_step_counter % self.target_replace_iter == 0:
            self.replace_target()
        self.learn_step_counter += 1

        if batch is None:
            batch = self.memory.sample(self.batch_size)
        b_s, b_a, b_r, b_s_, b_d = batch
        b_s = torch.FloatTensor(np.asarray(b_s, dtype=np.float32))
        b_a = torch.LongTensor(np.asarray(b_a, dtype=np.int64)).unsqueeze(1)
        b_r = torch.FloatTensor(np.asarray(b_r, dtype=np.float32)).unsqueeze(1)
        b_s_ = torch.FloatTensor(np.asarray(b_s_, dtype=np.float32))
        b_d = torch.FloatTensor(np.asarray(b_d, dtype=np.float32)).unsqueeze(1)

        q_eval = self.eval_net(b_s).gather(1, b_a)
        q_next = self.target_net(b_s_).detach()
        q_target = b_r + self.gamma * (1 - b_d) * q_next.max(1)[0].view(-1, 1)
        loss = self.loss_func(q_eval, q_target)

        optimizer = torch.optim.Adam(self.eval_net.parameters(), lr=self.lr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()


def modified_reward(env, s_, r):
    """CartPole: reward a centered cart and an upright pole."""
    if getattr(env.unwrapped, "theta_threshold_radians", None) is None:
        return r
    x, _, theta, _ = s_
    r1 = (env.unwrapped.x_threshold - abs(x)) / env.unwrapped.x_threshold - 0.8
    r2 = (env.unwrapped.theta_threshold_radians - abs(theta)) / env.unwrapped.theta_threshold_radians - 0.5
    return r1 + r2


def train(dqn, env, steps, epsilon=0.1):
    ep_r, history = 0.0, []
    s, _ = env.reset()
    for _ in range(steps):
        a = dqn.choose_action(s, epsilon)
        s_, r, terminated, truncated, _ = env.step(a)
        ep_r += r
        dqn.memory.store(s, a, modified_reward(env, s_, r), s_, terminated)
        if dqn.memory.counter > dqn.learn_start:
            dqn.learn()
        s = s_
        if terminated or truncated:
            history.append(ep_r)
            ep_r = 0.0
            s, _ = env.reset()
    return history


class Adapter:
    def __init__(self, dqn):
        self.dqn = dqn
        self.gamma = dqn.gamma
        self.observation_size = dqn.n_states

    def q_values(self, obs):
        with torch.no_grad():
            return self.dqn.eval_net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return self.dqn.target_net(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.dqn.replace_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.learn((obs, action, reward, next_obs, terminated))

    def act(self, obs, epsilon):
        return self.dqn.choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.memory.store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.dqn.memory.sample(n)

    def run(self, env, env_steps):
        train(self.dqn, env, env_steps)


def make(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DQN(4, 2))
