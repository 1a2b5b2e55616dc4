"""DQN agents of other libraries, with the same seeds, evaluations, start states and files as Perilune.

Used by ``perilune bench learning ENV --against NAME[,NAME]`` and ``perilune bench speed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from benchmarks.peers import cleanrl, sb3
from perilune._utils.text import suggestion
from perilune.agent.config import TrainConfig
from perilune.bench.learning import Peer
from perilune.errors import ConfigError


class Tuned(Peer, Protocol):
    """A peer with a budget of its own."""

    @property
    def n_timesteps(self) -> int:
        """Environment steps for which its authors chose the settings."""


GROUPS = {"cleanrl": tuple(cleanrl.SCRIPTS)}
NAMES = (*sb3.LIBRARIES, *GROUPS, *cleanrl.SCRIPTS)


def find(given: str, environment: str) -> dict[str, Tuned]:
    """Return the peers with the comma-separated names in ``given``.

    Args:
        given: names from ``NAMES``. "cleanrl" selects all scripts of CleanRL.
        environment: Gymnasium ID.

    Returns:
        The settings of each peer for the environment, by name.

    Raises:
        ConfigError: a name is unknown, or a peer has no settings for the environment.
        MissingDependencyError: a library is not installed.
    """
    found: dict[str, Tuned] = {}
    for word in given.split(","):
        name = word.strip()
        if name not in NAMES:
            raise ConfigError("against", given, f"names from {', '.join(NAMES)}. {suggestion(name, NAMES)}".rstrip())
        for one in GROUPS.get(name, (name,)):
            found[one] = sb3.settings(one, environment) if one in sb3.LIBRARIES else cleanrl.settings(one)
    return found


def budget(peer: Tuned, train: TrainConfig) -> TrainConfig:
    """Return ``train`` with the budget that ``peer`` is tuned for, and without settings that only Perilune supports."""
    return replace(
        train,
        steps=peer.n_timesteps,
        episodes=None,
        max_episode_steps=None,
        num_envs=1,
        envpool=False,
        stop_at_return=None,
        video_every=None,
    )


def title(name: str) -> str:
    """Return the name of a peer for tables."""
    return sb3.LIBRARIES[name].title if name in sb3.LIBRARIES else f"CleanRL {name.removeprefix('cleanrl-')}"


__all__: Sequence[str] = ("GROUPS", "NAMES", "Tuned", "budget", "find", "title")
