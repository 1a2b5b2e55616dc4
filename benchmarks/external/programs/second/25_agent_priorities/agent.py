# ---------------------------------------------------------------- buffer.py
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class SumTree:
    def __init__(self, capacity):
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity - 1)

    def total(self):
        return self.tree[0]

    def update(self, data_index, priority):
        i = data_index + self.capacity - 1
        change = priority - self.tree[i]
        self.tree[i] = priority
        while i > 0:
            i = (i - 1) // 2
            self.tree[i] += change

    def get(self, value):
        i = 0
        while 2 * i + 1 < len(self.tree):
            left, right = 2 * i + 1, 2 * i + 2
            if value <= self.tree[left] or self.tree[right] <= 0:
                i = left
            else:
                value -= self.tree[left]
                i = right
        return i - self.capacity + 1


class PrioritizedReplayBuffer:
    def __init__(self, capacity, obs_dim, alpha=0.6, beta=0.4, beta_step=1e-5, eps=1e-4, seed=0):
        self.rng = np.random.default_rng(seed)
        self.alpha, self.beta, self.beta_step, self.eps = alpha, beta, beta_step, eps
        self.capacity = capacity
        self.tree = SumTree(capacity)
        self.obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.action = np.zeros(capacity, dtype=np.int64)
        self.reward = np.zeros(capacity, dtype=np.float32)
        self.done = np.zeros(capacity, dtype=np.float32)
        self.max_priority = 1.0
        self.ptr, self.size = 0, 0

    def add(self, obs, action, reward, next_obs, done):
        self.obs[self.ptr] = obs
        self.next_obs[self.ptr] = next_obs
        self.action[self.ptr] = action
        self.reward[self.ptr] = reward
        self.done[self.ptr] = done
        self.tree.update(self.ptr, self.max_priority**self.alpha)
        self.ptr = (self.ptr + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n):
        edges = np.linspace(0, self.tree.total(), n + 1)
        idx = np.array([self.tree.get(self.rng.uniform(a, b)) for a, b in zip(edges[:-1], edges[1:])])
        idx = np.minimum(idx, self.size - 1)
        p = self.tree.tree[idx + self.capacity - 1] / self.tree.total()
        weights = (self.size * p) ** -self.beta
        weights = (weights / weights.max()).astype(np.float32)
        self.beta = min(1.0, self.beta + self.beta_step)
        return (self.obs[idx], self.action[idx], self.reward[idx], self.next_obs[idx], self.done[idx]), weights, idx

    def update_priorities(self, idx, td_errors):
        priorities = np.maximum(td_errors, self.eps)
        for i, p in zip(idx, priorities):
            self.tree.update(i, p**self.alpha)
        self.max_priority = max(self.max_priority, priorities.max())


# ---------------------------------------------------------------- model.py
class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions, hidden=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(obs_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.value = nn.Linear(hidden, 1)
        self.advantage = nn.Linear(hidden, n_actions)

    def forward(self, x):
        x = self.body(x)
        a = self.advantage(x)
        return self.value(x) + a - a.mean(dim=1, keepdim=True)


# ---------------------------------------------------------------- agent.py
class Agent:
    def __init__(self, obs_dim, n_actions, seed=0, gamma=0.99, lr=5e-4, tau=0.01, batch_size=64):
        self.rng = np.random.default_rng(seed)
        self.obs_dim, self.n_actions = obs_dim, n_actions
        self.gamma, self.tau, self.batch_size = gamma, tau, batch_size
        self.online = QNetwork(obs_dim, n_actions)
        self.target = QNetwork(obs_dim, n_actions)
        self.target.load_state_dict(self.online.state_dict())
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=lr)
        self.buffer = PrioritizedReplayBuffer(2**13, obs_dim, seed=seed)

    def select_action(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        with torch.no_grad():
            return int(self.online(torch.as_tensor(obs, dtype=torch.float32)[None]).argmax(1))

    def learn(self, batch, weights):
        obs, action, reward, next_obs, done = batch
        q = self.online(obs).gather(1, action[:, None]).squeeze(1)
        with torch.no_grad():
            best = self.online(next_obs).argmax(1, keepdim=True)
            y = reward + self.gamma * (1 - done) * self.target(next_obs).gather(1, best).squeeze(1)
        td = y - q
        loss = (weights * F.smooth_l1_loss(q, y, reduction="none")).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        self.soft_update()
        return td.detach().numpy()

    def train_step(self):
        batch, weights, idx = self.buffer.sample(self.batch_size)
        td = self.learn([torch.as_tensor(x) for x in batch], torch.as_tensor(weights))
        self.buffer.update_priorities(idx, td)

    @torch.no_grad()
    def soft_update(self):
        for t, o in zip(self.target.parameters(), self.online.parameters()):
            t.mul_(1 - self.tau).add_(o, alpha=self.tau)


# ---------------------------------------------------------------- main.py
def train(agent, env, steps, eps_decay=4000):
    obs, _ = env.reset()
    for step in range(steps):
        action = agent.select_action(obs, max(0.05, 1 - step / eps_decay))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.buffer.add(obs, action, reward, next_obs, terminated)
        if agent.buffer.size >= 2 * agent.batch_size:
            agent.train_step()
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.obs_dim

    @torch.no_grad()
    def q_values(self, obs):
        return self.agent.online(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return self.agent.target(torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.agent.soft_update()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        f = lambda x: torch.as_tensor(np.asarray(x), dtype=torch.float32)
        batch = f(obs), torch.as_tensor(action, dtype=torch.int64), f(reward), f(next_obs), f(terminated)
        self.agent.learn(batch, torch.ones(len(action)))

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.buffer.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.buffer.sample(n)[0]

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    torch.manual_seed(seed)
    return Adapter(Agent(4, 2, seed))
