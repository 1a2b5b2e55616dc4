"""Test findings that only PyTorch agents can have."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from doctor_agents import Array, examine

torch = pytest.importorskip("torch")


class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, container: Any) -> None:
        super().__init__()
        self.hidden = container([torch.nn.Linear(4, 32), torch.nn.Linear(32, 32)])
        self.head = torch.nn.Linear(32, 2)

    def forward(self, obs: Any) -> Any:
        for layer in self.hidden:
            obs = torch.relu(layer(obs))
        return self.head(obs)


class Agent:
    gamma = 0.95
    observation_size = 4
    container: Any = torch.nn.ModuleList

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.online = Network(self.container)
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=1e-3)

    def q_values(self, obs: Array) -> Any:
        return self.online(torch.as_tensor(obs))

    def target_q_values(self, obs: Array) -> Any:
        return self.target(torch.as_tensor(obs))

    def sync_target(self) -> None:
        self.target.load_state_dict(self.online.state_dict())

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        with torch.no_grad():
            following = self.target(torch.as_tensor(next_obs)).max(dim=1).values
            target = torch.as_tensor(reward) + self.gamma * torch.as_tensor(~terminated) * following
        predicted = self.online(torch.as_tensor(obs))[np.arange(len(obs)), action]
        self.optimizer.zero_grad()
        torch.nn.functional.mse_loss(predicted, target).backward()
        self.optimizer.step()


@pytest.mark.parametrize("container", [list, tuple])
def test_layers_in_a_plain_list_are_found(container: type) -> None:
    report = examine(type("Unregistered", (Agent,), {"container": container}))
    assert [one.id for one in report.roots] == ["forward.not_registered"]


def test_layers_in_a_module_list_are_sound() -> None:
    assert examine(Agent).faults == []
