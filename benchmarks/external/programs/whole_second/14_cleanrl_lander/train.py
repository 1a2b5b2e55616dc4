import random
import sys
from dataclasses import dataclass, fields

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn


@dataclass
class Args:
    env_id: str = "LunarLander-v3"
    seed: int = 5
    total_timesteps: int = 300_000
    learning_rate: float = 6e-4
    weight_decay: float = 1e-5
    buffer_size: int = 100_000
    gamma: float = 0.995
    tau: float = 1.0
    target_frequency: int = 1_000
    batch_size: int = 128
    start_e: float = 1.0
    end_e: float = 0.03
    exploration_fraction: float = 0.3
    learning_starts: int = 10_000
    train_frequency: int = 4
    reward_scale: float = 0.05


def cli():
    args = Args()
    types = {f.name: f.type for f in fields(Args)}
    for item in sys.argv[1:]:
        if "=" in item:
            k, v = item.lstrip("-").split("=", 1)
            k = k.replace("-", "_")
            if k in types:
                setattr(args, k, types[k](v))
    return args


args = cli()
random.seed(args.seed)
np.random.seed(args.seed)
torch.manual_seed(args.seed)

env = gym.wrappers.RecordEpisodeStatistics(gym.make(args.env_id))
env.action_space.seed(args.seed)
n_obs, n_act = env.observation_space.shape[0], int(env.action_space.n)


def layer_init(layer, std=np.sqrt(2)):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, 0.0)
    return layer


def make_net():
    return nn.Sequential(
        layer_init(nn.Linear(n_obs, 128)), nn.ReLU(),
        layer_init(nn.Linear(128, 128)), nn.ReLU(),
        layer_init(nn.Linear(128, n_act), 0.1),
    )


q_network, target_network = make_net(), make_net()
target_network.load_state_dict(q_network.state_dict())
optimizer = torch.optim.AdamW(q_network.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)

store = {
    "obs": np.empty((args.buffer_size, n_obs), np.float32),
    "nxt": np.empty((args.buffer_size, n_obs), np.float32),
    "act": np.empty(args.buffer_size, np.int64),
    "rew": np.empty(args.buffer_size, np.float32),
    "not_term": np.empty(args.buffer_size, np.float32),
}

obs, _ = env.reset(seed=args.seed)
for step in range(args.total_timesteps):
    frac = min(1.0, step / (args.exploration_fraction * args.total_timesteps))
    eps = args.start_e + frac * (args.end_e - args.start_e)
    if step < args.learning_starts or random.random() < eps:
        action = env.action_space.sample()
    else:
        with torch.no_grad():
            action = q_network(torch.from_numpy(obs)).argmax().item()
    nxt, rew, term, trunc, info = env.step(action)
    k = step % args.buffer_size
    for name, val in zip(store, (obs, nxt, action, rew * args.reward_scale, not term)):
        store[name][k] = val
    obs = nxt
    if term or trunc:
        print(f"global_step={step}, episodic_return={float(np.ravel(info['episode']['r'])[0]):.1f}, eps={eps:.2f}")
        obs, _ = env.reset()

    if step < args.learning_starts:
        continue
    if step % args.train_frequency == 0:
        i = np.random.randint(min(step + 1, args.buffer_size), size=args.batch_size)
        d = {name: torch.from_numpy(arr[i]) for name, arr in store.items()}
        with torch.no_grad():
            best = q_network(d["nxt"]).argmax(1)
            boot = target_network(d["nxt"])[range(args.batch_size), best]
            y = d["rew"] + args.gamma * d["not_term"] * boot
        q = (q_network(d["obs"]) * nn.functional.one_hot(d["act"], n_act)).sum(1)
        loss = nn.functional.huber_loss(q, y, delta=2.0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q_network.parameters(), 5.0)
        optimizer.step()
        # anneal
        for g in optimizer.param_groups:
            g["lr"] = args.learning_rate * (1 - 0.9 * step / args.total_timesteps)
    if step % args.target_frequency == 0:
        for tp, p in zip(target_network.parameters(), q_network.parameters()):
            tp.data.copy_(args.tau * p.data + (1.0 - args.tau) * tp.data)

torch.save({"model": q_network.state_dict(), "args": vars(args)}, "lander_dqn.pt")
env.close()
