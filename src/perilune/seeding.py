"""One seed fans out into named, independent generators. Nothing here or elsewhere touches NumPy's global one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perilune.errors import ConfigError


@dataclass(frozen=True)
class Generators:
    """One independent generator per role, so that drawing more in one never changes another."""

    network: np.random.Generator
    exploration: np.random.Generator
    replay: np.random.Generator
    environment: np.random.Generator


def generators(seed: int) -> Generators:
    """Fan one seed out into a generator per role.

    Uses the spawn keys of ``numpy.random.SeedSequence``: streams of different roles and of different seeds are
    independent for every purpose here.

    Raises:
        ConfigError: ``seed`` is not a whole number >= 0.
    """
    children = np.random.SeedSequence(checked(seed)).spawn(4)
    return Generators(*(np.random.default_rng(child) for child in children))


def checked(seed: int) -> int:
    """``seed``, if it is one.

    Raises:
        ConfigError: it is not a whole number >= 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ConfigError("seed", seed, "a whole number >= 0")
    return int(seed)


TRAINING_SEEDS = 2**30


def episode_seed(generator: np.random.Generator) -> int:
    """Seed of a training's next episode, below ``TRAINING_SEEDS``: those from there on are for evaluations."""
    return int(generator.integers(TRAINING_SEEDS))
