"""
CartPole DQN that asks for its settings at the start and draws while it learns.
"""
import random
import time
from collections import deque

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn


def ask(text, default, kind=int):
    answer = input(f"{text} [{default}]: ").strip()
    return kind(answer) if answer else default


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.h1 = nn.Linear(inputs, 64)
        self.h2 = nn.Linear(64, 64)
        self.out = nn.Linear(64, outputs)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.out(self.act(self.h2(self.act(self.h1(x)))))


class LivePlot:
    def __init__(self, every):
        self.every = every
        plt.ion()
        self.fig, (self.top, self.bottom) = plt.subplots(2, 1, figsize=(7, 6), sharex=True)

    def update(self, scores, eps):
        if len(scores) % self.every:
            return
        self.top.clear()
        self.top.plot(scores, color="0.7")
        if len(scores) > 20:
            self.top.plot(range(19, len(scores)), np.convolve(scores, np.ones(20) / 20, "valid"), color="C1")
        self.top.set_ylabel("score")
        self.bottom.clear()
        self.bottom.plot(eps)
        self.bottom.set_ylabel("epsilon")
        self.bottom.set_xlabel("episode")
        self.fig.canvas.draw_idle()
        plt.pause(0.001)


class Player:
    def __init__(self, n_obs, n_actions, lr):
        self.n_actions = n_actions
        self.gamma = 0.99
        self.batch = 64
        self.start = 1000
        self.memory = deque(maxlen=30_000)
        self.policy = Net(n_obs, n_actions)
        self.target = Net(n_obs, n_actions)
        self.target.load_state_dict(self.policy.state_dict())
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=100, gamma=0.9)
        self.criterion = nn.SmoothL1Loss()
        self.eps = 1.0

    def move(self, state):
        if random.random() < self.eps:
            return random.randrange(self.n_actions)
        with torch.no_grad():
            return self.policy(torch.tensor(state).unsqueeze(0)).argmax(1).item()

    def learn(self):
        if len(self.memory) < self.start:
            return
        batch = random.sample(self.memory, self.batch)
        states = torch.tensor(np.array([x[0] for x in batch]))
        actions = torch.tensor([x[1] for x in batch])
        rewards = torch.tensor([x[2] for x in batch], dtype=torch.float32)
        nexts = torch.tensor(np.array([x[3] for x in batch]))
        ends = torch.tensor([x[4] for x in batch], dtype=torch.bool)

        q = self.policy(states)[torch.arange(self.batch), actions]
        with torch.no_grad():
            nq = self.target(nexts).max(1).values
            nq[ends] = 0.0
        loss = self.criterion(q, rewards + self.gamma * nq)

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()

    def sync(self):
        self.target.load_state_dict(self.policy.state_dict())


def show(player, seed, pause=0.0):
    env = gym.make("CartPole-v1", render_mode="human" if pause else None)
    state, _ = env.reset(seed=seed)
    old, player.eps = player.eps, 0.0
    score, over = 0, False
    while not over:
        state, reward, terminated, truncated, _ = env.step(player.move(state))
        score += reward
        over = terminated or truncated
        time.sleep(pause)
    player.eps = old
    env.close()
    return score


def main():
    episodes = ask("number of episodes", 500)
    lr = ask("learning rate", 0.001, float)
    seed = ask("seed", 1)
    every = ask("redraw every ... episodes", 10)

    random.seed(seed)
    torch.manual_seed(seed)
    env = gym.make("CartPole-v1")
    player = Player(env.observation_space.shape[0], int(env.action_space.n), lr)
    plot = LivePlot(every)
    scores, eps_log = [], []
    total_steps = 0

    for episode in range(episodes):
        state, _ = env.reset(seed=seed)
        score = 0
        done = False
        while not done:
            action = player.move(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            player.memory.append((state, action, reward, next_state, terminated))
            player.learn()
            state = next_state
            score += reward
            total_steps += 1

        # refresh the target network every 500 steps
        if total_steps % 500 == 0:
            player.sync()

        player.eps = max(0.02, player.eps * 0.985)
        scores.append(score)
        eps_log.append(player.eps)
        plot.update(scores, eps_log)
        print(f"{episode:4d}: score {score:5.0f}   mean {np.mean(scores[-50:]):6.1f}   eps {player.eps:.2f}   steps {total_steps}")

    plt.ioff()
    plot.fig.savefig("live_plot.png")
    torch.save(player.policy.state_dict(), "player.pt")
    if ask("watch a game? (0/1)", 0):
        print("score:", show(player, seed=None, pause=0.02))


if __name__ == "__main__":
    main()
