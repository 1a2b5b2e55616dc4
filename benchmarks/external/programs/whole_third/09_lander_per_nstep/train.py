"""LunarLander with a dueling double DQN, prioritized replay and n-step returns."""
import random
from collections import deque
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.optim import Adam

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class DuelingNet(nn.Module):
    def __init__(self, obs_dim, n_actions, width=128):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(obs_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.val = nn.Linear(width, 1)
        self.adv = nn.Linear(width, n_actions)

    def forward(self, x):
        h = self.body(x)
        adv = self.adv(h)
        return self.val(h) + adv - adv.mean(-1, keepdim=True)


class NStep:
    """Turns single steps into (s_t, a_t, R_t^(k), s_{t+k}, terminal, gamma^k)."""

    def __init__(self, n, gamma):
        self.n, self.gamma = n, gamma
        self.window = deque()

    def _head(self, next_obs, terminal):
        ret, disc = 0.0, 1.0
        for _, _, r in self.window:
            ret += disc * r
            disc *= self.gamma
        s, a, _ = self.window.popleft()
        return s, a, ret, next_obs, terminal, disc

    def push(self, s, a, r, s2, terminated, truncated):
        self.window.append((s, a, r))
        out = []
        if terminated or truncated:
            while self.window:
                out.append(self._head(s2, terminated))
        elif len(self.window) == self.n:
            out.append(self._head(s2, False))
        return out


class PrioritizedMemory:
    def __init__(self, capacity, obs_dim, alpha=0.6):
        self.capacity, self.alpha = capacity, alpha
        self.s = np.zeros((capacity, obs_dim), np.float32)
        self.s2 = np.zeros((capacity, obs_dim), np.float32)
        self.a = np.zeros(capacity, np.int64)
        self.ret = np.zeros(capacity, np.float32)
        self.term = np.zeros(capacity, np.float32)
        self.disc = np.zeros(capacity, np.float32)
        self.prio = np.zeros(capacity, np.float64)
        self.ptr = self.size = 0
        self.max_prio = 1.0

    def add(self, s, a, ret, s2, term, disc):
        i = self.ptr
        self.s[i], self.a[i], self.ret[i], self.s2[i] = s, a, ret, s2
        self.term[i], self.disc[i] = term, disc
        self.prio[i] = self.max_prio
        self.ptr = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, n, beta):
        p = self.prio[: self.size] ** self.alpha
        cdf = np.cumsum(p)
        u = (np.arange(n) + np.random.rand(n)) / n * cdf[-1]
        idx = np.minimum(np.searchsorted(cdf, u, side="right"), self.size - 1)
        w = (self.size * p[idx] / cdf[-1]) ** -beta
        w = w / w.max()
        tensors = [torch.from_numpy(x[idx]).to(DEVICE)
                   for x in (self.s, self.a, self.ret, self.s2, self.term, self.disc)]
        return idx, torch.from_numpy(w.astype(np.float32)).to(DEVICE), tensors

    def update(self, idx, td):
        self.prio[idx] = np.abs(td) + 1e-3
        self.max_prio = max(self.max_prio, self.prio[idx].max())


class Learner:
    def __init__(self, obs_dim, n_actions, n_step=3, gamma=0.99):
        self.n_actions = n_actions
        self.net = DuelingNet(obs_dim, n_actions).to(DEVICE)
        self.old = DuelingNet(obs_dim, n_actions).to(DEVICE)
        self.old.load_state_dict(self.net.state_dict())
        for p in self.old.parameters():
            p.requires_grad_(False)
        self.opt = Adam(self.net.parameters(), lr=5e-4, eps=1.5e-4)
        self.memory = PrioritizedMemory(50_000, obs_dim)
        self.nstep = NStep(n_step, gamma)
        self.frames = 0
        self.batch, self.warmup, self.every, self.sync = 64, 2_000, 2, 1_000

    def epsilon(self):
        return max(0.01, 1.0 - self.frames / 60_000)

    def beta(self):
        return min(1.0, 0.4 + 0.6 * self.frames / 250_000)

    @torch.no_grad()
    def act(self, obs):
        if random.random() < self.epsilon():
            return random.randrange(self.n_actions)
        return self.net(torch.from_numpy(obs)[None].to(DEVICE)).argmax(1).item()

    def step(self, *step):
        for tr in self.nstep.push(*step):
            self.memory.add(*tr)
        self.frames += 1
        if self.memory.size >= self.warmup and self.frames % self.every == 0:
            self.learn()
        if self.frames % self.sync == 0:
            self.old.load_state_dict(self.net.state_dict())

    def learn(self):
        idx, w, (s, a, ret, s2, term, disc) = self.memory.sample(self.batch, self.beta())
        with torch.no_grad():
            a2 = self.net(s2).argmax(1)
            y = ret + disc * (1.0 - term) * self.old(s2)[torch.arange(len(a2)), a2]
        q = self.net(s)[torch.arange(len(a)), a]
        td = y - q
        loss = (w * nn.functional.huber_loss(q, y, reduction="none", delta=5.0)).mean()
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.opt.step()
        self.memory.update(idx, td.detach().cpu().numpy())


def main(episodes=900, seed=0, out=Path("lander_out")):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    out.mkdir(exist_ok=True)
    env = gym.make("LunarLander-v3")
    learner = Learner(env.observation_space.shape[0], int(env.action_space.n))
    returns = []
    for ep in range(episodes):
        obs, _ = env.reset(seed=seed if ep == 0 else None)
        total, stop = 0.0, False
        while not stop:
            action = learner.act(obs)
            nxt, reward, terminated, truncated, _ = env.step(action)
            # rewards are scaled down for learning, the printed return is not
            learner.step(obs, action, reward / 10.0, nxt, terminated, truncated)
            obs, total, stop = nxt, total + reward, terminated or truncated
        returns.append(total)
        if ep % 10 == 9:
            print(f"ep {ep + 1:4d}  frames {learner.frames:7d}  mean50 {np.mean(returns[-50:]):8.1f}  eps {learner.epsilon():.2f}")
        if ep % 100 == 99:
            torch.save(learner.net.state_dict(), out / f"net_{ep + 1}.pt")
            np.save(out / "returns.npy", np.array(returns))
        if len(returns) >= 100 and np.mean(returns[-100:]) >= 220:
            print("solved")
            torch.save(learner.net.state_dict(), out / "net_solved.pt")
            break


if __name__ == "__main__":
    main()
