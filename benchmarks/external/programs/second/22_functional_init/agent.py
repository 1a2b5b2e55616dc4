import random

import numpy as np
import torch
import torch.nn.functional as F


class DQN:
    """Two hidden layers; the weights are plain tensors in a list."""

    def __init__(self, n_obs, n_act, hidden=128, lr=1e-3, gamma=0.99, seed=0):
        torch.manual_seed(seed)
        random.seed(seed)
        self.n_obs, self.n_act = n_obs, n_act
        self.lr, self.gamma = lr, gamma
        shapes = [(n_obs, hidden), (hidden,), (hidden, hidden), (hidden,), (hidden, n_act), (n_act,)]
        self.weights = [torch.rand(*shape, requires_grad=True) for shape in shapes]
        self.target_weights = [w.detach().clone() for w in self.weights]
        self.exp_avg = [torch.zeros_like(w) for w in self.weights]
        self.exp_avg_sq = [torch.zeros_like(w) for w in self.weights]
        self.t = 0
        self.memory = []
        self.capacity = 10000
        self.pos = 0

    def forward(self, x, weights):
        w1, b1, w2, b2, w3, b3 = weights
        x = F.relu(x @ w1 + b1)
        x = F.relu(x @ w2 + b2)
        return x @ w3 + b3

    def store(self, *transition):
        if len(self.memory) < self.capacity:
            self.memory.append(None)
        self.memory[self.pos] = transition
        self.pos = (self.pos + 1) % self.capacity

    def sample(self, n):
        batch = random.sample(self.memory, n)
        obs, act, rew, nxt, done = map(np.array, zip(*batch))
        return obs, act, rew, nxt, done

    def act(self, obs, eps):
        if random.random() < eps:
            return random.randrange(self.n_act)
        with torch.no_grad():
            return int(self.forward(torch.FloatTensor(np.array(obs)), self.weights).argmax())

    def train_step(self, obs, act, rew, nxt, done):
        obs, rew, nxt, done = [torch.as_tensor(x, dtype=torch.float32) for x in (obs, rew, nxt, done)]
        act = torch.as_tensor(act, dtype=torch.long)
        q = self.forward(obs, self.weights).gather(1, act.view(-1, 1)).view(-1)
        target = rew + self.gamma * self.forward(nxt, self.target_weights).max(1)[0] * (1 - done)
        loss = F.smooth_l1_loss(q, target)
        for w in self.weights:
            w.grad = None
        loss.backward()
        self.adam()
        return loss.item()

    @torch.no_grad()
    def adam(self):
        self.t += 1
        for w, m, v in zip(self.weights, self.exp_avg, self.exp_avg_sq):
            m.mul_(0.9).add_(w.grad, alpha=0.1)
            v.mul_(0.999).addcmul_(w.grad, w.grad, value=0.001)
            denom = (v / (1 - 0.999**self.t)).sqrt() + 1e-8
            w.addcdiv_(m / (1 - 0.9**self.t), denom, value=-self.lr)

    def update_target(self):
        for t, w in zip(self.target_weights, self.weights):
            t.copy_(w.detach())


def train(dqn, env, n_steps, batch_size=32, eps_decay=4000, target_update=250):
    obs, _ = env.reset()
    for step in range(n_steps):
        eps = max(0.05, 1 - step / eps_decay)
        action = dqn.act(obs, eps)
        nxt, reward, terminated, truncated, _ = env.step(action)
        dqn.store(obs, action, reward, nxt, terminated)
        if len(dqn.memory) >= 4 * batch_size:
            dqn.train_step(*dqn.sample(batch_size))
        if (step + 1) % target_update == 0:
            dqn.update_target()
        obs = nxt
        if terminated or truncated:
            obs, _ = env.reset()


class Adapter:
    def __init__(self, dqn):
        self.dqn = dqn
        self.gamma = dqn.gamma
        self.observation_size = dqn.n_obs

    @torch.no_grad()
    def q_values(self, obs):
        return self.dqn.forward(torch.as_tensor(obs, dtype=torch.float32), self.dqn.weights).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.dqn.forward(torch.as_tensor(obs, dtype=torch.float32), self.dqn.target_weights).numpy()

    def sync_target(self):
        self.dqn.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.dqn.train_step(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.dqn.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.dqn.store(obs.copy(), action, reward, next_obs.copy(), terminated)

    def sample(self, n):
        return self.dqn.sample(n)

    def run(self, env, env_steps):
        train(self.dqn, env, env_steps)


def make(seed=0):
    return Adapter(DQN(4, 2, seed=seed))
