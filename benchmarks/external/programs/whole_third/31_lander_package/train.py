import argparse
import random

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch

from agent import DQNAgent

CONFIG = {
    "gamma": 0.99,
    "lr": 5e-4,
    "batch_size": 64,
    "memory": 100_000,
    "n_steps": 5,
    "learn_start": 5_000,
    "train_freq": 4,
    "target_freq": 2_000,
    "max_norm": 10.0,
    "eps_start": 1.0,
    "eps_end": 0.02,
    "eps_decay": 0.992,
}


def run_episode(env, agent, seed=None):
    state, _ = env.reset(seed=seed)
    score, losses = 0.0, []
    while True:
        action = agent.act(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.remember(state, action, reward, next_state, terminated)
        loss = agent.replay()
        agent.maybe_sync()
        if loss is not None:
            losses.append(loss)
        score += reward
        state = next_state
        if terminated or truncated:
            agent.memory.cut()
            break
    agent.decay_epsilon()
    return score, float(np.mean(losses)) if losses else 0.0


def evaluate(env, agent, n=10):
    scores = []
    for _ in range(n):
        state, _ = env.reset()
        total, done = 0.0, False
        while not done:
            state, reward, terminated, truncated, _ = env.step(agent.act(state, explore=False))
            total += reward
            done = terminated or truncated
        scores.append(total)
    return np.mean(scores)


def main():
    parser = argparse.ArgumentParser(description="n-step double DQN on LunarLander")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", default="lander_nstep.pt")
    args = parser.parse_args()

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = gym.make("LunarLander-v3")
    agent = DQNAgent(env.observation_space.shape, int(env.action_space.n), CONFIG)
    scores = []

    for episode in range(args.episodes):
        score, loss = run_episode(env, agent, seed=args.seed if episode == 0 else None)
        scores.append(score)
        if (episode + 1) % 20 == 0:
            print(f"Episode {episode + 1:4d} | frames {agent.frames:7d} | avg100 {np.mean(scores[-100:]):8.2f} "
                  f"| loss {loss:7.4f} | eps {agent.epsilon:.3f}")
        if len(scores) >= 100 and np.mean(scores[-100:]) > 220:
            print("Solved!")
            break

    print("Evaluation:", evaluate(env, agent))
    agent.save(args.save)
    plt.plot(scores)
    plt.xlabel("episode")
    plt.ylabel("score")
    plt.savefig("scores.png")


if __name__ == "__main__":
    main()
