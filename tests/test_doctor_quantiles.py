"""Test the check of quantiles on QR-DQN and IQN agents in PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from doctor_agents import Array, examine, ids

torch = pytest.importorskip("torch")
COUNT, ACTIONS, HIDDEN = 20, 2, 32


class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Quantiles of the return for each action: fixed ones as in QR-DQN, or ones of given fractions as in IQN."""

    def __init__(self, implicit: bool, count: int = COUNT) -> None:
        super().__init__()
        self.count = 1 if implicit else count
        self.features = torch.nn.Sequential(torch.nn.Linear(4, HIDDEN), torch.nn.ReLU())
        self.embedding = torch.nn.Linear(16, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, ACTIONS * self.count)

    def forward(self, obs: Any, tau: Any) -> Any:
        """Return quantiles (B, N, A)."""
        features = self.features(obs)
        if self.count > 1:
            return self.head(features).view(len(obs), self.count, ACTIONS)
        waves = torch.cos(tau[..., None] * torch.pi * torch.arange(16))
        return self.head(features[:, None] * torch.relu(self.embedding(waves)))


class Quantiles:
    """QR-DQN or IQN, with the fractions on the axis of the predicted quantiles or, as a fault, on the other one."""

    gamma = 0.95
    observation_size = 4
    implicit = faulty = False

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.online = Network(self.implicit)
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=2e-3)

    def fractions(self, rows: int) -> Any:
        if self.implicit:
            return torch.rand(rows, COUNT)
        return ((torch.arange(COUNT) + 0.5) / COUNT).expand(rows, COUNT)

    def q_values(self, obs: Array, network: Any = None) -> Array:
        with torch.no_grad():
            quantiles = (network or self.online)(torch.as_tensor(obs), self.fractions(len(obs)))
        return np.asarray(quantiles.mean(dim=1))

    def target_q_values(self, obs: Array) -> Array:
        return self.q_values(obs, self.target)

    def loss(self, predicted: Any, target: Any, tau: Any) -> Any:
        error = target[:, None, :] - predicted[:, :, None]
        tau = tau[:, None, :] if self.faulty else tau[:, :, None]
        huber = torch.where(error.abs() < 1, error**2 / 2, error.abs() - 0.5)
        return ((tau - (error.detach() < 0).float()).abs() * huber).mean(dim=2).sum(dim=1).mean()

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        rows, tau = np.arange(len(obs)), self.fractions(len(obs))
        with torch.no_grad():
            following = self.target(torch.as_tensor(next_obs), self.fractions(len(obs)))
            following = following[rows, :, following.mean(dim=1).argmax(dim=1)]
            discount = self.gamma * torch.as_tensor(~terminated)[:, None]
            target = torch.as_tensor(reward)[:, None] + discount * following
        loss = self.loss(self.online(torch.as_tensor(obs), tau)[rows, :, action], target, tau)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def sync_target(self) -> None:
        self.target.load_state_dict(self.online.state_dict())


class Ensemble(Quantiles):
    """Heads that learn the same mean."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.online = Network(False, count=10)
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=2e-3)

    def loss(self, predicted: Any, target: Any, tau: Any) -> Any:
        return ((predicted - target) ** 2).mean()


@pytest.mark.parametrize("implicit", [False, True])
def test_fractions_on_the_wrong_axis_are_found(implicit: bool) -> None:
    assert ids(examine(type("Faulty", (Quantiles,), {"implicit": implicit, "faulty": True}))) == [
        "loss.quantiles_equal"
    ]


@pytest.mark.parametrize("implicit", [False, True])
def test_quantiles_that_spread_are_known_to_work(implicit: bool) -> None:
    report = examine(type("Sound", (Quantiles,), {"implicit": implicit}))
    assert report.findings == []
    assert "learns different quantiles of a random reward" in [passed.text for passed in report.passed]


def test_heads_of_an_ensemble_are_not_quantiles() -> None:
    assert ids(examine(Ensemble)) == []
