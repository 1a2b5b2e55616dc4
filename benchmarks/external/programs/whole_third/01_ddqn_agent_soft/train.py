"""
Deep Q-Learning with soft target updates on CartPole-v1.

usage: python train.py [--episodes 600] [--seed 7]
"""
import argparse
import copy
import os
import random
from collections import deque

import gymnasium as gym
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class QNet(nn.Module):
    def __init__(self, n_obs, n_act, hidden=128):
        super().__init__()
        self.fc1 = nn.Linear(n_obs, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, n_act)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class ReplayBuffer:
    def __init__(self, capacity):
        self.data = deque(maxlen=capacity)

    def push(self, *transition):
        self.data.append(transition)

    def sample(self, n):
        s, a, r, s2, d = zip(*random.sample(self.data, n))
        return (
            torch.as_tensor(np.stack(s), dtype=torch.float32, device=device),
            torch.as_tensor(a, dtype=torch.int64, device=device).unsqueeze(1),
            torch.as_tensor(r, dtype=torch.float32, device=device).unsqueeze(1),
            torch.as_tensor(np.stack(s2), dtype=torch.float32, device=device),
            torch.as_tensor(d, dtype=torch.float32, device=device).unsqueeze(1),
        )

    def __len__(self):
        return len(self.data)


class Agent:
    def __init__(self, n_obs, n_act, lr=5e-4, gamma=0.99, tau=0.005,
                 batch_size=64, buffer_size=50_000, warmup=1000):
        self.n_act = n_act
        self.gamma = gamma
        self.tau = tau
        self.batch_size = batch_size
        self.warmup = warmup

        self.policy_net = QNet(n_obs, n_act).to(device)
        self.target_net = copy.deepcopy(self.policy_net)
        self.target_net.eval()
        self.optimizer = optim.Adam(self.policy_net.parameters(), lr=lr)
        self.memory = ReplayBuffer(buffer_size)

        self.eps = 1.0
        self.eps_min = 0.02
        self.eps_decay = 0.99

    def act(self, obs, greedy=False):
        if not greedy and random.random() < self.eps:
            return random.randrange(self.n_act)
        with torch.no_grad():
            obs = torch.as_tensor(obs, dtype=torch.float32, device=device).unsqueeze(0)
            return self.policy_net(obs).argmax(dim=1).item()

    def learn(self):
        if len(self.memory) < max(self.warmup, self.batch_size):
            return None
        s, a, r, s2, d = self.memory.sample(self.batch_size)

        q = self.policy_net(s).gather(1, a)
        with torch.no_grad():
            best = self.policy_net(s2).argmax(dim=1, keepdim=True)
            q_next = self.target_net(s2).gather(1, best)
            y = r + self.gamma * (1.0 - d) * q_next

        loss = F.smooth_l1_loss(q, y)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.policy_net.parameters(), 10.0)
        self.optimizer.step()
        self.soft_update()
        return loss.item()

    def soft_update(self):
        for target_param, param in zip(self.target_net.parameters(), self.policy_net.parameters()):
            target_param = self.tau * param.data + (1.0 - self.tau) * target_param.data

    def end_of_episode(self):
        self.eps = max(self.eps_min, self.eps * self.eps_decay)

    def save(self, path):
        torch.save(self.policy_net.state_dict(), path)


def evaluate(agent, episodes=5):
    env = gym.make("CartPole-v1")
    total = 0.0
    for i in range(episodes):
        obs, _ = env.reset(seed=1000 + i)
        over = False
        while not over:
            obs, r, term, trunc, _ = env.step(agent.act(obs, greedy=True))
            over = term or trunc
            total += r
    env.close()
    return total / episodes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", default="runs")
    args = parser.parse_args()

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)

    env = gym.make("CartPole-v1")
    env.action_space.seed(args.seed)
    agent = Agent(env.observation_space.shape[0], env.action_space.n)

    scores, best_eval = [], 0.0
    for ep in range(1, args.episodes + 1):
        obs, _ = env.reset(seed=args.seed if ep == 1 else None)
        score, over, losses = 0.0, False, []
        while not over:
            action = agent.act(obs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            agent.memory.push(obs, action, reward, next_obs, terminated)
            loss = agent.learn()
            if loss is not None:
                losses.append(loss)
            obs = next_obs
            score += reward
            over = terminated or truncated
        agent.end_of_episode()
        scores.append(score)

        if ep % 20 == 0:
            mean_loss = np.mean(losses) if losses else float("nan")
            print(f"episode {ep:4d} | avg(20) {np.mean(scores[-20:]):6.1f} | "
                  f"eps {agent.eps:.3f} | loss {mean_loss:.4f}")
        if ep % 100 == 0:
            ev = evaluate(agent)
            print(f"    greedy evaluation: {ev:.1f}")
            if ev >= best_eval:
                best_eval = ev
                agent.save(os.path.join(args.out, "best.pt"))

    env.close()
    plt.plot(scores)
    plt.xlabel("episode")
    plt.ylabel("score")
    plt.savefig(os.path.join(args.out, "scores.png"))


if __name__ == "__main__":
    main()
