"""Mirror symmetries of environments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.validation import check_fields
from perilune.errors import ConfigError, ShapeError
from perilune.nn.backend import compiled


@dataclass(frozen=True)
class Symmetry:
    """A mirror symmetry of the observations and actions of an environment.

    mirrored obs[i] = observation_sign[i] obs[observation_index[i]], mirrored action = action_index[action].

    The symmetry means that P(next_obs | obs, action) and R(obs, action, next_obs) do not change if obs, action and
    next_obs are all mirrored. The optimal Q(obs, action) then does not change either. The agent can therefore learn
    from the mirror image of a transition, with the same reward and discount.

    Attributes:
        observation_index: a permutation of 0 .. O - 1.
        observation_sign: O numbers, each 1 or -1.
        action_index: a permutation of 0 .. A - 1.

    Raises:
        ConfigError: a field is invalid, or mirroring twice is not the identity.

    van der Pol et al., MDP Homomorphic Networks, arXiv:2006.16908.

    Example:
        >>> swap = Symmetry(observation_index=(0,), observation_sign=(-1,), action_index=(1, 0))
        >>> obs, action = np.ones((1, 1)), np.array([0])
        >>> swap.mirror(obs, action, obs.copy())
        >>> float(obs[0, 0]), int(action[0])
        (-1.0, 1)
    """

    observation_index: tuple[int, ...]
    observation_sign: tuple[float, ...]
    action_index: tuple[int, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("observation_index", "action_index"):
            index = getattr(self, name)
            if sorted(index) != list(range(len(index))):
                raise ConfigError(name, index, f"each number from 0 to {len(index) - 1} once")
            if any(index[image] != at for at, image in enumerate(index)):
                raise ConfigError(
                    name, index, "indices that stay or swap in pairs, because a mirror is its own inverse"
                )
        sign = self.observation_sign
        if len(sign) != len(self.observation_index) or not set(sign) <= {1, -1}:
            raise ConfigError("observation_sign", sign, f"{len(self.observation_index)} numbers, each 1 or -1")
        if any(sign[image] != sign[at] for at, image in enumerate(self.observation_index)):
            raise ConfigError(
                "observation_sign", sign, "equal signs for entries that swap, because a mirror is its own inverse"
            )

    @cached_property
    def _arrays(self) -> tuple[Array, Array, Array]:
        # With 8-bit signs, float32 observations stay float32.
        return np.array(self.observation_index), np.array(self.observation_sign, np.int8), np.array(self.action_index)

    def mirror(self, obs: Array, action: Array, next_obs: Array) -> None:
        """Mirror all rows in place.

        Args:
            obs: observations, float [B, O].
            action: actions, int [B].
            next_obs: next observations, float [B, O].

        Raises:
            ShapeError: an array has the wrong shape.
        """
        shape = (len(action), len(self.observation_index))
        if obs.shape != shape or next_obs.shape != shape or action.ndim != 1:
            raise ShapeError(
                f"mirror needs obs[B, {shape[1]}], action[B] and next_obs[B, {shape[1]}], got "
                f"{list(obs.shape)}, {list(action.shape)} and {list(next_obs.shape)}"
            )
        observation_index, sign, action_index = self._arrays
        if (fast := compiled()) is not None:
            fast.mirror(obs, next_obs, action, observation_index, sign, action_index, np.empty(shape[1], obs.dtype))
            return
        for array in (obs, next_obs):
            np.multiply(array.take(observation_index, axis=1), sign, out=array)
        action[:] = action_index.take(action)
