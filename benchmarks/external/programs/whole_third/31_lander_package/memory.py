from collections import deque

import numpy as np
import torch


class ReplayMemory:
    """Ring buffer that also builds the n-step returns."""

    def __init__(self, capacity, shape, n_steps, gamma, state_dtype=np.int16):
        self.capacity = capacity
        self.states = np.zeros((capacity, *shape), dtype=state_dtype)
        self.next_states = np.zeros((capacity, *shape), dtype=state_dtype)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.returns = np.zeros(capacity, dtype=np.float32)
        self.terminals = np.zeros(capacity, dtype=np.float32)
        self.n_steps = n_steps
        self.gamma = gamma
        self.recent = deque(maxlen=n_steps)
        self.index = 0
        self.size = 0

    def append(self, state, action, reward, next_state, terminated):
        self.recent.append((state, action, reward))
        if terminated:
            while self.recent:
                self._write(next_state, True)
                self.recent.popleft()
        elif len(self.recent) == self.n_steps:
            self._write(next_state, False)

    def cut(self):
        """Forget the unfinished part when an episode is stopped from outside."""
        self.recent.clear()

    def _write(self, last_state, terminated):
        state, action, _ = self.recent[0]
        i = self.index
        self.states[i] = state
        self.actions[i] = action
        self.returns[i] = sum(self.gamma ** k * r for k, (_, _, r) in enumerate(self.recent))
        self.next_states[i] = last_state
        self.terminals[i] = terminated
        self.index = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size, device):
        idx = np.random.choice(self.size, batch_size, replace=False)
        return (
            torch.tensor(self.states[idx], dtype=torch.float32, device=device),
            torch.tensor(self.actions[idx], device=device),
            torch.tensor(self.returns[idx], device=device),
            torch.tensor(self.next_states[idx], dtype=torch.float32, device=device),
            torch.tensor(self.terminals[idx], device=device),
        )

    def __len__(self):
        return self.size
