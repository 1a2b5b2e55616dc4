import csv
import os
import random
import sys
from collections import deque, namedtuple
from datetime import datetime

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from tqdm import tqdm

ENV_ID = "Acrobot-v1"
RUN_DIR = os.path.join("runs", ENV_ID)
CKPT = os.path.join(RUN_DIR, "last.pt")

N_EPISODES = 700
GAMMA = 0.99
LR = 1e-3
BATCH_SIZE = 64
BUFFER_SIZE = 50_000
LEARN_FROM = 2_500
LEARN_EVERY = 2
TARGET_EVERY = 1_500
SAVE_EVERY = 25
EPS_FROM, EPS_TO, EPS_EPISODES = 1.0, 0.03, 200

Step = namedtuple("Step", "obs action reward next_obs terminated")


def build_net(n_obs, n_act):
    return nn.Sequential(
        nn.Linear(n_obs, 128), nn.ReLU(),
        nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, n_act),
    )


def restore(n_obs, n_act):
    """Network and number of finished episodes, from the last checkpoint if there is one."""
    net = build_net(n_obs, n_act)
    episode = 0
    if os.path.exists(CKPT):
        data = torch.load(CKPT, weights_only=True)
        net.load_state_dict(data["net"])
        episode = data["episode"]
        tqdm.write(f"continuing after episode {episode}")
    return net, episode


def save(net, episode, mean):
    torch.save({"net": net.state_dict(), "episode": episode, "mean": float(mean)}, CKPT)


def epsilon(episode):
    return max(EPS_TO, EPS_FROM + (EPS_TO - EPS_FROM) * episode / EPS_EPISODES)


def learn(net, target, optimizer, buffer):
    batch = Step(*zip(*random.sample(buffer, BATCH_SIZE)))
    obs = torch.as_tensor(np.array(batch.obs), dtype=torch.float32)
    next_obs = torch.as_tensor(np.array(batch.next_obs), dtype=torch.float32)
    action = torch.as_tensor(batch.action).view(-1, 1)
    reward = torch.as_tensor(batch.reward, dtype=torch.float32)
    terminated = torch.as_tensor(batch.terminated, dtype=torch.float32)

    with torch.no_grad():
        target_q = reward + GAMMA * (1 - terminated) * target(next_obs).max(1).values
    q = net(obs).gather(1, action).squeeze(1)
    loss = F.mse_loss(q, target_q)

    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(net.parameters(), 10.0)
    optimizer.step()
    return loss.item()


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    os.makedirs(RUN_DIR, exist_ok=True)

    env = gym.make(ENV_ID)
    env.action_space.seed(seed)
    n_obs = env.observation_space.shape[0]
    n_act = int(env.action_space.n)

    net = build_net(n_obs, n_act)
    target = build_net(n_obs, n_act)
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)

    net, first = restore(n_obs, n_act)
    target.load_state_dict(net.state_dict())
    target.eval()

    buffer = deque(maxlen=BUFFER_SIZE)
    scores = deque(maxlen=50)
    n_steps = 0

    log = open(os.path.join(RUN_DIR, f"log_{datetime.now():%Y%m%d_%H%M%S}.csv"), "w", newline="")
    writer = csv.writer(log)
    writer.writerow(["episode", "score", "mean50", "loss", "epsilon"])

    bar = tqdm(range(first, N_EPISODES), desc=ENV_ID, ncols=90)
    for episode in bar:
        obs, _ = env.reset(seed=seed + 1000 * first if episode == first else None)
        eps = epsilon(episode)
        score, losses = 0.0, []
        terminated = truncated = False
        while not (terminated or truncated):
            if random.random() < eps:
                action = int(env.action_space.sample())
            else:
                with torch.no_grad():
                    action = int(net(torch.as_tensor(obs, dtype=torch.float32)).argmax())
            next_obs, reward, terminated, truncated, _ = env.step(action)
            buffer.append(Step(obs, action, reward, next_obs, terminated))
            obs = next_obs
            score += reward
            n_steps += 1

            if len(buffer) >= LEARN_FROM and n_steps % LEARN_EVERY == 0:
                losses.append(learn(net, target, optimizer, buffer))
            if n_steps % TARGET_EVERY == 0:
                target.load_state_dict(net.state_dict())

        scores.append(score)
        mean = np.mean(scores)
        writer.writerow([episode, score, f"{mean:.2f}", np.mean(losses) if losses else "", f"{eps:.3f}"])
        log.flush()
        bar.set_postfix(score=score, mean50=f"{mean:.1f}", eps=f"{eps:.2f}")
        if (episode + 1) % SAVE_EVERY == 0:
            save(net, episode + 1, mean)

    log.close()
    env.close()
    print("finished, mean of the last 50 episodes:", np.mean(scores))


if __name__ == "__main__":
    main()
