"""Derive independent random generators from one seed. Perilune never uses NumPy's global generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from perilune.errors import ConfigError

LARGEST_SEED = 2**63 - 1  # the largest number that config.json can hold


@dataclass(frozen=True)
class Generators:
    """One generator per role. Drawing from one never affects another."""

    network: np.random.Generator
    exploration: np.random.Generator
    replay: np.random.Generator
    environment: np.random.Generator


def generators(seed: int) -> Generators:
    """Return one generator per role, derived from ``seed``.

    The spawn keys of ``numpy.random.SeedSequence`` make the streams of different roles and seeds independent in
    practice.

    Raises:
        ConfigError: ``seed`` is not a whole number from 0 to 2^63 - 1.
    """
    children = np.random.SeedSequence(checked(seed)).spawn(4)
    return Generators(*(np.random.default_rng(child) for child in children))


def checked(seed: int) -> int:
    """Return ``seed`` as an int.

    Raises:
        ConfigError: ``seed`` is not a whole number from 0 to 2^63 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise ConfigError("seed", seed, f"a whole number from 0 to {LARGEST_SEED}")
    return int(seed)


TRAINING_SEEDS = 2**30


def episode_seed(generator: np.random.Generator) -> int:
    """Return the seed of the next training episode, below ``TRAINING_SEEDS``. Evaluations use larger seeds."""
    return int(generator.integers(TRAINING_SEEDS))


Hex128 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class GeneratorState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of a NumPy PCG64 generator. Its two 128-bit numbers are stored as hexadecimal digits."""

    state: Hex128
    inc: Hex128
    has_uint32: Annotated[int, Meta(ge=0, le=1)]
    uinteger: Annotated[int, Meta(ge=0, le=2**32 - 1)]

    def __post_init__(self) -> None:
        if int(self.inc, 16) % 2 == 0:
            raise ConfigError("inc", self.inc, "an odd number")


def generator_state(generator: np.random.Generator) -> GeneratorState:
    """Return the state of ``generator``."""
    found = generator.bit_generator.state
    return GeneratorState(
        **{name: f"{found['state'][name]:032x}" for name in ("state", "inc")},
        has_uint32=found["has_uint32"],
        uinteger=found["uinteger"],
    )


def set_generator_state(generator: np.random.Generator, state: GeneratorState) -> None:
    """Set the state of ``generator``."""
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(state.state, 16), "inc": int(state.inc, 16)},
        "has_uint32": state.has_uint32,
        "uinteger": state.uinteger,
    }
