import gymnasium as gym
import numpy as np
import torch
from torch import nn


class TableNet(nn.Module):
    """The lake has 64 squares, an embedding does the one-hot step."""

    def __init__(self, n_states, n_actions, width=32):
        super().__init__()
        self.emb = nn.Embedding(n_states, width)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(width, n_actions))

    def forward(self, s):
        return self.head(self.emb(s))


class Ring:
    def __init__(self, size):
        self.table = np.zeros((size, 5))
        self.count = 0

    def put(self, *row):
        self.table[self.count % len(self.table)] = row
        self.count += 1

    def get(self, n, rng):
        rows = self.table[rng.integers(0, min(self.count, len(self.table)), n)]
        s, a, s2 = (torch.from_numpy(rows[:, k].astype(np.int64)) for k in (0, 1, 3))
        r, alive = (torch.from_numpy(rows[:, k].astype(np.float32)) for k in (2, 4))
        return s, a, r, s2, alive


def main(episodes=2000, seed=2):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    env = gym.make("FrozenLake-v1", map_name="8x8", is_slippery=False)
    n_s, n_a = int(env.observation_space.n), int(env.action_space.n)
    nets = [TableNet(n_s, n_a), TableNet(n_s, n_a)]       # two estimators, each evaluates the other's choice
    opts = [torch.optim.Adam(n.parameters(), lr=1e-3) for n in nets]
    ring = Ring(20_000)
    wins, steps = [], 0

    for ep in range(episodes):
        eps = max(0.05, 1.0 - ep / (0.7 * episodes))
        s, _ = env.reset(seed=seed if ep == 0 else None)
        finished = False
        while not finished:
            if rng.random() < eps:
                a = int(rng.integers(n_a))
            else:
                with torch.no_grad():
                    x = torch.tensor([s])
                    q = (nets[0](x) + nets[1](x))[0].numpy()
                a = int(rng.choice(np.flatnonzero(q >= q.max() - 1e-9)))
            s2, r, term, trunc, _ = env.step(a)
            ring.put(s, a, r, s2, 0.0 if term else 1.0)
            s = s2
            finished = term or trunc
            steps += 1

            if steps > 1000 and steps % 2 == 0:
                k = int(rng.integers(2))
                me, other = nets[k], nets[1 - k]
                bs, ba, br, bs2, alive = ring.get(64, rng)
                with torch.no_grad():
                    star = me(bs2).argmax(1, keepdim=True)
                    y = br + 0.95 * alive * other(bs2).gather(1, star)[:, 0]
                q = me(bs).gather(1, ba[:, None])[:, 0]
                loss = nn.functional.mse_loss(q, y)
                opts[k].zero_grad()
                loss.backward()
                opts[k].step()
        wins.append(r > 0)
        if (ep + 1) % 100 == 0:
            print(f"{ep + 1} episodes, {steps} steps, eps {eps:.2f}, wins {np.mean(wins[-100:]):.2f}")
    return nets


if __name__ == "__main__":
    main()
