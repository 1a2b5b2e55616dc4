import numpy as np
import torch

# Q-learning with plain tensors: W1, b1, W2, b2 and a frozen copy of them


class QLearning:
    def __init__(self, obs_size=4, n_actions=2, hidden=100, lr=0.01, gamma=0.95, seed=0):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        self.obs_size = obs_size
        self.lr = lr
        self.gamma = gamma
        self.W1 = torch.randn(obs_size, hidden) * (2 / obs_size) ** 0.5
        self.b1 = torch.zeros(hidden)
        self.W2 = torch.randn(hidden, n_actions) * (1 / hidden) ** 0.5
        self.b2 = torch.zeros(n_actions)
        self.theta = [self.W1, self.b1, self.W2, self.b2]
        for p in self.theta:
            p.requires_grad = True
        self.theta_old = None
        self.freeze()
        self.D = []
        self.D_max = 8000
        self.i = 0
        self.T = 0

    def freeze(self):
        self.theta_old = [p.clone().detach() for p in self.theta]

    def Q(self, s, theta):
        W1, b1, W2, b2 = theta
        return torch.relu(s @ W1 + b1) @ W2 + b2

    def pi(self, s, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        with torch.no_grad():
            q = self.Q(torch.tensor(s, dtype=torch.float32), self.theta)
        return int(torch.argmax(q))

    def push(self, s, a, r, s2, done):
        t = (s, a, r, s2, done)
        if len(self.D) < self.D_max:
            self.D.append(t)
        else:
            self.D[self.i % self.D_max] = t
        self.i += 1

    def batch(self, n):
        idx = self.rng.choice(len(self.D), n)
        S, A, R, S2, Z = zip(*[self.D[k] for k in idx])
        return np.array(S), np.array(A), np.array(R), np.array(S2), np.array(Z)

    def gradient_step(self, S, A, R, S2, Z):
        S = torch.tensor(S, dtype=torch.float32)
        A = torch.tensor(A, dtype=torch.int64).view(-1, 1)
        R = torch.tensor(R, dtype=torch.float32)
        S2 = torch.tensor(S2, dtype=torch.float32)
        Z = torch.tensor(Z, dtype=torch.float32)
        with torch.no_grad():
            y = R + self.gamma * (1 - Z) * self.Q(S2, self.theta_old).max(1).values
        q = self.Q(S, self.theta).gather(1, A)
        loss = ((q - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in self.theta:
                p -= self.lr * p.grad
                p.grad.zero_()
        return loss.item()

    def interact(self, env, steps):
        s = env.reset()[0]
        for _ in range(steps):
            a = self.pi(s, max(0.05, 1 - self.T / 5000))
            s2, r, done, cut, _ = env.step(a)
            self.push(s, a, r, s2, done)
            self.T += 1
            if self.T > 100:
                self.gradient_step(*self.batch(32))
            if self.T % 200 == 0:
                self.freeze()
            s = s2
            if done or cut:
                s = env.reset()[0]


class Adapter:
    def __init__(self, ql):
        self.ql = ql
        self.gamma = ql.gamma
        self.observation_size = ql.obs_size

    def q_values(self, obs):
        with torch.no_grad():
            return self.ql.Q(torch.tensor(obs, dtype=torch.float32), self.ql.theta).numpy()

    def target_q_values(self, obs):
        return self.ql.Q(torch.tensor(obs, dtype=torch.float32), self.ql.theta_old).numpy()

    def sync_target(self):
        self.ql.freeze()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.ql.gradient_step(obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return self.ql.pi(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.ql.push(np.array(obs), action, reward, np.array(next_obs), terminated)

    def sample(self, n):
        return self.ql.batch(n)

    def run(self, env, env_steps):
        self.ql.interact(env, env_steps)


def make(seed=0):
    return Adapter(QLearning(seed=seed))
