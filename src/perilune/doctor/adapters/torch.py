"""Adapter for PyTorch modules, and a base class for adapters of PyTorch agents.

This module does not import PyTorch. Your agent's code imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from perilune._utils.arrays import Array


class TorchNetworks:
    """Methods of adapters whose online network ``net`` and target network ``target_net`` are PyTorch modules."""

    net: Any
    target_net: Any

    def tensor(self, array: Array) -> Any:
        """Return ``array`` as a tensor of the network's dtype and device, sharing the array's memory if possible.

        The doctor can then notice that a network modifies its input.
        """
        like = next(iter(self.net.parameters()))
        return sys.modules["torch"].as_tensor(np.asarray(array, np.float32), dtype=like.dtype, device=like.device)

    def q_values(self, obs: Array) -> Any:
        """Return Q-values of the online network, (N, A), for observations (N, O)."""
        return self.net(self.tensor(obs))

    def target_q_values(self, obs: Array) -> Any:
        """Return Q-values of the target network, (N, A), for observations (N, O)."""
        return self.target_net(self.tensor(obs))

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the online network by name."""
        return dict(self.net.named_parameters())

    def target_parameters(self) -> dict[str, Any]:
        """Return the parameters of the target network by name."""
        return dict(self.target_net.named_parameters())


class TorchAdapter(TorchNetworks):
    """Adapter for a PyTorch module with an optimizer and a loss.

    Args:
        module: Maps float32 observations (N, O) to Q-values (N, A).
        optimizer: PyTorch optimizer of the module's parameters.
        loss: ``loss(obs, action, reward, next_obs, terminated)`` takes tensors and returns a scalar tensor.
        observation_size: Number of entries of an observation, O.
        gamma: Discount, from 0 to 1.
        target: The target network, a PyTorch module, or None if there is none.
    """

    def __init__(
        self,
        module: Any,
        optimizer: Any,
        loss: Callable[..., Any],
        *,
        observation_size: int,
        gamma: float,
        target: Any = None,
    ) -> None:
        self.net, self.optimizer, self.target_net = module, optimizer, target
        self._loss = loss
        self.observation_size, self.gamma = observation_size, gamma
        if target is None:
            self.target_q_values = self.target_parameters = None  # type: ignore[assignment, method-assign]

    def _loss_tensor(self, obs: Array, action: Array, *others: Array) -> Any:
        return self._loss(self.tensor(obs), self.tensor(action).long(), *(self.tensor(column) for column in others))

    def gradients(self, *batch: Array) -> dict[str, Any]:
        """Return the gradient of the loss for each parameter, by name.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter``.
        """
        self.optimizer.zero_grad()
        self._loss_tensor(*batch).backward()
        return {name: parameter.grad for name, parameter in self.net.named_parameters()}

    def train_batch(self, *batch: Array) -> None:
        """Run one optimizer step.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter``.
        """
        self.gradients(*batch)
        self.optimizer.step()

    def loss(self, *batch: Array) -> float:
        """Return the loss.

        Args:
            *batch: obs, action, reward, next_obs and terminated, as in ``AgentAdapter``.
        """
        return float(self._loss_tensor(*batch))
