import os
import sys
import time
import numpy as np
import torch
import torch.nn as nn
import gymnasium as gym
import matplotlib
if not os.environ.get("DISPLAY"):
    matplotlib.use("Agg")
import matplotlib.pyplot as plt

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
print("running on", device)

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(SEED)
torch.manual_seed(SEED)

env = gym.make("LunarLander-v3")
obs_dim = env.observation_space.shape[0]
n_actions = env.action_space.n

# hyper parameters
gamma = 0.99
lr = 5e-4
batch_size = 64
buffer_len = 100000
learn_start = 5000
learn_every = 4
tau = 1e-3
n_episodes = 1000
eps, eps_min, eps_mul = 1.0, 0.01, 0.995

# networks
def make_net():
    return nn.Sequential(
        nn.Linear(obs_dim, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, n_actions),
    ).to(device)

q_local = make_net()
q_target = make_net()
q_target.load_state_dict(q_local.state_dict())
optimizer = torch.optim.Adam(q_local.parameters(), lr=lr)
mse = nn.MSELoss()

# replay memory (preallocated)
mem_obs = np.zeros((buffer_len, obs_dim), dtype=np.float32)
mem_act = np.zeros((buffer_len,), dtype=np.int64)
mem_rew = np.zeros((buffer_len,), dtype=np.int64)
mem_obs2 = np.zeros((buffer_len, obs_dim), dtype=np.float32)
mem_done = np.zeros((buffer_len,), dtype=np.bool_)
mem_count = 0

scores = []
best_mean = -1e9
steps = 0
t_start = time.time()

for episode in range(1, n_episodes + 1):
    obs, info = env.reset(seed=SEED + episode)
    score = 0
    while True:
        # epsilon greedy
        if np.random.rand() > eps:
            q_local.eval()
            with torch.no_grad():
                qs = q_local(torch.from_numpy(obs).float().to(device))
            q_local.train()
            action = int(torch.argmax(qs))
        else:
            action = np.random.randint(n_actions)

        obs2, reward, terminated, truncated, info = env.step(action)
        score += reward

        k = mem_count % buffer_len
        mem_obs[k] = obs
        mem_act[k] = action
        mem_rew[k] = reward
        mem_obs2[k] = obs2
        mem_done[k] = terminated
        mem_count += 1

        obs = obs2
        steps += 1

        if mem_count > learn_start and steps % learn_every == 0:
            ids = np.random.choice(min(mem_count, buffer_len), batch_size, replace=False)
            b_obs = torch.from_numpy(mem_obs[ids]).to(device)
            b_act = torch.from_numpy(mem_act[ids]).to(device).view(-1, 1)
            b_rew = torch.from_numpy(mem_rew[ids]).float().to(device).view(-1, 1)
            b_obs2 = torch.from_numpy(mem_obs2[ids]).to(device)
            b_done = torch.from_numpy(mem_done[ids]).float().to(device).view(-1, 1)

            next_max = q_target(b_obs2).detach().max(1)[0].view(-1, 1)
            target = b_rew + gamma * next_max * (1 - b_done)
            expected = q_local(b_obs).gather(1, b_act)

            loss = mse(expected, target)
            optimizer.zero_grad()
            loss.backward()
            for p in q_local.parameters():
                p.grad.data.clamp_(-10, 10)
            optimizer.step()

            with torch.no_grad():
                for pt, pl in zip(q_target.parameters(), q_local.parameters()):
                    pt.mul_(1 - tau).add_(tau * pl)

        if terminated or truncated:
            break

    eps = max(eps_min, eps * eps_mul)
    scores.append(score)
    mean100 = np.mean(scores[-100:])
    print("\rEpisode {}\tScore: {:.2f}\tAverage: {:.2f}\teps {:.3f}".format(episode, score, mean100, eps), end="")
    if episode % 100 == 0:
        print("\rEpisode {}\tAverage Score: {:.2f}\t{:.0f}s     ".format(episode, mean100, time.time() - t_start))
        if mean100 > best_mean:
            best_mean = mean100
            torch.save(q_local.state_dict(), "checkpoint.pth")
    if len(scores) >= 100 and mean100 >= 200:
        print("\nEnvironment solved in {:d} episodes!".format(episode - 100))
        torch.save(q_local.state_dict(), "checkpoint.pth")
        break

fig = plt.figure()
plt.plot(np.arange(len(scores)), scores)
plt.ylabel("Score")
plt.xlabel("Episode #")
plt.savefig("scores.png")
plt.show()
