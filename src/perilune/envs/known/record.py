"""What the numbers of well-known environments are called, for people."""

from __future__ import annotations

from perilune.errors import ConfigError

READINGS = {
    "LunarLander-v3": (
        *("x", "y", "x velocity", "y velocity", "angle", "angular velocity", "left leg down", "right leg down"),
    ),
    "CartPole-v1": ("position", "velocity", "angle", "angular velocity"),
    "Acrobot-v1": ("cos angle 1", "sin angle 1", "cos angle 2", "sin angle 2", "velocity 1", "velocity 2"),
    "MountainCar-v0": ("position", "velocity"),
}
ACTIONS = {
    "LunarLander-v3": ("nothing", "left engine", "main engine", "right engine"),
    "CartPole-v1": ("push left", "push right"),
    "Acrobot-v1": ("torque -1", "no torque", "torque +1"),
    "MountainCar-v0": ("push left", "nothing", "push right"),
    "FrozenLake-v1": ("left", "down", "right", "up"),
    "CliffWalking-v1": ("up", "right", "down", "left"),
    "Taxi-v4": ("south", "north", "east", "west", "pick up", "drop off"),
    "Blackjack-v1": ("stick", "hit"),
}
# The two readings that tell most of a state, to draw maps over; the first two where it is not said.
PAIRS = {"CartPole-v1": (2, 3), "Acrobot-v1": (4, 5)}


def readings(environment: str, observation_size: int) -> tuple[str, ...]:
    """A name for every entry of obs[O]."""
    known = READINGS.get(environment, ())
    return known if len(known) == observation_size else tuple(f"obs[{index}]" for index in range(observation_size))


def actions(environment: str, count: int) -> tuple[str, ...]:
    """A name for every action."""
    known = ACTIONS.get(environment, ())
    return known if len(known) == count else tuple(f"action {index}" for index in range(count))


def reading(environment: str, observation_size: int, wanted: str | int, option: str = "reading") -> int:
    """The place in obs[O] of a reading that is called by its name or by its number, as ``option`` of whoever asks.

    Raises:
        ConfigError: there is no such reading.
    """
    known = readings(environment, observation_size)
    if wanted in known:
        return known.index(str(wanted))
    if str(wanted).isdecimal() and int(wanted) < observation_size:
        return int(wanted)
    listed = ", ".join(f"{index} ({name})" for index, name in enumerate(known))
    raise ConfigError(option, wanted, f"one of {listed}")
