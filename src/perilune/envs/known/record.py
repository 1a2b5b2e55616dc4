"""``KnownEnv``: what Perilune knows about an environment beyond its Gymnasium spaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.spaces import flatdim

from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.errors import ConfigError
from perilune.replay.symmetry import Symmetry


class Outcomes(NamedTuple):
    """How the episodes of an environment can end.

    Attributes:
        labels: all outcomes, the best one first.
        label: function of the last obs[O], the last reward and whether the episode terminated (False after a time
            limit). Returns one of ``labels``.
        unfinished: the label of episodes that ran out of time, or "".
    """

    labels: tuple[str, ...]
    label: Callable[[Array, float, bool], str]
    unfinished: str = ""


class Scene(NamedTuple):
    """What maps draw if their axes are ``map_axes``, a horizontal position and a height.

    Attributes:
        terrain: height of the terrain at the pad. The height of the agent is that of its center.
        pad: horizontal positions of the two ends of the pad.
    """

    terrain: float
    pad: tuple[float, float]


GOAL = Outcomes(
    ("reached the goal", "ran out of time"),
    lambda obs, reward, terminated: "reached the goal" if terminated else "ran out of time",
    unfinished="ran out of time",
)


class Controls(NamedTuple):
    """The keys of ``perilune play``.

    Attributes:
        keys: action of each key ("left", "a", "0", ...).
        idle: actions to take in turn while no key is pressed. If empty, the game waits for a key, and each key press
            is one time step.
    """

    keys: Mapping[str, int]
    idle: tuple[int, ...] = ()

    @classmethod
    def arrows(cls, left: int, right: int, down: int | None = None, up: int | None = None, **more: Any) -> Controls:
        """Return controls for the arrow keys and WASD.

        Args:
            left: action of the left arrow and A.
            right: action of the right arrow and D.
            down: action of the down arrow and S, if any.
            up: action of the up arrow and W, if any.
            more: actions of other keys, and ``idle``.
        """
        idle = more.pop("idle", ())
        actions = {"left": left, "a": left, "right": right, "d": right, "down": down, "s": down, "up": up, "w": up}
        return cls({key: action for key, action in actions.items() if action is not None} | more, idle)


@dataclass(frozen=True)
class Preset:
    """Settings of an agent and of its training.

    Attributes:
        agent: settings of the agent.
        train: training settings.
    """

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
"""Base of the recommended presets. Benchmarks shows the effect of each part, and Tuning how it was chosen."""

PQN = DQNConfig(
    td_lambda=0.95,
    epochs=3,
    buffer_size=2_048,
    batch_size=128,
    output_scale=10.0,
    huber_delta=10.0,
    max_grad_norm=None,
    learning_rate=2e-3,
    learning_rate_schedule="linear",
    learning_rate_end=1e-5,
    ema_decay=0.998,
    epsilon_end=0.02,
)
"""Base of the fast presets: many environments step together, and the agent learns from each step three times."""


def tuned(steps: int, train: Mapping[str, Any] | None = None, **settings: Any) -> Preset:
    """Return the recipe for a budget, with some settings replaced.

    The learning rate falls over the whole budget, and the replay buffer holds every transition.

    Args:
        steps: the budget in environment steps.
        train: settings of TrainConfig other than ``steps``.
        settings: settings of DQNConfig that replace those of ``RECIPE``.
    """
    agent = replace(RECIPE, learning_rate_decay_steps=steps, buffer_size=steps, **settings)
    return Preset(agent, TrainConfig(steps=steps, **(train or {})))


def fast_replay(steps: int, **settings: Any) -> Preset:
    """Return settings for a budget that need little CPU time: the recipe with few updates and expected returns.

    Args:
        steps: the budget in environment steps.
        settings: settings of DQNConfig that replace the others.
    """
    few: dict[str, Any] = {"batch_size": 128, "train_freq": 8, "learning_rate": 2e-3}
    expected: dict[str, Any] = {"head": "expected", "optimism": 0.0, "huber_delta": 10.0}
    return tuned(steps, {"num_envs": 8}, **few | expected | settings)


def fast_rollout(steps: int, **settings: Any) -> Preset:
    """Return the settings of parallelized Q-learning for a budget, with some of them replaced.

    The learning rate falls over the whole budget.

    Args:
        steps: the budget in environment steps.
        settings: settings of DQNConfig that replace those of ``PQN``.
    """
    agent = replace(PQN, learning_rate_decay_steps=steps, **settings)
    return Preset(agent, TrainConfig(steps=steps, num_envs=32))


@dataclass(frozen=True, kw_only=True)
class KnownEnv:
    """What Perilune knows about one environment. Every field but ``env_id`` is optional.

    Attributes:
        env_id: Gymnasium ID.
        observations: a name for each entry of obs[O].
        actions: a name for each action.
        map_axes: indices of the two entries of obs on the axes of maps.
        scene: what maps over ``map_axes`` draw.
        outcomes: how episodes can end.
        symmetry: the mirror symmetry for the setting ``mirror``.
        controls: the keys of ``perilune play``.
        preset: the recommended settings: a reliable and high final return.
        fast: settings that solve the environment in the least CPU time.

    Raises:
        ConfigError: the labels of the outcomes are missing or repeated, or do not include ``unfinished``.
    """

    env_id: str = ""
    observations: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    map_axes: tuple[int, int] = (0, 1)
    scene: Scene | None = None
    outcomes: Outcomes | None = None
    symmetry: Symmetry | None = None
    controls: Controls | None = None
    preset: Preset | None = None
    fast: Preset | None = None

    def __post_init__(self) -> None:
        if self.outcomes is None:
            return
        labels, unfinished = self.outcomes.labels, self.outcomes.unfinished
        if not labels or len(set(labels)) < len(labels):
            raise ConfigError("outcomes.labels", labels, "one or more labels without duplicates")
        if unfinished and unfinished not in labels:
            raise ConfigError("outcomes.unfinished", unfinished, f"one of {', '.join(labels)}, or ''")

    def check(self, env: gym.Env[Any, Any]) -> None:
        """Check the names against the spaces of an environment.

        Args:
            env: the environment.

        Raises:
            ConfigError: the number of names differs from the number of observation entries or actions.
        """
        inner = env.unwrapped  # a wrapper may change the spaces
        spaces = {
            "observations": (env.observation_space, inner.observation_space),
            "actions": (env.action_space, inner.action_space),
        }
        for field, pair in spaces.items():
            names = getattr(self, field)
            sizes = [flatdim(space) for space in pair if names and space.is_np_flattenable]
            if names and len(names) not in sizes:
                raise ConfigError(
                    field, names, f"{sizes[0]} names, as {self.env_id} has {sizes[0]} {field}; got {len(names)}"
                )

    def outcome(self, obs: Array, reward: float, terminated: bool) -> str | None:
        """Return how an episode ended, or None if the environment defines no outcomes.

        Args:
            obs: the last observation, float [O].
            reward: the last reward.
            terminated: whether the episode terminated.

        Raises:
            ConfigError: the result is not one of the labels.
        """
        if self.outcomes is None:
            return None
        found = self.outcomes.label(obs, reward, terminated)
        if found not in self.outcomes.labels:
            raise ConfigError("outcomes.label", found, f"one of {', '.join(self.outcomes.labels)}")
        return found

    @property
    def outcome_labels(self) -> tuple[str, ...]:
        """All outcomes of the environment, () if it defines none."""
        return () if self.outcomes is None else self.outcomes.labels

    def observation_names(self, size: int) -> tuple[str, ...]:
        """Return a name for each entry of obs: the known names if there are ``size`` of them, else obs[0], obs[1], ...

        Args:
            size: O, the size of an observation.
        """
        return self.observations if len(self.observations) == size else tuple(f"obs[{i}]" for i in range(size))

    def action_names(self, count: int) -> tuple[str, ...]:
        """Return a name for each action: the known names if there are ``count`` of them, else action 0, action 1, ...

        Args:
            count: A, the number of actions.
        """
        return self.actions if len(self.actions) == count else tuple(f"action {i}" for i in range(count))

    def observation_index(self, size: int, wanted: str | int, option: str = "observation") -> int:
        """Return the index of an entry of obs.

        Args:
            size: O, the size of an observation.
            wanted: name or index of the entry.
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
