"""Symmetries: if left and right can be swapped in an environment, the mirror image of a transition is one, too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.validation import check_fields
from perilune.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Symmetry:
    """A mirror symmetry of an environment's observations and actions.

    mirrored obs[i] = observation_sign[i] obs[observation_index[i]], mirrored action = action_index[action].

    It states that P(next_obs | obs, action) and R(obs, action, next_obs) do not change if obs, action and next_obs are
    all mirrored. Then the optimal Q(obs, action) does not change either, and the agent may learn from the mirror image
    of a transition, over one step or n, with the same reward and discount.

    Args:
        observation_index: [O], a permutation of 0 to O - 1.
        observation_sign: [O], each 1 or -1.
        action_index: [A], a permutation of 0 to A - 1.

    Raises:
        ConfigError: an argument is not that, or mirroring twice is not the identity.

    van der Pol et al., MDP Homomorphic Networks, arXiv:2006.16908.
    """

    observation_index: tuple[int, ...]
    observation_sign: tuple[float, ...]
    action_index: tuple[int, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("observation_index", "action_index"):
            index = getattr(self, name)
            if sorted(index) != list(range(len(index))):
                raise ConfigError(name, index, f"every number from 0 to {len(index) - 1} once")
            if any(index[image] != at for at, image in enumerate(index)):
                raise ConfigError(name, index, "numbers that swap places in pairs or stay: a mirror is its own inverse")
        sign = self.observation_sign
        if len(sign) != len(self.observation_index) or not set(sign) <= {1, -1}:
            raise ConfigError("observation_sign", sign, f"{len(self.observation_index)} numbers, each 1 or -1")
        if any(sign[image] != sign[at] for at, image in enumerate(self.observation_index)):
            raise ConfigError(
                "observation_sign", sign, "the same for two entries that swap places: a mirror is its own inverse"
            )

    @cached_property
    def _arrays(self) -> tuple[Array, Array, Array]:
        # Signs of 8 bits leave every observation its dtype: float32 stays float32.
        return np.array(self.observation_index), np.array(self.observation_sign, np.int8), np.array(self.action_index)

    def mirror(self, obs: Array, action: Array, next_obs: Array) -> None:
        """Mirror all rows of obs[B, O], action[B] and next_obs[B, O] in place.

        Raises:
            ShapeError: an array has another shape.
        """
        shape = (len(action), len(self.observation_index))
        if obs.shape != shape or next_obs.shape != shape or action.ndim != 1:
            raise ShapeError(
                f"mirror needs obs[B, {shape[1]}], action[B] and next_obs[B, {shape[1]}], got "
                f"{list(obs.shape)}, {list(action.shape)} and {list(next_obs.shape)}"
            )
        observation_index, sign, action_index = self._arrays
        for array in (obs, next_obs):
            np.multiply(array.take(observation_index, axis=1), sign, out=array)
        action[:] = action_index.take(action)
