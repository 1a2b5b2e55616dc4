import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import gymnasium as gym
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

# FrozenLake solved with a (very small) deep Q network.
# States are integers, so they get one-hot encoded before the net.


class DQN(nn.Module):
    def __init__(self, in_states, h1_nodes, out_actions):
        super().__init__()
        self.fc1 = nn.Linear(in_states, h1_nodes)
        self.out = nn.Linear(h1_nodes, out_actions)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        return self.out(x)


class FrozenLakeDQL:
    learning_rate = 0.001
    discount_factor = 0.95
    network_sync_rate = 200
    replay_memory_size = 5000
    mini_batch_size = 32

    ACTIONS = ['L', 'D', 'R', 'U']

    def __init__(self, map_name="8x8", is_slippery=False):
        self.env = gym.make('FrozenLake-v1', map_name=map_name, is_slippery=is_slippery, max_episode_steps=200)
        self.num_states = self.env.observation_space.n
        self.num_actions = self.env.action_space.n
        self.loss_fn = nn.MSELoss()

    def one_hot(self, states):
        states = torch.as_tensor(states, dtype=torch.int64)
        return nn.functional.one_hot(states, self.num_states).float()

    def train(self, episodes):
        env = self.env
        epsilon = 1.0
        memory = deque(maxlen=self.replay_memory_size)

        policy_dqn = DQN(self.num_states, 64, self.num_actions)
        target_dqn = DQN(self.num_states, 64, self.num_actions)
        target_dqn.load_state_dict(policy_dqn.state_dict())
        optimizer = torch.optim.Adam(policy_dqn.parameters(), lr=self.learning_rate)

        rewards_per_episode = np.zeros(episodes)
        epsilon_history = []
        step_count = 0

        for i in range(episodes):
            state = env.reset()[0]
            terminated = False
            truncated = False

            while not terminated and not truncated:
                if random.random() < epsilon:
                    action = int(env.action_space.sample())
                else:
                    with torch.no_grad():
                        action = policy_dqn(self.one_hot([state]))[0].argmax().item()

                new_state, reward, terminated, truncated, _ = env.step(action)
                memory.append((state, action, new_state, reward, terminated))
                state = new_state
                step_count += 1

                if len(memory) > 500:
                    mini_batch = random.sample(memory, self.mini_batch_size)
                    self.optimize(mini_batch, policy_dqn, target_dqn, optimizer)

                    if step_count % self.network_sync_rate == 0:
                        target_dqn.load_state_dict(policy_dqn.state_dict())

            rewards_per_episode[i] = reward
            epsilon = max(epsilon - 1.25 / episodes, 0.01)
            epsilon_history.append(epsilon)

            if (i + 1) % 100 == 0:
                print(f"Episode {i + 1}: successes in the last 100: "
                      f"{int(rewards_per_episode[max(0, i - 99):i + 1].sum())}, epsilon {epsilon:.2f}")

        torch.save(policy_dqn.state_dict(), "frozen_lake_dql.pt")

        sum_rewards = np.array([rewards_per_episode[max(0, x - 100):x + 1].sum() for x in range(episodes)])
        plt.figure(1)
        plt.subplot(121)
        plt.plot(sum_rewards)
        plt.subplot(122)
        plt.plot(epsilon_history)
        plt.savefig('frozen_lake_dql.png')
        return policy_dqn

    def optimize(self, mini_batch, policy_dqn, target_dqn, optimizer):
        states, actions, new_states, rewards, terminations = zip(*mini_batch)
        actions = torch.tensor(actions)
        rewards = torch.tensor(rewards, dtype=torch.float32)
        not_terminal = 1.0 - torch.tensor(terminations, dtype=torch.float32)

        with torch.no_grad():
            next_q = target_dqn(self.one_hot(new_states)).max()
            target = rewards + self.discount_factor * next_q * not_terminal

        q = policy_dqn(self.one_hot(states)).gather(1, actions.view(-1, 1)).view(-1)
        loss = self.loss_fn(q, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def print_policy(self, dqn):
        side = int(np.sqrt(self.num_states))
        with torch.no_grad():
            best = dqn(self.one_hot(list(range(self.num_states)))).argmax(1).tolist()
        for row in range(side):
            print(' '.join(self.ACTIONS[b] for b in best[row * side:(row + 1) * side]))

    def test(self, dqn, episodes=10):
        wins = 0
        for _ in range(episodes):
            state = self.env.reset()[0]
            over = False
            while not over:
                with torch.no_grad():
                    action = dqn(self.one_hot([state]))[0].argmax().item()
                state, reward, terminated, truncated, _ = self.env.step(action)
                over = terminated or truncated
            wins += reward
        print(f"test: {int(wins)} of {episodes} reached the goal")


if __name__ == '__main__':
    random.seed(0)
    torch.manual_seed(0)
    frozen_lake = FrozenLakeDQL(map_name="4x4")
    net = frozen_lake.train(2000)
    frozen_lake.print_policy(net)
    frozen_lake.test(net)
