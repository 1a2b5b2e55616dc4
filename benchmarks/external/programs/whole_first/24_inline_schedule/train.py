import gymnasium as gym
import torch
from torch import nn, optim
import numpy as np
import random
import collections
import matplotlib.pyplot as plt

SEED = 0
torch.manual_seed(SEED)
np.random.seed(SEED)
random.seed(SEED)

env = gym.make("CartPole-v1")
env.action_space.seed(SEED)

num_inputs = env.observation_space.shape[0]
num_actions = env.action_space.n

q_net = nn.Sequential(
    nn.Linear(num_inputs, 128),
    nn.LeakyReLU(0.01),
    nn.Linear(128, 128),
    nn.LeakyReLU(0.01),
    nn.Linear(128, num_actions),
)
target_net = nn.Sequential(
    nn.Linear(num_inputs, 128),
    nn.LeakyReLU(0.01),
    nn.Linear(128, 128),
    nn.LeakyReLU(0.01),
    nn.Linear(128, num_actions),
)
target_net.load_state_dict(q_net.state_dict())

optimizer = optim.Adam(q_net.parameters(), lr=1e-3)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=50, gamma=0.9)
criterion = nn.HuberLoss()

replay = collections.deque(maxlen=10_000)
EPISODES = 500
BATCH = 64
GAMMA = 0.99
MIN_REPLAY = 1000
SYNC_STEPS = 400

# fill the memory with random play first
obs, _ = env.reset(seed=SEED)
for _ in range(MIN_REPLAY):
    action = env.action_space.sample()
    new_obs, reward, terminated, truncated, _ = env.step(action)
    replay.append((obs, action, reward, terminated, new_obs))
    obs = new_obs
    if terminated or truncated:
        obs, _ = env.reset()
print("warm-up done:", len(replay))

reward_history = []
global_step = 0
for episode in range(EPISODES):
    epsilon = max(0.02, 0.98 ** episode)
    obs, _ = env.reset()
    episode_reward = 0.0
    finished = False
    while not finished:
        if random.random() <= epsilon:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                action = q_net(torch.from_numpy(obs)).argmax().item()
        new_obs, reward, terminated, truncated, _ = env.step(action)
        replay.append((obs, action, reward, terminated, new_obs))
        obs = new_obs
        episode_reward += reward
        global_step += 1
        finished = terminated or truncated

        batch = random.sample(replay, BATCH)
        b_obs = torch.as_tensor(np.asarray([t[0] for t in batch]), dtype=torch.float32)
        b_act = torch.as_tensor([int(t[1]) for t in batch]).unsqueeze(-1)
        b_rew = torch.as_tensor([t[2] for t in batch], dtype=torch.float32).unsqueeze(-1)
        b_end = torch.as_tensor([t[3] for t in batch], dtype=torch.float32).unsqueeze(-1)
        b_new = torch.as_tensor(np.asarray([t[4] for t in batch]), dtype=torch.float32)

        with torch.no_grad():
            best_next = target_net(b_new).max(dim=1, keepdim=True)[0]
            target = b_rew + GAMMA * (1 - b_end) * best_next
        current = torch.gather(q_net(b_obs), 1, b_act)
        loss = criterion(current, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

        if global_step % SYNC_STEPS == 0:
            target_net.load_state_dict(q_net.state_dict())

    reward_history.append(episode_reward)
    if episode % 10 == 0:
        print(f"Episode {episode}: reward {episode_reward:.0f}, average {np.mean(reward_history[-30:]):.1f}, "
              f"epsilon {epsilon:.3f}, loss {loss.item():.4f}")

plt.plot(reward_history, color="tab:blue", alpha=0.5)
plt.title("CartPole-v1")
plt.savefig("cartpole.png", dpi=120)
torch.save({"model": q_net.state_dict(), "rewards": reward_history}, "cartpole_inline.pt")
env.close()
