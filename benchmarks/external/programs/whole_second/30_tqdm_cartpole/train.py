import json
import pathlib
import random
import time
from datetime import datetime

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
from tqdm import tqdm

name = input("Name of this run (empty for a time stamp): ") or datetime.now().strftime("%m%d_%H%M%S")
folder = pathlib.Path("runs") / name
folder.mkdir(parents=True, exist_ok=True)

config = dict(episodes=500, gamma=0.99, lr=1e-3, batch=64, updates_per_episode=0.5, capacity=30000,
              eps_decay=0.985, eps_min=0.02, sync_every=5, failure_cost=-1.0)
(folder / "config.json").write_text(json.dumps(config, indent=2))

env = gym.make("CartPole-v1")
q = nn.Sequential(nn.Linear(4, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 2))
snapshot = {k: v.clone() for k, v in q.state_dict().items()}     # target weights, applied functionally
opt = torch.optim.NAdam(q.parameters(), lr=config["lr"])
pool, eps = [], 1.0


def save(path, episode, best):
    torch.save({"q": q.state_dict(), "target": snapshot, "opt": opt.state_dict(),
                "episode": episode, "best": best}, path)


def learn(n):
    total = 0.0
    for _ in range(n):
        s, a, r, s2, term = zip(*random.sample(pool, config["batch"]))
        s, s2 = torch.tensor(np.array(s)), torch.tensor(np.array(s2))
        a, term = torch.tensor(a), torch.tensor(term)
        r = torch.tensor(r, dtype=torch.float32)
        with torch.no_grad():
            v = torch.func.functional_call(q, snapshot, (s2,)).amax(1)
            y = torch.where(term, r, r + config["gamma"] * v)
        loss = (q(s)[range(len(a)), a] - y).square().mean()
        for p in q.parameters():
            p.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), 5.0)
        opt.step()
        total += loss.item()
    return total / max(n, 1)


best, lengths = 0, []
bar = tqdm(range(config["episodes"]), desc="training")
started = time.time()
for episode in bar:
    s, _ = env.reset()
    n = 0
    while True:
        if random.random() < eps:
            a = random.getrandbits(1)
        else:
            with torch.inference_mode():
                a = int(q(torch.from_numpy(s)).argmax())
        s2, r, term, trunc, _ = env.step(a)
        r = config["failure_cost"] if term else 0.1
        pool.append((s, a, r, s2, term))
        s = s2
        n += 1
        if term or trunc:
            break
    if len(pool) > config["capacity"]:
        pool = pool[-config["capacity"]:]
    lengths.append(n)

    # learn between the episodes
    loss = float("nan")
    if len(pool) >= 500:
        loss = learn(max(1, int(config["updates_per_episode"] * n)))
        eps = max(config["eps_min"], eps * config["eps_decay"])
    if episode % config["sync_every"] == 0:
        snapshot = {k: v.clone() for k, v in q.state_dict().items()}

    mean = float(np.mean(lengths[-30:]))
    bar.set_postfix(length=n, mean=f"{mean:.1f}", eps=f"{eps:.2f}", loss=f"{loss:.3f}")
    if mean > best and len(lengths) >= 30:
        best = mean
        save(folder / "best.pt", episode, best)
    if episode % 100 == 99:
        save(folder / f"episode_{episode + 1}.pt", episode, best)
        tqdm.write(f"{episode + 1} episodes, mean {mean:.1f}, {time.time() - started:.0f} s")
        time.sleep(0.2)

(folder / "lengths.txt").write_text("\n".join(map(str, lengths)))
