"""What the doctor asks of an agent, and the batch in which it asks."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from perilune._utils.arrays import Array


class Transitions(NamedTuple):
    """obs[B, O] and next_obs[B, O] in float32, action[B] in int64, reward[B] in float32, terminated[B] as bool."""

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array

    def rows(self, index: Any) -> Transitions:
        """The transitions that ``index`` picks, copied."""
        return Transitions(*(np.array(column[index]) for column in self))


@runtime_checkable
class Patient(Protocol):
    """An agent as the doctor sees it: any object with these. Nothing needs to inherit from it.

    Each of these methods may be there too, and unlocks more checks:

    ``target_q_values(obs)``: Q of the target network, [N, A].
    ``sync_target()``: one synchronisation of the target network, hard or Polyak.
    ``parameters()``, ``target_parameters()``: the arrays that are learned, by name, live: not copies.
    ``gradients(obs, action, reward, next_obs, terminated)``: the gradient of the loss, laid out like ``parameters()``.
    ``loss(obs, action, reward, next_obs, terminated)``: the loss, a number.
    ``act(obs, epsilon)``: an action (int) for one obs[O].
    ``remember(obs, action, reward, next_obs, terminated, truncated)``: store one transition.
    ``sample(n)``: (obs, action, reward, next_obs, terminated) as arrays, drawn from what was remembered.
    ``run(env, env_steps)``: the owner's own training loop on a Gymnasium environment.
    ``n_step``: an int, where rewards are sums over n steps and the target discounts by gamma^n.
    """

    gamma: float
    observation_size: int

    def q_values(self, obs: Array) -> Array:
        """Q(obs, a) for every action: [N, A] for obs[N, O]."""

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Any:
        """One call of the owner's own update on these transitions."""


OPTIONAL = (
    "target_q_values",
    "sync_target",
    "parameters",
    "target_parameters",
    "gradients",
    "loss",
    "act",
    "remember",
    "sample",
    "run",
)
