import copy

import numpy as np
import torch


def layer(n_in, n_out):
    return {"w": torch.nn.init.kaiming_uniform_(torch.empty(n_out, n_in)), "b": torch.zeros(n_out)}


def build_q(n_in, n_out, width=64):
    layers = [layer(n_in, width), layer(width, width), layer(width, n_out)]
    for l in layers:
        for t in l.values():
            t.requires_grad_()
    return layers


def apply_q(layers, x):
    for l in layers[:-1]:
        x = (x @ l["w"].t() + l["b"]).clamp(min=0)
    return x @ layers[-1]["w"].t() + layers[-1]["b"]


def tensors(layers):
    return [t for l in layers for t in l.values()]


class Buffer:
    def __init__(self, capacity, obs_dim):
        self.obs = torch.zeros(capacity, obs_dim)
        self.act = torch.zeros(capacity, dtype=torch.long)
        self.rew = torch.zeros(capacity)
        self.obs2 = torch.zeros(capacity, obs_dim)
        self.done = torch.zeros(capacity)
        self.capacity, self.ptr, self.size = capacity, 0, 0

    def put(self, o, a, r, o2, d):
        i = self.ptr
        self.obs[i] = torch.as_tensor(o)
        self.act[i] = a
        self.rew[i] = float(r)
        self.obs2[i] = torch.as_tensor(o2)
        self.done[i] = float(d)
        self.ptr = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def get(self, n):
        i = torch.randint(0, self.size, (n,))
        return self.obs[i], self.act[i], self.rew[i], self.obs2[i], self.done[i]


class Trainer:
    def __init__(self, obs_dim, n_actions, gamma=0.97, lr=1e-3, batch=64):
        self.obs_dim, self.n_actions = obs_dim, n_actions
        self.gamma, self.lr, self.batch = gamma, lr, batch
        self.q = build_q(obs_dim, n_actions)
        self.q_target = copy.deepcopy(self.q)
        self.sq = [torch.zeros_like(p) for p in tensors(self.q)]
        self.buffer = Buffer(10000, obs_dim)
        self.n = 0

    def objective(self, o, a, r, o2, d):
        with torch.no_grad():
            backup = r + self.gamma * (1 - d) * apply_q(self.q_target, o2).amax(dim=1)
        q_taken = apply_q(self.q, o).gather(1, a[:, None])[:, 0]
        return (q_taken - backup).mean().pow(2)

    def step(self, *batch):
        params = tensors(self.q)
        grads = torch.autograd.grad(self.objective(*batch), params)
        with torch.no_grad():
            for p, g, s in zip(params, grads, self.sq):
                # RMSprop
                s.mul_(0.99).addcmul_(g, g, value=0.01)
                p.addcdiv_(g, s.sqrt().add_(1e-5), value=-self.lr)

    def sync(self):
        with torch.no_grad():
            for p, t in zip(tensors(self.q), tensors(self.q_target)):
                t.copy_(p)

    def choose(self, o, eps):
        if np.random.random() < eps:
            return np.random.randint(self.n_actions)
        with torch.no_grad():
            return apply_q(self.q, torch.as_tensor(o, dtype=torch.float32)[None]).argmax(dim=1).item()

    def train(self, env, steps):
        o, _ = env.reset()
        for _ in range(steps):
            a = self.choose(o, float(np.interp(self.n, [0, 4000], [1, 0.05])))
            o2, r, term, trunc, _ = env.step(a)
            self.buffer.put(o, a, r, o2, term)
            self.n += 1
            if self.buffer.size >= self.batch:
                self.step(*self.buffer.get(self.batch))
            if self.n % 300 == 0:
                self.sync()
            o = env.reset()[0] if (term or trunc) else o2


class Adapter:
    def __init__(self, trainer):
        self.trainer = trainer
        self.gamma = trainer.gamma
        self.observation_size = trainer.obs_dim

    @torch.no_grad()
    def q_values(self, obs):
        return apply_q(self.trainer.q, torch.as_tensor(obs, dtype=torch.float32)).numpy()

    @torch.no_grad()
    def target_q_values(self, obs):
        return apply_q(self.trainer.q_target, torch.as_tensor(obs, dtype=torch.float32)).numpy()

    def sync_target(self):
        self.trainer.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        o, r, o2, d = (torch.tensor(np.asarray(x), dtype=torch.float32) for x in (obs, reward, next_obs, terminated))
        self.trainer.step(o, torch.tensor(action, dtype=torch.long), r, o2, d)

    def act(self, obs, epsilon):
        return self.trainer.choose(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.trainer.buffer.put(obs, int(action), reward, next_obs, terminated)

    def sample(self, n):
        return [x.numpy() for x in self.trainer.buffer.get(n)]

    def run(self, env, env_steps):
        self.trainer.train(env, env_steps)


def make(seed=0):
    torch.manual_seed(seed)
    np.random.seed(seed)
    return Adapter(Trainer(4, 2))
