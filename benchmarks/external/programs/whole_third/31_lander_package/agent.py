import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from memory import ReplayMemory


class QNetwork(nn.Module):
    def __init__(self, n_inputs, n_actions):
        super().__init__()
        self.fc1 = nn.Linear(n_inputs, 256)
        self.norm = nn.LayerNorm(256)
        self.fc2 = nn.Linear(256, 128)
        self.head = nn.Linear(128, n_actions)

    def forward(self, x):
        x = F.relu(self.norm(self.fc1(x)))
        x = F.relu(self.fc2(x))
        return self.head(x)


class DQNAgent:
    def __init__(self, obs_shape, n_actions, config):
        self.config = config
        self.n_actions = n_actions
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.online = QNetwork(obs_shape[0], n_actions).to(self.device)
        self.target = QNetwork(obs_shape[0], n_actions).to(self.device)
        self.target.load_state_dict(self.online.state_dict())
        self.target.eval()
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=config["lr"])
        self.memory = ReplayMemory(config["memory"], obs_shape, config["n_steps"], config["gamma"])
        self.epsilon = config["eps_start"]
        self.frames = 0

    def act(self, state, explore=True):
        if explore and np.random.random() < self.epsilon:
            return np.random.randint(self.n_actions)
        state = torch.as_tensor(state, dtype=torch.float32, device=self.device).unsqueeze(0)
        with torch.no_grad():
            return self.online(state).argmax(dim=1).item()

    def remember(self, *transition):
        self.memory.append(*transition)
        self.frames += 1

    def replay(self):
        cfg = self.config
        if len(self.memory) < cfg["learn_start"] or self.frames % cfg["train_freq"]:
            return None
        states, actions, returns, next_states, terminals = self.memory.sample(cfg["batch_size"], self.device)

        with torch.no_grad():
            next_actions = self.online(next_states).argmax(dim=1, keepdim=True)
            next_q = self.target(next_states).gather(1, next_actions).squeeze(1)
            targets = returns + cfg["gamma"] * next_q * (1.0 - terminals)

        q = self.online(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(q, targets)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), cfg["max_norm"])
        self.optimizer.step()
        return loss.item()

    def maybe_sync(self):
        if self.frames % self.config["target_freq"] == 0:
            self.target.load_state_dict(self.online.state_dict())

    def decay_epsilon(self):
        self.epsilon = max(self.config["eps_end"], self.epsilon * self.config["eps_decay"])

    def save(self, path):
        torch.save({"online": self.online.state_dict(), "optimizer": self.optimizer.state_dict()}, path)
