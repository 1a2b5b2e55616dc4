import argparse
import random
import time
from collections import deque

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--env-id", default="Acrobot-v1")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--total-timesteps", type=int, default=150000)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--buffer-size", type=int, default=50000)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--tau", type=float, default=0.005)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-starts", type=int, default=2000)
    parser.add_argument("--eps-end", type=float, default=0.05)
    parser.add_argument("--eps-steps", type=int, default=30000)
    return parser.parse_args()


class QNet(nn.Module):
    def __init__(self, n_obs, n_act):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_obs, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, n_act))

    def forward(self, x):
        return self.net(x)


def main():
    args = get_args()
    random.seed(args.seed); np.random.seed(args.seed); torch.manual_seed(args.seed)
    env = gym.make(args.env_id)
    q = QNet(env.observation_space.shape[0], env.action_space.n)
    tq = QNet(env.observation_space.shape[0], env.action_space.n)
    tq.load_state_dict(q.state_dict())
    opt = optim.Adam(q.parameters(), lr=args.lr)
    rb = deque(maxlen=args.buffer_size)
    returns, ep_ret, t0 = [], 0.0, time.time()

    obs, _ = env.reset(seed=args.seed)
    for step in range(1, args.total_timesteps + 1):
        eps = max(args.eps_end, 1 - (1 - args.eps_end) * step / args.eps_steps)
        if random.random() < eps:
            action = random.randrange(env.action_space.n)
        else:
            with torch.no_grad():
                action = int(q(torch.tensor(obs).unsqueeze(0)).argmax(1))
        next_obs, reward, term, trunc, _ = env.step(action)
        rb.append((obs, action, reward, next_obs, term))
        ep_ret += reward
        if term or trunc:
            returns.append(ep_ret)
            print(f"step={step} return={ep_ret:.0f} avg={np.mean(returns[-20:]):.1f} sps={step / (time.time() - t0):.0f}")
            ep_ret = 0.0
            obs, _ = env.reset(seed=args.seed)
        else:
            obs = next_obs

        if step < args.learning_starts:
            continue
        o, a, r, no, d = zip(*random.sample(rb, args.batch_size))
        o, no = torch.tensor(np.stack(o)), torch.tensor(np.stack(no))
        a = torch.tensor(a).unsqueeze(-1)
        r = torch.tensor(r, dtype=torch.float32).unsqueeze(-1)
        d = torch.tensor(d, dtype=torch.float32).unsqueeze(-1)
        with torch.no_grad():
            y = r + args.gamma * (1 - d) * tq(no).max(dim=1, keepdim=True)[0]
        loss = nn.functional.mse_loss(q(o).gather(1, a), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        nn.utils.clip_grad_norm_(q.parameters(), args.max_grad_norm)
        for p, tp in zip(q.parameters(), tq.parameters()):
            tp.data.copy_(args.tau * tp.data + (1 - args.tau) * p.data)
    torch.save(q.state_dict(), f"{args.env_id}__{args.seed}.pt")


if __name__ == "__main__":
    main()
