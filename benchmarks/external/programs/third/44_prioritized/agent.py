"""DQN with proportional prioritized experience replay."""
import numpy as np
import torch
import torch.nn as nn


class NaivePrioritizedBuffer:
    def __init__(self, capacity, prob_alpha=0.6):
        self.prob_alpha = prob_alpha
        self.capacity = capacity
        self.buffer = []
        self.pos = 0
        self.priorities = np.zeros((capacity,), dtype=np.float32)

    def push(self, state, action, reward, next_state, done):
        max_prio = self.priorities.max() if self.buffer else 1.0
        item = (np.array(state, np.float32), action, reward, np.array(next_state, np.float32), done)
        if len(self.buffer) < self.capacity:
            self.buffer.append(item)
        else:
            self.buffer[self.pos] = item
        self.priorities[self.pos] = max_prio
        self.pos = (self.pos + 1) % self.capacity

    def sample(self, batch_size, beta=0.4):
        prios = self.priorities[:len(self.buffer)]
        probs = prios.astype(np.float64) ** self.prob_alpha
        probs /= probs.sum()
        indices = np.random.choice(len(self.buffer), batch_size, p=probs)
        weights = (len(self.buffer) * probs[indices]) ** beta
        weights /= weights.max()
        states, actions, rewards, next_states, dones = zip(*(self.buffer[i] for i in indices))
        batch = (np.stack(states), np.array(actions), np.array(rewards, np.float32), np.stack(next_states),
                 np.array(dones, np.float32))
        return batch, indices, weights.astype(np.float32)

    def update_priorities(self, batch_indices, batch_priorities):
        for idx, prio in zip(batch_indices, batch_priorities):
            self.priorities[idx] = prio

    def __len__(self):
        return len(self.buffer)


class DQN(nn.Module):
    def __init__(self, num_inputs, num_actions):
        super().__init__()
        self.num_inputs, self.num_actions = num_inputs, num_actions
        self.layers = nn.Sequential(
            nn.Linear(num_inputs, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, num_actions),
        )

    def forward(self, x):
        return self.layers(x)

    def act(self, state, epsilon):
        if np.random.rand() > epsilon:
            with torch.no_grad():
                return self.forward(torch.FloatTensor(state).unsqueeze(0)).argmax(1).item()
        return int(np.random.randint(self.num_actions))


class PrioritizedDQN:
    beta_start, beta_frames = 0.4, 10000
    epsilon_start, epsilon_final, epsilon_decay = 1.0, 0.02, 1500

    def __init__(self, num_inputs, num_actions, gamma=0.99, lr=1e-3):
        self.gamma = gamma
        self.current_model = DQN(num_inputs, num_actions)
        self.target_model = DQN(num_inputs, num_actions)
        self.update_target()
        self.optimizer = torch.optim.Adam(self.current_model.parameters(), lr=lr)
        self.replay_buffer = NaivePrioritizedBuffer(10000)
        self.frame = 0

    def update_target(self):
        self.target_model.load_state_dict(self.current_model.state_dict())

    def beta(self):
        return min(1.0, self.beta_start + self.frame * (1.0 - self.beta_start) / self.beta_frames)

    def compute_td_loss(self, batch, weights):
        state, action, reward, next_state, done = batch
        state, next_state = torch.FloatTensor(state), torch.FloatTensor(next_state)
        action = torch.LongTensor(action)
        reward, done, weights = torch.FloatTensor(reward), torch.FloatTensor(done), torch.FloatTensor(weights)

        q_value = self.current_model(state).gather(1, action.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            next_q_value = self.target_model(next_state).max(1)[0]
            expected_q_value = reward + self.gamma * next_q_value * (1 - done)
        td_error = expected_q_value - q_value
        loss = (td_error.pow(2) * weights).mean()

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return td_error.detach().abs().numpy() + 1e-5

    def train(self, env, num_frames, batch_size=32):
        state, _ = env.reset()
        for _ in range(num_frames):
            self.frame += 1
            epsilon = self.epsilon_final + (self.epsilon_start - self.epsilon_final) * np.exp(
                -self.frame / self.epsilon_decay)
            action = self.current_model.act(state, epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.replay_buffer.push(state, action, reward, next_state, terminated)
            state = next_state
            if terminated or truncated:
                state, _ = env.reset()
            if len(self.replay_buffer) > 4 * batch_size:
                batch, indices, weights = self.replay_buffer.sample(batch_size, self.beta())
                self.replay_buffer.update_priorities(indices, self.compute_td_loss(batch, weights))
            if self.frame % 200 == 0:
                self.update_target()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.current_model.num_inputs

    def q_values(self, obs):
        return self.agent.current_model(torch.FloatTensor(np.asarray(obs))).detach().numpy()

    def target_q_values(self, obs):
        return self.agent.target_model(torch.FloatTensor(np.asarray(obs))).detach().numpy()

    def sync_target(self):
        self.agent.update_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.compute_td_loss((obs, action, reward, next_obs, np.asarray(terminated, np.float32)),
                                   np.ones(len(action), np.float32))

    def act(self, obs, epsilon):
        return self.agent.current_model.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.replay_buffer.push(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.replay_buffer.sample(n, self.agent.beta())[0]

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(PrioritizedDQN(4, 2))
