"""The interface between the doctor and an agent: the methods it calls and the batches it passes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from perilune._utils.arrays import Array


class Transitions(NamedTuple):
    """A batch: float32 obs (B, O) and next_obs (B, O), int64 action (B,), float32 reward (B,), bool terminated (B,)."""

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array

    def rows(self, index: Any) -> Transitions:
        """Return a copy of the transitions that ``index`` selects."""
        return Transitions(*(np.array(column[index]) for column in self))

    def repeat(self, times: int) -> Transitions:
        """Return a batch with each row repeated ``times`` times."""
        return Transitions(*(np.repeat(column, times, axis=0) for column in self))


@runtime_checkable
class AgentAdapter(Protocol):
    """The methods and attributes through which the doctor examines an agent. No base class is needed.

    Each of these members is optional and enables more checks:

    ``target_q_values(obs)``: Q-values of the target network, (N, A).
    ``sync_target()``: one hard or Polyak update of the target network.
    ``parameters()``, ``target_parameters()``: the trained arrays by name; the arrays themselves, not copies.
    ``gradients(obs, action, reward, next_obs, terminated)``: gradient of the loss, laid out like ``parameters()``.
    ``loss(obs, action, reward, next_obs, terminated)``: the loss as a number.
    ``act(obs, epsilon)``: an action (int) for one observation (O,).
    ``remember(obs, action, reward, next_obs, terminated, truncated)``: store one transition.
    ``sample(n)``: (obs, action, reward, next_obs, terminated) as arrays, drawn from the stored transitions.
    ``run(env, env_steps)``: your training loop on a Gymnasium environment.
    ``n_step``: an int, if rewards are n-step sums and the target discounts by gamma^n.
    """

    gamma: float
    observation_size: int

    def q_values(self, obs: Array) -> Array:
        """Return Q(obs, a) of the online network for every action: (N, A) for obs (N, O)."""

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Any:
        """Run your update once on this batch."""
