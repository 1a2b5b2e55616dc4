"""``KnownEnv``: what Perilune knows about an environment that Gymnasium does not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gymnasium as gym

from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.errors import ConfigError
from perilune.replay.symmetry import Symmetry


class Outcomes(NamedTuple):
    """How an environment's episodes can end, in words: a mean return does not show what an agent does.

    Attributes:
        labels: every outcome that there is; the first one is the best.
        label: takes the last obs[O], the last reward and whether the episode terminated (if not, it was truncated by
            a time limit); returns one of the labels.
        unfinished: the label of episodes in which the task was not finished in time, "" if there is none.
    """

    labels: tuple[str, ...]
    label: Callable[[Array, float, bool], str]
    unfinished: str = ""


GOAL = Outcomes(
    ("reached the goal", "ran out of time"),
    lambda obs, reward, terminated: "reached the goal" if terminated else "ran out of time",
    unfinished="ran out of time",
)


class Controls(NamedTuple):
    """The keys of ``perilune play``.

    Attributes:
        keys: the action of each key ("left", "a", "0", ...).
        idle: the actions, taken in turn, while no key is held. If empty, the game waits for a key, and each key press
            is one step.
    """

    keys: Mapping[str, int]
    idle: tuple[int, ...] = ()

    @classmethod
    def arrows(cls, left: int, right: int, down: int | None = None, up: int | None = None, **more: Any) -> Controls:
        """Return controls by arrow keys and WASD; ``more`` are further keys, and ``idle``."""
        idle = more.pop("idle", ())
        actions = {"left": left, "a": left, "right": right, "d": right, "down": down, "s": down, "up": up, "w": up}
        return cls({key: action for key, action in actions.items() if action is not None} | more, idle)


@dataclass(frozen=True)
class Preset:
    """Settings of an agent and of its training."""

    agent: DQNConfig
    train: TrainConfig


RECIPE = DQNConfig(
    head="qr",
    batch_size=64,
    learning_rate=1e-3,
    learning_rate_schedule="linear",
    learning_rate_end=5e-5,
    ema_decay=0.9995,
    max_action_repeat=20,
    optimism=0.5,
    epsilon_end=0.03,
)
"""Base of all tuned presets. The documentation measures each part (Benchmarks) and explains the choice (Tuning)."""


def tuned(steps: int, train: Mapping[str, Any] | None = None, **settings: Any) -> Preset:
    """Return RECIPE for a budget of ``steps`` environment steps, with ``settings`` instead of its own.

    The learning rate falls over the whole budget, and the replay buffer holds every transition.

    Args:
        steps: the budget.
        train: settings of TrainConfig other than ``steps``.
        settings: settings of DQNConfig.
    """
    agent = replace(RECIPE, learning_rate_decay_steps=steps, buffer_size=steps, **settings)
    return Preset(agent, TrainConfig(steps=steps, **(train or {})))


@dataclass(frozen=True, kw_only=True)
class KnownEnv:
    """What Perilune knows about one environment. Every field may be missing.

    Attributes:
        env_id: Gymnasium's id.
        observations: a name for each entry of obs[O].
        actions: a name for each action.
        map_axes: the two entries of obs that describe a state best, to draw maps over.
        outcomes: how episodes can end.
        symmetry: the mirror symmetry for the setting ``mirror``.
        controls: the keys of ``perilune play``.
        preset: tuned settings.
    """

    env_id: str = ""
    observations: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    map_axes: tuple[int, int] = (0, 1)
    outcomes: Outcomes | None = None
    symmetry: Symmetry | None = None
    controls: Controls | None = None
    preset: Preset | None = None

    def __post_init__(self) -> None:
        if self.outcomes is None:
            return
        labels, unfinished = self.outcomes.labels, self.outcomes.unfinished
        if not labels or len(set(labels)) < len(labels):
            raise ConfigError("outcomes.labels", labels, "one or more labels, each of them once")
        if unfinished and unfinished not in labels:
            raise ConfigError("outcomes.unfinished", unfinished, f"one of {', '.join(labels)}, or ''")

    def check(self, env: gym.Env[Any, Any]) -> None:
        """Check the names against the spaces of ``env``, without its wrappers.

        Raises:
            ConfigError: there are more or fewer names than observation entries or actions.
        """
        obs, action = env.unwrapped.observation_space, env.unwrapped.action_space
        sizes = {"observations": gym.spaces.flatdim(obs), "actions": getattr(action, "n", 0)}
        for field, size in sizes.items():
            names = getattr(self, field)
            if names and len(names) != size:
                raise ConfigError(field, names, f"{size} names, as {self.env_id} has {size} {field}; got {len(names)}")

    def outcome(self, obs: Array, reward: float, terminated: bool) -> str | None:
        """Return how an episode ended, given its last obs[O], its last reward and whether it terminated.

        Returns:
            One of the labels; None if the environment defines no outcomes.

        Raises:
            ConfigError: the outcome is none of the labels.
        """
        if self.outcomes is None:
            return None
        found = self.outcomes.label(obs, reward, terminated)
        if found not in self.outcomes.labels:
            raise ConfigError("outcomes.label", found, f"one of {', '.join(self.outcomes.labels)}")
        return found

    @property
    def outcome_labels(self) -> tuple[str, ...]:
        """Every outcome that an episode can have, () if the outcomes have no names."""
        return () if self.outcomes is None else self.outcomes.labels

    def observation_names(self, size: int) -> tuple[str, ...]:
        """Return a name for each of the ``size`` entries of obs; ``obs[i]`` unless ``size`` names are known."""
        return self.observations if len(self.observations) == size else tuple(f"obs[{i}]" for i in range(size))

    def action_names(self, count: int) -> tuple[str, ...]:
        """Return a name for each of ``count`` actions; ``action i`` unless ``count`` names are known."""
        return self.actions if len(self.actions) == count else tuple(f"action {i}" for i in range(count))

    def observation_index(self, size: int, wanted: str | int, option: str = "observation") -> int:
        """Return the index in obs of an entry that is given by name or number.

        Args:
            size: O.
            wanted: a name or an index.
            option: the setting that ``wanted`` comes from, for the error.

        Raises:
            ConfigError: there is no such entry.
        """
        names = self.observation_names(size)
        if wanted in names:
            return names.index(str(wanted))
        if str(wanted).isdecimal() and int(wanted) < size:
            return int(wanted)
        raise ConfigError(option, wanted, "one of " + ", ".join(f"{i} ({name})" for i, name in enumerate(names)))
